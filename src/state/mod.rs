//! Job records that survive the daemon.
//!
//! The loop owns all jobs; this room keeps a copy of each on disk, in `<dataDir>/state.db` (SQLite, write-ahead log),
//! and reads them once, when the daemon starts. One row a job, a whole record each time: a newer one replaces it, and
//! nothing is ever put together from parts.
//!
//! A thread writes ([`writer`]). What is asked for while it works goes into its next transaction, newest record of a
//! job only, and is told when it is *durable*: committed, and the log on the disk (fdatasync(2)). Every reply that tells
//! of a job, and every ending, waits for that. A record that cannot be written (disk full) is kept in memory and tried
//! again each second, and its job says that it waits for that.
//!
//! A failed fdatasync(2) is the end of what was written since the last one: the kernel may have dropped it, and says so only
//! once, while SQLite takes it for committed. So the log is written anew from a copy before anything else is
//! ([`Database::sync`]).
//!
//! A start does not wait for a disk, nor for another thread. The spawner puts the job's record into the file of its exit
//! record, behind the place for that ([`intent`]), and only then starts its payload: the kernel has it, so a daemon that is
//! killed in between leaves no payload without a record. The next daemon reads the intents of jobs that are not in
//! the database. An intent is void when the job has finished, and its last record stands beside its output from then on
//! ([`sidecar`]).
//!
//! # Format, version 1
//!
//! `application_id` is [`database::APPLICATION`], `user_version` the version. Table `jobs`: `serial` (the order of
//! acceptance), `record` ([`Record`] as JSON), `crc` (CRC-32 of that text). A database of a newer version, of another
//! program or with damage is refused and left as it is; `joblet recover` ([`salvage`]) saves what can be read of it, and
//! rebuilds what cannot from what the jobs left.

pub mod database;
pub mod intent;
pub mod record;
pub mod salvage;
pub mod sidecar;
mod wal;
pub mod writer;

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;

use crate::diag::disk_remedy;

pub use database::Database;
pub use record::{Record, Stage};
pub use writer::{Change, Outcome};

/// Whether what was written to a file can reach its disk. An ext4 that the kernel has made read-only under open files takes
/// writes into memory, and answers fdatasync(2) with success without writing anything (`ext4_sync_file`, Linux 6.18).
///
/// # Errors
/// EROFS; or the file system does not answer.
fn is_writable(file: &File) -> io::Result<()> {
    let read_only = rustix::fs::fstatvfs(file)?.f_flag.contains(StatVfsMountFlags::RDONLY);
    if read_only { Err(Errno::ROFS.into()) } else { Ok(()) }
}

/// The message for a job that was not started because its record cannot be written: `why` names the file, the system's
/// answer and what to try.
pub fn not_recorded(why: impl Display) -> String {
    format!("cannot record the job, nothing was started: {why}")
}

/// Why records cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file itself.
    #[error("cannot open the job database {path}: {source}; {}", disk_remedy(source))]
    Open {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// SQLite's refusal.
    #[error(
        "cannot read the job database {path}: {why}; nothing was changed: `joblet recover` saves what can be read of it, \
         and rebuilds the rest from what the jobs left"
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A database of a later joblet.
    #[error(
        "cannot read the job database {path}: it has version {found}, this joblet knows {known}; nothing was changed: \
         start the joblet that wrote it, or move it away (its jobs are forgotten then)"
    )]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// A database of another program.
    #[error(
        "cannot use {path} as the job database: another program made it; move it away, or choose another dataDir"
    )]
    Foreign {
        /// Which.
        path: PathBuf,
    },
    /// A write.
    #[error("cannot write the job database {path}: {source}; {}", disk_remedy(source))]
    Write {
        /// Which.
        path: PathBuf,
        /// The system's answer, or SQLite's where that is all there is.
        source: io::Error,
    },
    /// A thread.
    #[error("cannot start the state thread: {0}")]
    Thread(io::Error),
}
