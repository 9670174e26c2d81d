//! `runtime.yml`: what a runtime is. Every key is read or refused.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::RuntimeError;
use super::layer::LayerDigest;
use crate::job::env;
use crate::job::runtime::{RuntimeId, RuntimeName, Version};

/// The name of the file.
pub const FILE: &str = "runtime.yml";
/// Longest file in bytes.
pub const MAX_TEXT: usize = 256 << 10;
/// Most mounts of a runtime.
const MOST_MOUNTS: usize = 64;
/// Most layers of a root: the mount options of their overlay fit into a page (mount(2)).
pub const MOST_LAYERS: usize = 128;
/// Most variables of a runtime or an image.
const MOST_VARIABLES: usize = 256;
/// Most entries of a list that is shown only, and most bytes of each.
const MOST_SHOWN: (usize, usize) = (1024, 1024);
/// Directories of every job that are its own: no mount of a runtime goes over or below them.
const OWN: &[&str] = &["proc", "sys", "dev", "work", "run", "tmp", "volumes"];
/// Those among them that published runtimes list as mounts, which are left out.
const LEFT_OUT: &[&str] = &["/proc", "/tmp", "/sys", "/dev", "/run"];
/// A variable that goes before PATH.
const PATH_PREPEND: &str = "PATH_PREPEND";

/// The content of a `runtime.yml`, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The name of the runtime.
    pub name: RuntimeName,
    /// The version of the runtime.
    pub version: Version,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The language of its programs, in one word; empty for images.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub language: String,
    /// The version of the language.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub language_version: String,
    /// The paths that lie below everything of the runtime.
    #[serde(default)]
    pub base: Base,
    /// Parts of its files, each with its place in the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Layers of its root, bottom to top.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerDigest>,
    /// Variables of its jobs, which those of the job itself override. `PATH_PREPEND` goes before PATH.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// The requirements of the runtime.
    #[serde(default, skip_serializing_if = "Requirements::is_none")]
    pub requirements: Requirements,
    /// The packages in it, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// The libraries in it, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub libraries: Vec<String>,
    /// The configuration of the image that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
}

/// The files that lie below everything of a runtime.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// Nothing but what every job has: the runtime brings all its programs.
    #[default]
    None,
    /// The host's paths that jobs without a runtime see, read-only.
    Host,
}

/// A part of a runtime's files with its place in the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// The path below the directory of the runtime.
    pub source: PathBuf,
    /// The absolute path in the job.
    pub target: PathBuf,
    /// Nothing else than `true`: jobs share it.
    #[serde(default = "yes", rename = "readonly")]
    pub read_only: bool,
}

fn yes() -> bool {
    true
}

/// The requirements of a runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirements {
    /// Processors that it is made for, one at least; empty: all. `x86_64` is `amd64`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// Whether its programs want a GPU.
    #[serde(default)]
    pub gpu: bool,
}

impl Requirements {
    fn is_none(&self) -> bool {
        *self == Requirements::default()
    }

    /// Whether this host has the processor.
    pub fn suit_this_host(&self) -> bool {
        self.architectures.is_empty() || self.architectures.iter().any(|name| is_this_host(name))
    }
}

/// Whether a word for a processor means that of this host.
pub fn is_this_host(architecture: &str) -> bool {
    let canonical = match architecture {
        "amd64" | "x86-64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    };
    canonical == std::env::consts::ARCH
}

/// The configuration of an image (OCI image specification, `config`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The program and arguments before those of [`Image::cmd`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Arguments, or the program where there is no entrypoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Variables, each `NAME=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The directory in which its programs begin.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// The user that its programs expect to be.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
}

impl Image {
    /// The program that runs where a job names none: entrypoint, then cmd.
    pub fn command(&self) -> impl Iterator<Item = &String> {
        self.entrypoint.iter().chain(&self.cmd)
    }
}

impl Description {
    /// Reads and checks a text. `path` is where it stands, for errors.
    ///
    /// # Errors
    /// No YAML, a key that is not known, or a value that breaks its rule.
    pub fn parse(text: &str, path: &Path) -> Result<Description, RuntimeError> {
        let wrong = |why: String| RuntimeError::Description { path: path.to_owned(), why };
        if text.len() > MAX_TEXT {
            return Err(wrong(format!("it has more than {} KiB", MAX_TEXT >> 10)));
        }
        let mut read: Description = serde_yaml::from_str(text).map_err(|why| wrong(why.to_string()))?;
        // Every job has its own of these; published runtimes name them all the same.
        read.mounts.retain(|mount| !LEFT_OUT.iter().any(|own| mount.target == Path::new(own)));
        read.check().map_err(wrong)?;
        Ok(read)
    }

    /// The text for a `runtime.yml`.
    pub fn to_yaml(&self) -> String {
        serde_yaml::to_string(self).expect("a tree of texts and lists has no shape that YAML lacks")
    }

    /// The name and the version together.
    pub fn id(&self) -> RuntimeId {
        RuntimeId { name: self.name.clone(), version: self.version.clone() }
    }

