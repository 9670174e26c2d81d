//! CA, server, admin and viewer certificates.
//!
//! A node has a CA of its own, and every certificate that counts comes from it: the server's, which names the
//! hosts that clients connect to and always `joblet`, and the clients', whose OU is their role. [`authority`]
//! makes and issues them, [`inspect`] checks whether a set would be accepted before it is tried over a
//! connection (a refused TLS handshake explains nothing), [`revocation`] takes back what was issued, [`setup`]
//! writes the files of a whole node, and [`command`] does what comes after: it issues, shows
//! ([`describe`]) and revokes certificates.
//!
//! Keys are EC P-256 and leave this room only as [`Secret`](crate::job::Secret) or in files made with mode
//! 0600. The CA's key is written once and never sent anywhere; its holder can make admins.

use std::{
    io,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use openssl::error::ErrorStack;

pub mod authority;
mod client_file;
pub mod command;
pub mod describe;
mod files;
pub mod inspect;
pub mod revocation;
pub mod setup;

/// Unix seconds. A clock before 1970 makes every certificate "not yet valid", which is what should be said then.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The reason why there is no certificate, or none that is valid.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// OpenSSL refused a step that has no reason to fail.
    #[error("cannot make the {what}: {source}")]
    Make {
        /// Certificate or key, by its role.
        what: &'static str,
        /// The error of OpenSSL.
        source: ErrorStack,
    },
    /// Not PEM, or another kind of PEM.
    #[error("cannot read the {what}: it is not valid PEM")]
    Parse {
        /// Certificate or key, by its role.
        what: &'static str,
    },
    /// The text that users search for; exactly OpenSSL's.
    #[error("certificate verify failed: certificate has expired")]
    Expired,
    /// Any other reason, in OpenSSL's words.
    #[error("certificate verify failed: {why}")]
    Verify {
        /// Such as "unable to get local issuer certificate".
        why: String,
    },
    /// Certificate and key are not a pair.
    #[error("the private key does not belong to the certificate")]
    MatchKey,
    /// A name that no certificate can carry.
    #[error("--host {name:?}: {why}")]
    NameHost {
        /// The name that was given.
        name: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A command line is wrong.
    #[error("{command}: {why}; see joblet {command} --help")]
    ReadArguments {
        /// Such as "setup".
        command: &'static str,
        /// The reason, as a sentence.
        why: String,
    },
    /// A file that would be overwritten.
    #[error("{} is there already; choose another name or --out", path.display())]
    KeepFile {
        /// Path of the file.
        path: PathBuf,
    },
    /// A certificate that is not ours to revoke.
    #[error("cannot revoke {what}: {why}")]
    Revoke {
        /// File or serial number.
        what: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// There is a complete set already.
    #[error("{} already holds a set of certificates and configurations; --force makes new ones", dir.display())]
    KeepSet {
        /// Path of the directory.
        dir: PathBuf,
    },
    /// There is part of a set.
    #[error(
        "{} holds only part of a set (missing: {missing}); put them back, or let --force make new ones",
        dir.display()
    )]
    CompleteSet {
        /// Path of the directory.
        dir: PathBuf,
        /// Paths below it, separated by commas.
        missing: String,
    },
    /// A list of revoked certificates cannot be used.
    #[error("cannot read revocation list {}: {why}", path.display())]
    ReadList {
        /// Path of the file.
        path: PathBuf,
        /// The fault of the file.
        why: String,
    },
    /// The file system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    Write {
        /// The step that failed.
        what: &'static str,
        /// Path of the file or directory.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
}
