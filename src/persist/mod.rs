//! The history process `persist`, and the wire to it.
//!
//! It stores what jobs print and use for longer than the daemon keeps it. The daemon starts it as a child and hands it two
//! listening sockets, so there is no moment at which they are missing, and a pipe that ends when the daemon is gone.
//!
//! ```text
//!   joblet                                              persist (user joblet)
//!     thread history --- HELLO, SPOOL + descriptors,      the loop (server): connections, what is due
//!       (daemon::history)  ROWS, END_OF_JOB, DELETE ---->   | Task            ^ LaneEvent
//!                    <---- ACK -------------------------    v                 |
//!                                                         lane: worker (reads the spool, formats, compresses)
//!                                                               writer (writes, makes durable)
//!   clients --- PersistService (gRPC, Unix socket) -----> query threads
//! ```
//!
//! **The spool is the buffer.** The daemon sends no bytes: it hands over descriptors of a job's spool, for reading only,
//! and says how far the spool has come ([`frame`]). A job here is a handful of numbers until it is *due* ([`jobs`]). A
//! lane then reads at most 4 MiB of it, and its writer makes that durable, together with the other jobs that are due. Durable
//! rows are acknowledged, and the daemon releases them from the spool. All numbers on the wire are absolute: nothing is
//! lost or doubled when either side is killed at any moment, and nothing is ever sent again.
//!
//! **A store beyond this host** ([`remote`], such as CloudWatch) gets what the local files have ([`upload`]), and then an ACK
//! means that it has accepted it. The local files are a cache then: readers find running jobs there as ever, the oldest
//! jobs go when it is full ([`janitor`]), and come back when somebody wants them ([`fetch`]).
//!
//! **Trust.** The process runs without privilege where the host has a user `joblet`. It takes connections of root and of
//! the user who started it, and descriptors of root alone. Job ids are parsed as UUIDs before they become paths.
//!
//! **Bounds.** Connections by `persist.ipc.max_connections` and `persist.server.max_connections`, messages by
//! `persist.ipc.max_message_size`, jobs by `ipc.buffer_size` on the daemon's side; each lane holds one buffer, two
//! commits and their compressed bytes, whatever waits in the spools.
//!
//! The room reads the formats of [`output`](crate::output) and of [`metrics`](crate::metrics): what it stores are rows
//! and samples of the spool, under their own sequences.

mod beyond;
mod client;
mod command_line;
mod connection;
mod fetch;
mod figures;
mod foreign;
pub mod frame;
mod janitor;
mod jobs;
mod lane;
pub mod link;
mod privilege;
pub mod query;
pub mod remote;
mod sample_message;
mod server;
mod service;
mod spool_source;
pub mod store;
mod upload;

use std::io;
use std::path::PathBuf;

pub use client::{Answer, Probe, Pulse};
pub use command_line::main;
pub use figures::Figures;

/// The number of the descriptor that is the socket for output, in the process as the daemon starts it.
pub const OUTPUT_SOCKET: i32 = 3;
/// The same of the socket for queries.
pub const QUERY_SOCKET: i32 = 4;
/// The same of the pipe that ends with the daemon.
pub const LIFELINE: i32 = 5;

/// Why the history process cannot start, or cannot go on with a connection.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// A message that is none.
    #[error("cannot read a message: {0}")]
    Frame(String),
    /// A connection that is broken.
    #[error("the connection is broken: {0}")]
    Link(io::Error),
    /// A descriptor that the daemon gives.
    #[error("cannot take {what}: {source}; persist is started by joblet")]
    Inherit {
        /// The descriptor's meaning.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A directory of history.
    #[error("cannot make the directory {path} for history: {source}")]
    MakeDirectory {
        /// The path of the directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The lock of the state directory.
    #[error("cannot lock {path}: {source}; another persist keeps history there")]
    Lock {
        /// The path of the lock file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The rights of root could not be given up.
    #[error("cannot become the user joblet: {0}")]
    Become(io::Error),
    /// The loop or a thread.
    #[error("cannot set up the history process: {doing}: {source}")]
    SetUp {
        /// The step that failed.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A spool that cannot be read.
    #[error("cannot read the spool of a job: {0}")]
    Spool(io::Error),
    /// The store has failed.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// The store beyond this host.
    #[error("cannot open the remote store of history: {0}")]
    Remote(String),
    /// The gRPC server.
    #[error("cannot serve queries: {0}")]
    Serve(String),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] crate::diag::DiagError),
}
