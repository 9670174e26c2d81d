//! Configuration files and their keys.
//!
//! Two files exist: `joblet-config.yml` of the daemon ([`daemon`]) and `rnx-config.yml` of the client
//! ([`client`]). Each is found by a fixed search order ([`search`]), read once, and becomes a typed struct in
//! which every key has a value: what the file leaves out has the default written beside the field, and the
//! values are in range, so that no other room checks them again. The struct is also the list of known keys:
//! [`check`] compares the file with the serialised default, so that a key cannot be read without being known
//! or known without being read. Keys that nothing reads are reported, never ignored in silence.
//! [`alias`] is the one table of old key names.
//!
//! Both files hold private keys. Errors and printed configurations never show one, and the daemon refuses a
//! file that others can read. Nothing here needs Linux in what the client uses.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

mod alias;
pub mod check;
pub mod client;
pub mod daemon;
pub mod edit_distance;
pub mod permissions;
pub mod search;
mod values;

/// A configuration with where it came from.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The values, defaults filled in.
    pub config: T,
    /// The file, absolute.
    pub path: PathBuf,
    /// Sentences for the person who wrote it: unknown keys, keys without effect, loose permissions.
    pub warnings: Vec<String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// None of the places of the search order has a file.
    #[error(
        "no configuration file found (looked for {searched}); make one with: joblet setup --dir DIR, or name \
         one with --config"
    )]
    FindDaemonConfig {
        /// The places, separated by commas.
        searched: String,
    },
    /// The same for the client.
    #[error(
        "client configuration file not found. Please create rnx-config.yml or specify path with --config"
    )]
    FindClientConfig,
    /// The file that was named does not exist.
    #[error("client configuration file not found: {}", path.display())]
    FindNamedClientConfig {
        /// The name that was given.
        path: PathBuf,
    },
    /// The same, but a place could not be looked at.
    #[error("cannot read client configuration {}: permission denied", path.display())]
    ReachClientConfig {
        /// The first of these places.
        path: PathBuf,
    },
    /// The same for the daemon.
    #[error("cannot read configuration {}: permission denied", path.display())]
    ReachDaemonConfig {
        /// The first of these places.
        path: PathBuf,
    },
    /// The file is there but cannot be read.
    #[error("cannot read configuration {}: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// Not YAML, or a value of the wrong type or range.
    #[error("configuration {}: {why}", path.display())]
    Parse {
        /// Path of the file.
        path: PathBuf,
        /// The key, the rule and where.
        why: String,
    },
    /// A variable of the environment that overrides a key has a wrong value.
    #[error("environment variable {name}: {why}")]
    Override {
        /// Name of the variable.
        name: &'static str,
        /// The rule that the value breaks.
        why: String,
    },
    /// A file that stands for a text of the configuration cannot be read.
    #[error("cannot read security.{key} from {}: {source}", path.display())]
    ReadPem {
        /// The key below `security`.
        key: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// Others can read the private key in it, or put something else in its place.
    #[error("{} {what}, but {why}; run: {remedy}", path.display())]
    Exposed {
        /// Path of the file.
        path: PathBuf,
        /// Contents of the file, as half a sentence: "holds a private key".
        what: &'static str,
        /// The exposure: who has which access.
        why: String,
        /// The command that corrects it.
        remedy: String,
    },
    /// A client file without nodes.
    #[error("no nodes configured in {}", path.display())]
    FindNodes {
        /// Path of the file.
        path: PathBuf,
    },
    /// Several nodes, and none of them is the default.
    #[error(
        "no node of the configuration is the default (there are: {known}); name one with --node, or mark one with isDefault: true"
    )]
    FindDefaultNode {
        /// The names that exist.
        known: String,
    },
    /// The file has no node of this name.
    #[error("node '{name}' not found in configuration (there are: {known})")]
    FindNode {
        /// The name that was given.
        name: String,
        /// The names that exist.
        known: String,
    },
}

/// Far above any real file; keeps a mistaken path (a disk image, /dev/zero) from filling memory.
const MAX_FILE: u64 = 4 << 20;

/// The text of a file and the descriptor it came from, so that permissions are those of what was read.
fn read(path: &Path) -> Result<(File, String), ConfigError> {
    let wrong = |source| ConfigError::Read { path: path.into(), source };
    let mut file = File::open(path).map_err(wrong)?;
    let mut text = String::new();
    let read = file.by_ref().take(MAX_FILE + 1).read_to_string(&mut text).map_err(wrong)?;
    if read as u64 > MAX_FILE {
        return Err(wrong(io::Error::other(format!(
            "it is larger than {}",
            crate::job::units::format_size(MAX_FILE)
        ))));
    }
    Ok((file, text))
}

/// Reads YAML into a struct, old names of keys replaced by the new ones, and returns the tree too. An error names
/// the key and, where the file has no old name, the line; it never shows the text of a private key.
fn parse<T>(text: &str, aliases: &[alias::Alias]) -> Result<(T, serde_yaml::Value), String>
where
    T: serde::de::DeserializeOwned + Default,
{
    let mut tree: serde_yaml::Value = serde_yaml::from_str(text).map_err(explain)?;
    let renamed = alias::rename(&mut tree, aliases)?;
    let config = if tree.is_null() {
        T::default()
    } else if renamed {
        // A tree alone loses the paths of its keys in errors. The lines of this text are not those of the file.
        let text = serde_yaml::to_string(&tree).map_err(explain)?;
        serde_yaml::from_str(&text).map_err(|e| without_line(explain(e)))?
    } else {
        serde_yaml::from_str(text).map_err(explain)?
    };
    Ok((config, tree))
}

/// The text of a YAML error. The parser quotes a block that stands below the wrong key, also one with a private key.
fn explain(error: serde_yaml::Error) -> String {
    let text = error.to_string();
    if text.contains("-----BEGIN") { "a PEM block stands where it does not belong".into() } else { text }
}

fn without_line(error: String) -> String {
    error.rsplit_once(" at line ").map_or_else(|| error.clone(), |(sentence, _)| sentence.to_owned())
}
