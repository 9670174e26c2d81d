//! The audit trail: who changed what on this node, in lines that cannot be changed unseen.
//!
//! ```text
//! api, reload, start, stop --> Audit --queue, bounded--> thread "audit" --> <directory>/audit-000001.jsonl ...
//!                                <------ "it is written" ----'
//! ```
//!
//! # A call
//!
//! A call that only an admin may make has two lines: `request` before anything is done, `answer` before the client gets its
//! reply. A daemon that is killed in between leaves the first one alone. Refused calls have one line; equal ones of a
//! client within a minute share a second line, so that a client without rights cannot push others' lines out.
//!
//! # The chain
//!
//! Each line ends with the SHA-256 of its own bytes before that field, and begins with the hash of the line before; the
//! first line of a file continues that of the file before ([`mod@line`]). [`verify()`] thereby finds a changed, removed,
//! added or swapped line, and a removed file. `head` names the newest file, so that its removal is found too. Lines that are cut from
//! the very end are found by whoever has kept a later hash ([`Report::last`]).
//!
//! # Durability
//!
//! The thread takes all waiting lines at once and writes them with one call, before any of their calls goes on: a daemon that is
//! killed loses none of them. It comes before ordinary load, and a thread of gRPC waits for it itself, for a moment (`patience`).
//! Another thread has the disk take the lines, each [`SYNC`]; a power cut may take as much. An incomplete end that a power cut or
//! a kill left is closed by a line `torn` with its length and digest, so that it does not look like tampering.
//!
//! # Bounds
//!
//! [`QUEUE`] lines wait at most. A file is followed by the next one at [`Settings::max_bytes`], and [`Settings::keep`] files
//! are kept; a line `removed` with the last hash of each file that goes tells where the trail begins now. Where a line
//! cannot be written (the disk is full, the queue too), [`OnFull`] decides: the call is refused before it changes
//! anything, or goes on; a line `gap` tells the number of lost lines as soon as one can be written. For calls that are under way,
//! room is reserved in the file.

mod entry;
mod fold;
mod line;
mod patience;
mod reader;
mod trail;
mod verify;
mod writer;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use entry::{Entry, Event};
pub use line::Hash;
pub use reader::{Query, Reader};
pub use verify::{Fault, Report, verify};
pub use writer::{Audit, Counters, Unwritten};

/// Most lines that wait for the thread.
pub const QUEUE: usize = 4096;
/// The time from a line until the disk has it.
pub const SYNC: Duration = Duration::from_secs(1);

/// The fate of a call whose line cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFull {
    /// It is refused.
    Block,
    /// It goes on, and the line is counted as lost.
    Continue,
}

/// Where the trail is, and how much of it is kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory of its files, made where it is not there.
    pub directory: PathBuf,
    /// Bytes after which a file is followed by the next one.
    pub max_bytes: u64,
    /// Files that are kept, at least 2.
    pub keep: usize,
    /// The fate of a call whose line cannot be written.
    pub on_full: OnFull,
}

/// Why there is no trail.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The directory or a file in it cannot be used.
    #[error(
        "cannot {doing} {path} of the audit trail: {source}; audit.directory names another place, and audit.enabled: false \
         keeps no trail"
    )]
    Open {
        /// The operation that failed.
        doing: &'static str,
        /// The file or directory.
        path: String,
        /// The system's refusal.
        source: io::Error,
    },
    /// Another process has the directory.
    #[error("another joblet writes its audit trail into {0}; give each daemon an audit.directory of its own")]
    Locked(String),
    /// There is no thread.
    #[error("cannot start the thread of the audit trail: {0}")]
    Start(io::Error),
}
