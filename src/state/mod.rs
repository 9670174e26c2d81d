//! Job records that survive the daemon.
//!
//! The loop owns all jobs; this room keeps a copy of each on disk, in `<dataDir>/state.db` (SQLite, write-ahead log),
//! and reads them once, when the daemon starts. One row a job, a whole record each time: a newer one replaces it, and
//! nothing is ever put together from parts.
//!
//! A thread writes ([`writer`]). Changes that arrive while it works go into its next transaction, newest record of a
//! job only; the thread reports when they are *durable*: committed, and the log on the disk (fdatasync(2)). Every reply
//! about a job, and every ending, waits for that. A record that cannot be written (disk full) is kept in memory and tried
//! again each second, and its job's status says so.
//!
//! After a failed fdatasync(2) everything written since the last one may be lost: the kernel may have dropped it, and
//! says so only once, while SQLite takes it for committed. So the log is written anew from a copy before any other write
//! ([`Database::sync`]).
//!
//! A client hears of its network or volume when that is durable. One that cannot be written is refused, and what a failed sync may
//! have left of it is undone.
//!
//! A start does not wait for a disk, nor for another thread. The spawner puts the job's record into the job's exit file,
//! behind the exit block ([`intent`]), and only then starts its payload: the kernel has it, so a daemon that is
//! killed in between leaves no payload without a record. The next daemon reads the intents of jobs that are not in
//! the database. An intent is void when the job has finished; its last record stands beside its output from then on
//! ([`sidecar`]).
//!
//! # Format, version 1
//!
//! `application_id` is [`database::APPLICATION`], `user_version` the version. Table `jobs`: `serial` (the order of
//! acceptance), `record` ([`Record`] as JSON), `crc` (CRC-32 of that text). Table `deletions`: jobs whose history is to be
//! deleted, until the history process says that it is. Table `networks`: those that clients made, by `name`, with `record`
//! ([`StoredNetwork`] as JSON) and `crc`; table `volumes` likewise ([`StoredVolume`]). Tables `workflows` and `elements`: see [`workflow`]. A database of a newer version, of another
//! program or with damage is refused and left as it is; `joblet recover` ([`salvage`]) saves every readable record, and
//! rebuilds the others from the files that the jobs left.

mod checksum;
pub mod database;
pub mod intent;
pub mod network;
pub mod record;
pub mod salvage;
pub mod sidecar;
mod standing;
pub mod volume;
mod wal;
pub mod workflow;
pub mod writer;

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;

use crate::diag::disk_remedy;

pub use database::{Database, Deletions};
pub use network::{NetworkChange, StoredNetwork};
pub use record::{Pause, Record, Stage};
pub use standing::StandingChange;
pub use volume::{StoredVolume, VolumeChange};
pub use workflow::{ElementRecord, WorkflowChange, WorkflowRecord};
pub use writer::{Change, Outcome};

/// Whether data written to a file can reach its disk. An ext4 that the kernel has made read-only under open files takes
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
    /// The file cannot be opened.
    #[error("cannot open the job database {path}: {source}; {}", disk_remedy(source))]
    Open {
        /// Path of the database.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// SQLite refuses the file, or a row is damaged.
    #[error(
        "cannot read the job database {path}: {why}; nothing was changed: `joblet recover` saves what can be read of it, \
         and rebuilds the rest from what the jobs left"
    )]
    Damaged {
        /// Path of the database.
        path: PathBuf,
        /// The damage, in words.
        why: String,
    },
    /// A database of a later joblet.
    #[error(
        "cannot read the job database {path}: it has version {found}, this joblet knows {known}; nothing was changed: \
         start the joblet that wrote it, or move it away (its jobs are forgotten then)"
    )]
    Newer {
        /// Path of the database.
        path: PathBuf,
        /// The version in the file.
        found: i64,
        /// The version of this joblet.
        known: i64,
    },
    /// A database of another program.
    #[error(
        "cannot use {path} as the job database: another program made it; move it away, or choose another dataDir"
    )]
    Foreign {
        /// Path of the database.
        path: PathBuf,
    },
    /// A write that failed.
    #[error("cannot write the job database {path}: {source}; {}", disk_remedy(source))]
    Write {
        /// Path of the database.
        path: PathBuf,
        /// The system's answer, or SQLite's where that is all there is.
        source: io::Error,
    },
    /// The thread cannot be started.
    #[error("cannot start the state thread: {0}")]
    Thread(io::Error),
}
