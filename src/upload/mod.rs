//! Files that come with a request, written beneath a directory that a job will own.
//!
//! The client may be hostile, and where the directory is a shared one, so may be any process that changes it while we
//! write with root's rights. Two steps stand between them and the host:
//!
//! * [`check()`] refuses, before anything is touched, every path that is not plainly relative. It is syntax
//!   only: the caller gets a sentence that names the entry.
//! * [`write_beneath`] trusts no path all the same. Each name is resolved by the kernel beneath the
//!   descriptor (openat2(2): RESOLVE_BENEATH, no symbolic links at all), and a file is always a new inode
//!   (O_EXCL): one that is in the way is unlinked first, never written into, since it may be a link to
//!   elsewhere (CVE-2018-15664 and similar flaws followed paths).
//!
//! Files belong to the job's user from the start, modes are the client's less setuid, setgid and sticky.
//! Nothing is removed when writing fails half-way: the directory goes as a whole, with its owner.

mod check;
pub mod staged;
mod write;

use crate::diag::disk_remedy;

pub use check::check;
pub use staged::{JobInputs, Stage};
pub use write::write_beneath;

/// One entry of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Upload {
    /// Relative to the directory, components separated by `/`; a backslash is a character like any other.
    pub path: String,
    /// The file's bytes; empty for a directory.
    pub content: Vec<u8>,
    /// Permission bits; 0 stands for 0644, for a directory 0755.
    pub mode: u32,
    /// A directory instead of a file.
    pub is_directory: bool,
}

/// The counts of a successful write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Files, counted once for each entry.
    pub files: usize,
    /// Bytes of all files together.
    pub bytes: u64,
}

/// Why uploads are refused or could not be written.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// An entry breaks a rule: the request's fault.
    #[error("invalid upload path \"{entry}\": {why}")]
    Check {
        /// The path, made printable and cut where it is long.
        entry: String,
        /// The rule that is broken, and the remedy.
        why: String,
    },
    /// More entries than are taken: the request's fault.
    #[error("{count} uploads are too many: at most {limit} in one request; send an archive instead")]
    Count {
        /// Entries in the request.
        count: usize,
        /// The most that are taken.
        limit: usize,
    },
    /// The directory's bytes are used up.
    #[error(
        "/work is full: {bytes} bytes of uploads, quota {quota}; raise filesystem.workQuota or upload less"
    )]
    Fill {
        /// Bytes of all uploads of the request.
        bytes: u64,
        /// Bytes that the directory holds.
        quota: u64,
    },
    /// The directory's inodes are used up.
    #[error("/work is full: {entries} files and directories uploaded, it holds {inodes}; upload fewer")]
    FillInodes {
        /// Entries of the request.
        entries: usize,
        /// Files and directories that the directory holds.
        inodes: u64,
    },
    /// The inputs of a waiting job could not be stored.
    #[error("cannot put aside what the job brought, as {path}: {source}; {}", disk_remedy(source))]
    PutAside {
        /// Path of the staged file.
        path: std::path::PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The inputs of a waiting job could not be read again.
    #[error("cannot read what the job brought, from {path}: {source}; run it again")]
    TakeBack {
        /// Path of the staged file.
        path: std::path::PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The kernel refused to make or write an entry.
    #[error("cannot write upload \"{entry}\" below /work: {source}")]
    Write {
        /// The path, made printable.
        entry: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

impl UploadError {
    /// Whether the request is at fault, and not this host.
    pub fn is_invalid_request(&self) -> bool {
        matches!(self, UploadError::Check { .. } | UploadError::Count { .. })
    }
}

/// Longest path that an error repeats, in characters.
const PRINTED: usize = 120;

/// A path as an error shows it: nothing a terminal would obey, and not 4 KiB of it.
fn printable(path: &str) -> String {
    let short: String = path.chars().take(PRINTED).collect();
    let more = if short.len() < path.len() { "..." } else { "" };
    format!("{}{more}", short.escape_debug())
}