    /// The program and its arguments that run where a job names none; empty: it has none.
    pub fn command(&self) -> Vec<String> {
        self.image.iter().flat_map(Image::command).cloned().collect()
    }

    /// The variables of its jobs, of which later ones win: those of the image, then its own. `path` is the PATH of jobs
    /// without a runtime.
    pub fn variables(&self, path: &str) -> Vec<(String, String)> {
        let image = self.image.iter().flat_map(|image| &image.env).filter_map(|pair| pair.split_once('='));
        let own = self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut all: BTreeMap<&str, &str> = image.chain(own).collect();
        let Some(prepend) = all.remove(PATH_PREPEND) else {
            return all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        };
        let path = format!("{prepend}:{}", all.get("PATH").unwrap_or(&path));
        all.insert("PATH", &path);
        all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Every rule that YAML's types do not express.
    fn check(&self) -> Result<(), String> {
        let Description { base, mounts, layers, environment, image, .. } = self;
        if mounts.is_empty() && layers.is_empty() {
            return Err("it has neither mounts nor layers, so no files at all".to_owned());
        }
        if *base == Base::Host && !layers.is_empty() {
            return Err("base: host and layers exclude each other: layers are a whole root".to_owned());
        }
        if mounts.len() > MOST_MOUNTS || layers.len() > MOST_LAYERS {
            return Err(format!("it has more than {MOST_MOUNTS} mounts or {MOST_LAYERS} layers"));
        }
        for (at, mount) in mounts.iter().enumerate() {
            mount.check(*base, !layers.is_empty())?;
            if mounts[..at].iter().any(|other| other.target == mount.target) {
                return Err(format!("mounts: {} stands twice", mount.target.display()));
            }
        }
        let pairs = environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        check_variables("environment", pairs)?;
        if let Some(image) = image {
            let split = |pair: &'_ String| pair.split_once('=').is_none();
            if let Some(bad) = image.env.iter().find(|pair| split(pair)) {
                return Err(format!("image.env: \"{}\" is not NAME=value", bad.escape_debug()));
            }
            check_variables("image.env", image.env.iter().filter_map(|pair| pair.split_once('=')))?;
            if image.command().any(|word| word.contains('\0')) || image.working_dir.contains('\0') {
                return Err("image: a text with a NUL".to_owned());
            }
        }
        for list in [&self.packages, &self.libraries, &self.requirements.architectures] {
            if list.len() > MOST_SHOWN.0 || list.iter().any(|one| one.len() > MOST_SHOWN.1) {
                return Err(format!(
                    "a list has more than {} entries, or one of more than {} bytes",
                    MOST_SHOWN.0, MOST_SHOWN.1
                ));
            }
        }
        let texts = [&self.description, &self.language, &self.language_version];
        if texts.iter().any(|text| text.len() > MOST_SHOWN.1 || text.chars().any(char::is_control)) {
            return Err(
                "description, language and language_version are one line each, of at most 1024 bytes"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

fn check_variables<'a>(key: &str, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), String> {
    let mut count = 0;
    for (name, value) in pairs {
        env::check(name, value).map_err(|why| format!("{key}: {why}"))?;
        count += 1;
    }
    if count > MOST_VARIABLES {
        return Err(format!("{key}: {count} variables are too many, at most {MOST_VARIABLES} are allowed"));
    }
    Ok(())
}

impl Mount {
    fn check(&self, base: Base, has_layers: bool) -> Result<(), String> {
        let (source, target) = (self.source.display(), self.target.display());
        let plain = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
        if self.source.as_os_str().is_empty() || !plain(&self.source) {
            return Err(format!("mounts: source {source} must be a relative path without \"..\""));
        }
        let inside = self.target.strip_prefix("/").ok().filter(|inside| plain(inside));
        let Some(inside) = inside else {
            return Err(format!("mounts: target {target} must be an absolute path without \"..\""));
        };
        let texts = [self.source.to_string_lossy(), self.target.to_string_lossy()];
        if texts.iter().any(|text| text.len() > 1024 || text.contains(char::is_control)) {
            return Err("mounts: a path has more than 1024 bytes or control characters".to_owned());
        }
        match inside.components().next() {
            Some(first) if OWN.iter().any(|own| first.as_os_str() == *own) => {
                return Err(format!("mounts: {target} is a directory of every job's own, or below one"));
            }
            None if base == Base::Host || has_layers => {
                return Err(
                    "mounts: / as a target goes without base: host and without layers only".to_owned()
                );
            }
            _ => {}
        }
        if !self.read_only {
            return Err(format!(
                "mounts: readonly: false of {target} is not possible, because jobs share the files; a job that writes there \
                 is run with --writable"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Description, String> {
        Description::parse(text, Path::new("runtime.yml")).map_err(|why| why.to_string())
    }

    const HEAD: &str = "name: python-3.11\nversion: 1.3.1\n";

    #[test]
    fn published_file_is_read_without_the_jobs_own_directories() {
        let read = parse(
            "name: python-3.11-ml\nversion: 1.3.1\ndescription: Python with numpy\nlanguage: python\n\
             mounts:\n  - {source: isolated/usr, target: /usr, readonly: true}\n\
             \x20 - {source: isolated/etc, target: /etc, readonly: true}\n\
             \x20 - {source: isolated/tmp, target: /tmp, readonly: false}\n\
             \x20 - {source: isolated/proc, target: /proc}\n\
             environment: {PATH_PREPEND: /opt/venv/bin, OMP_NUM_THREADS: '1'}\n\
             requirements: {architectures: [x86_64, amd64], gpu: false}\npackages: [numpy]\n",
        )
        .unwrap();
        let targets: Vec<_> = read.mounts.iter().map(|mount| mount.target.display().to_string()).collect();
        assert_eq!((targets.join(" "), read.base), ("/usr /etc".to_owned(), Base::None));
        assert_eq!(read.id().to_string(), "python-3.11-ml@1.3.1");
        assert!(read.variables("/bin").contains(&("PATH".into(), "/opt/venv/bin:/bin".into())));
        assert_eq!(parse(&read.to_yaml()).unwrap(), read);
    }

    #[test]
    fn image_has_layers_a_command_and_variables() {
        let digest = "a".repeat(64);
        let read = parse(&format!(
            "{HEAD}layers: ['sha256:{digest}']\nimage: {{entrypoint: [/e], cmd: [a, b], env: ['PATH=/x', 'A=b=c'], user: '1000:1000'}}\n\
             environment: {{A: mine}}\n"
        ))
        .unwrap();
        assert_eq!(read.command(), ["/e", "a", "b"]);
        let variables = read.variables("/bin");
        assert_eq!(variables, [("A".into(), "mine".into()), ("PATH".into(), "/x".into())]);
        assert_eq!(parse(&read.to_yaml()).unwrap(), read);
    }

    #[test]
    fn what_breaks_a_rule_is_refused_by_name() {
        let mount =
            |source: &str, target: &str| format!("mounts: [{{source: '{source}', target: '{target}'}}]\n");
        for (text, why) in [
            (String::new(), "neither mounts nor layers"),
            ("unknown: 1\n".to_owned(), "unknown field `unknown`"),
            ("layers: [abc]\n".to_owned(), "no digest"),
            (mount("../x", "/opt"), "relative path"),
            (mount("/etc", "/opt"), "relative path"),
            (mount("", "/opt"), "relative path"),
            (mount("a", "opt"), "absolute path"),
            (mount("a", "/opt/../etc"), "absolute path"),
            (mount("a", "/proc/self"), "every job's own"),
            (mount("a", "/work"), "every job's own"),
            (mount("a", "/volumes/x"), "every job's own"),
            (mount("a", "/dev/shm"), "every job's own"),
            (format!("base: host\n{}", mount("a", "/")), "/ as a target"),
            ("mounts: [{source: a, target: /opt, readonly: false}]\n".to_owned(), "--writable"),
            ("mounts: [{source: a, target: /opt}, {source: b, target: /opt}]\n".to_owned(), "twice"),
            (format!("{}environment: {{JOB_ID: x}}\n", mount("a", "/opt")), "JOB_"),
            (format!("{}environment: {{'A=B': x}}\n", mount("a", "/opt")), "environment"),
            (format!("{}image: {{env: [A]}}\n", mount("a", "/opt")), "NAME=value"),
            (format!("{}description: \"a\\nb\"\n", mount("a", "/opt")), "one line"),
        ] {
            let said = parse(&format!("{HEAD}{text}")).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
        assert!(parse("name: ../etc\nversion: 1.0.0\n").unwrap_err().contains("small letters"));
        assert!(parse(&"#".repeat(MAX_TEXT + 1)).unwrap_err().contains("KiB"));
    }

    #[test]
    fn processors_have_two_names_each() {
        let of = |names: &[&str]| Requirements {
            architectures: names.iter().map(|&name| name.to_owned()).collect(),
            gpu: false,
        };
        assert!(of(&[]).suit_this_host() && of(&["arm64", "amd64"]).suit_this_host());
        assert!(of(&["x86_64"]).suit_this_host() && !of(&["aarch64"]).suit_this_host());
    }

    proptest! {
        #[test]
        fn targets_stay_out_of_the_jobs_own(parts in proptest::collection::vec("(proc|work|opt|usr|\\.\\.|\\.|a)", 0..4)) {
            let target = format!("/{}", parts.join("/"));
            let text = format!("{HEAD}mounts: [{{source: a, target: {target}}}]\n");
            if let Ok(read) = parse(&text) {
                for mount in &read.mounts {
                    prop_assert!(!parts.contains(&"..".to_owned()));
                    let first = mount.target.components().nth(1).map(|part| part.as_os_str().to_owned());
                    prop_assert!(first.is_none_or(|first| !OWN.iter().any(|own| first == *own)));
                }
            }
        }

        #[test]
        fn texts_never_panic(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }
    }
}
