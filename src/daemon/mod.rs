//! The loop: one thread owns every mutable thing of the daemon.
//!
//! ```text
//! gRPC threads --Command (bounded mailbox)------> |          |--StartRequest--> spawners
//! spawners, pool thread --WorkerEvent-----------> | THE LOOP |--CreateRequest--> pool thread
//! collector, sampler --WorkerEvent--------------> |          |--pipes (by the spawners), jobs that run or end-->
//! cleanup, removal --WorkerEvent----------------> |          |--CleanupTask, WorkRemoval-->
//! networks, volumes: made, removed --WorkerEvent> |          |--changes, looks at volumes, questions for runtimes-->
//! outputs: kept --WorkerEvent-------------------> |          |--/work of jobs of workflows that have ended-->
//! egress: addresses free --WorkerEvent----------> |          |--addresses that jobs leave-->
//! inspection: lists changed --WorkerEvent-------> |          |--looks at jobs, changes of egress lists-->
//! freezer: jobs that stand or run --WorkerEvent-> |          |--jobs to pause and to resume-->
//! state, staging: on disk, or not --WorkerEvent-> |          |--records, inputs-->
//! history: complete, deleted --WorkerEvent------> |          |--jobs that run, end, are deleted-->
//! pidfds, report pipes, signals, timers --------> |          |--addresses, ports of jobs--> resolver, relay
//!                                                 |          |--inputs that end--> the thread of inputs (opened by the spawners)
//! ```
//!
//! A turn *collects* ([`event_loop`]) everything that has come, and changes nothing meanwhile. Each event is then handled:
//! owners take it in and leave facts about jobs. *Step* (`job::state::step`, pure) turns a fact into a new state and
//! effects, and *act* ([`lifecycle`]) carries the effects out; an effect may leave facts to step next, and never steps
//! them. The loop waits in its poll and nowhere else. It asks no disk, which may hang, and does nothing whose length a client
//! or a job decides: worker threads do, or the loop does a slice of it in each turn (`tests/house/sources.rs` has the files
//! that may open others).
//!
//! Every mutable thing has one owner in [`core::Core`]. The functions of [`command`] (one file a request) and
//! [`lifecycle`] connect them; [`provision`] says what a job holds, how it gets it and how it is given back. Where a stop
//! request goes: `api/service/job.rs` -> mailbox -> `command/stop.rs` -> `Fact::Stop` -> `job/state.rs` -> `Effect::Save`
//! (`lifecycle/recording.rs`) -> `Fact::Recorded` -> `Effect::Terminate` (`lifecycle/running.rs`); its answer: `InitGone`
//! -> `Fact::OutputComplete` -> `Fact::Recorded` -> `Effect::Finish` (`lifecycle/finishing.rs`).
//!
//! Bounds: commands by [`command::QUEUE`]; starts and worker events by the number of live jobs, which admission bounds
//! (`joblet.maxConcurrentJobs`); cleanup tasks by the number of jobs that are kept and by open calls; removals of /work by the host ids that they hold
//! (`process.subidCount`) and by what an earlier daemon left; looks at running jobs by [`inspection`]; warm sandboxes by `joblet.warmSandboxes`; jobs that wait,
//! and with them inputs to stage, by `joblet.maxQueuedJobs` and their bytes ([`jobs`]); jobs that are over by `state.retention`; records by all of these.

pub mod assemble;
mod cleanup;
pub mod command;
mod companion;
mod core;
mod directories;
mod egress;
mod event_loop;
mod events;
mod evidence;
mod execs;
mod exit_file;
mod freezer;
mod gpus;
mod history;
mod inputs;
mod inspection;
mod install;
mod jobs;
mod ledger;
mod lifecycle;
mod networks;
pub mod notify;
mod outputs;
mod pool;
mod ports;
mod predecessor;
mod provision;
mod resolver;
mod runtimes;
mod settings;
mod sources;
mod spawner;
mod staging;
mod standing_store;
mod stores;
mod threads;
mod timers;
mod token;
mod volumes;
mod workflows;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::network::NetworkError;
use crate::sys::clock::monotonic_ns;

pub use assemble::Daemon;
pub use provision::{Named, kinds as resource_kinds};

/// Why the daemon cannot start, or go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A directory below dataDir.
    #[error("cannot make {path}: {source}; dataDir must be writable for the daemon, and for nobody else")]
    MakeDirectory {
        /// The path of the directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The directory of runtimes.
    #[error("cannot look for runtimes: {0}")]
    Runtimes(crate::runtime::RuntimeError),
    /// Another daemon works on the same dataDir.
    #[error("cannot lock {path}: another joblet uses this dataDir; stop it, or choose another dataDir")]
    Locked {
        /// The directory that is locked.
        path: PathBuf,
    },
    /// A socket of the history process.
    #[error("cannot make the socket {path}: {source}")]
    Bind {
        /// The path of the socket.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The history process.
    #[error("cannot start the history process {program}: {source}; it stands beside joblet")]
    StartHistory {
        /// The path of the program.
        program: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The history process does not answer.
    #[error("FATAL: persist service is not available but ipc.enabled=true: {why}")]
    NoHistory {
        /// The last answer, in words.
        why: String,
    },
    /// The networks of the configuration.
    #[error("cannot set up the networks of jobs: {0}")]
    Network(#[from] NetworkError),
    /// epoll, eventfd or signalfd.
    #[error("cannot set up the event loop: {doing}: {source}")]
    Loop {
        /// The step that failed.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start the {name} thread: {source}")]
    Thread {
        /// The name of the thread.
        name: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The cgroups of jobs cannot be set up.
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::CgroupError),
    /// The shared part of all sandboxes cannot be prepared.
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::SandboxError),
    /// Volumes cannot be kept as configured.
    #[error(transparent)]
    Volume(#[from] crate::volume::VolumeError),
    /// The job database cannot be used.
    #[error(transparent)]
    State(#[from] crate::state::StateError),
    /// The output collector cannot be started.
    #[error(transparent)]
    Output(#[from] crate::output::OutputError),
    /// The sampler cannot be started.
    #[error(transparent)]
    Metrics(#[from] crate::metrics::MetricsError),
}

/// The moment at which that clock shows `at_ns`; now if it is past.
fn instant_of(at_ns: i64) -> Instant {
    let left = at_ns.saturating_sub(monotonic_ns()).max(0);
    Instant::now() + Duration::from_nanos(left.unsigned_abs())
}

/// A job's command line as the log shows it. Arguments are the client's own words; secrets have their own map.
fn command_line(command: &str, args: &[String]) -> String {
    std::iter::once(command).chain(args.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}
