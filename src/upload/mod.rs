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
//! A symbolic link is made as it was sent ([`link`] has its rule), and neither step follows one: an entry behind a
//! link of the same upload is refused.
//!
//! More than one request holds comes ahead of its job: [`receive`] takes it in, [`store`] keeps it.
//!
//! Files belong to the job's user from the start, modes are the client's less setuid, setgid and sticky.
//! Nothing is removed when writing fails half-way: the directory goes as a whole, with its owner.

mod check;
mod entry;
mod link;
pub mod outputs;
pub mod receive;
mod share;
pub mod staged;
pub mod store;
mod wanted;
mod write;

use rustix::io::Errno;

use crate::diag::disk_remedy;

pub use check::check;
pub use link::LinkRoots;
pub use staged::{JobInputs, Stage};
pub use store::{Claim, ClientKey, Store, StoreError, StoreLimits, Stored, StoredStatus};
pub use wanted::Wanted;
pub use write::{write_beneath, write_stored};

/// One entry of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Upload {
    /// Relative to the directory, components separated by `/`; a backslash is a character like any other. Names of files
    /// are bytes: they need not be UTF-8.
    pub path: Vec<u8>,
    /// The file's bytes; empty for a directory and for a link.
    pub content: Vec<u8>,
    /// Permission bits; 0 stands for 0644, for a directory 0755.
    pub mode: u32,
    /// A directory instead of a file.
    pub is_directory: bool,
    /// A symbolic link to this, instead of a file.
    pub target: Option<String>,
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
    /// Files that another job should have left are not there.
    #[error("the job gets files of job '{job}', which are not there: {why}")]
    Input {
        /// The job that should have left them.
        job: String,
        /// The reason why they are not there.
        why: String,
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
    /// Whether something other than a directory stands in the way of the entry.
    pub fn is_in_the_way(&self) -> bool {
        let UploadError::Write { source, .. } = self else { return false };
        // openat2(2) with O_DIRECTORY reports a link at the end of a path as ENOTDIR.
        matches!(Errno::from_io_error(source), Some(Errno::LOOP | Errno::NOTDIR))
    }

    /// Whether the request is at fault, and not this host.
    pub fn is_invalid_request(&self) -> bool {
        matches!(self, UploadError::Check { .. } | UploadError::Count { .. })
    }
}

/// Longest path that an error repeats, in characters.
const PRINTED: usize = 120;

/// A path as an error shows it: nothing a terminal would obey, and not 4 KiB of it.
fn printable(path: &[u8]) -> String {
    let path = String::from_utf8_lossy(&path[..path.len().min(4 * PRINTED)]);
    let short: String = path.chars().take(PRINTED).collect();
    let more = if short.len() < path.len() || path.len() == 4 * PRINTED { "..." } else { "" };
    format!("{}{more}", short.escape_debug())
}
