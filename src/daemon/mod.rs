//! The loop: one thread owns every mutable thing of the daemon. No Mutex here, but the one by which the ends of a
//! queue take turns (`sys::turns`).
//!
//! ```text
//! gRPC threads --Command (bounded, crossbeam)--> |          |--StartRequest--> spawners; CreateRequest --> berths
//! spawners, collector, tidier, remover --WorkerEvent--> | THE LOOP |--CleanupTask--> tidier, WorkRemoval --> remover
//! pidfds, report pipes, signals, timers -------> |          |--pipes--> output collector (via the spawner)
//! sampler: the last sample is stored ----WorkerEvent--> |          |--jobs that run, jobs that ended--> sampler
//! state, stager: it is on disk ----------WorkerEvent--> |          |--records, belongings--> state, stager
//! ```
//!
//! A turn has three phases that never mix: *collect* turns events into facts, *step*
//! (`job::state::step`, pure) turns each fact into a new state and effects, *act* carries the effects out. An
//! effect may leave facts for the next turn; it never calls step. The loop waits in its poll and nowhere else.
//!
//! Bounds: commands by [`commands::QUEUE`]; orders, news and chores by the number of live jobs, which
//! admission bounds (`joblet.maxConcurrentJobs`); removals of /work by the host ids that they hold
//! (`process.subidCount`) and by what an earlier daemon left; plots by `joblet.warmSandboxes`; jobs that wait, and with
//! them belongings to put aside, by `joblet.maxQueuedJobs`; records by all of these.

mod admission;
mod cleanup;
pub mod commands;
mod directories;
pub mod doctor;
mod event_loop;
mod explain;
mod finishing;
mod ledger;
pub mod notify;
mod pool;
mod queue;
mod running;
mod schedule;
mod security;
mod staging;
mod starting;
mod table;
mod takeover;
mod timers;
mod waiting;
pub mod wiring;

use std::io;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

pub use wiring::Daemon;

/// Why the daemon cannot start, or go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A directory below dataDir.
    #[error("cannot make {path}: {source}; dataDir must be writable for the daemon, and for nobody else")]
    MakeDirectory {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another daemon works on the same dataDir.
    #[error("cannot lock {path}: another joblet uses this dataDir; stop it, or choose another dataDir")]
    Locked {
        /// The directory that is locked.
        path: PathBuf,
    },
    /// Strict mode, and a host that cannot keep what the configuration promises.
    #[error(
        "this host is not fit for cgroup.enforcement: strict: {first}; {remedy} (failing: {failing}); \
         `joblet doctor` shows all, and cgroup.enforcement: best-effort starts nevertheless"
    )]
    Unfit {
        /// The first check that fails, with what was seen.
        first: String,
        /// What mends it.
        remedy: String,
        /// The names of all checks that fail.
        failing: String,
    },
    /// epoll, eventfd or signalfd.
    #[error("cannot set up the event loop: {doing}: {source}")]
    Loop {
        /// What.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A thread.
    #[error("cannot start the {name} thread: {source}")]
    Thread {
        /// Which.
        name: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// Groups.
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::CgroupError),
    /// SandboxParts.
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::SandboxError),
    /// Records.
    #[error(transparent)]
    State(#[from] crate::state::StateError),
    /// Output.
    #[error(transparent)]
    Output(#[from] crate::output::OutputError),
    /// Samples.
    #[error(transparent)]
    Metrics(#[from] crate::metrics::MetricsError),
}

/// Now, ns since the epoch.
fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64)
}
