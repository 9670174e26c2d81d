//! The answers and observations of worker threads.

use super::cleanup::CleanupEvent;
use super::egress::EgressChange;
use super::evidence::Evidence;
use super::execs::worker::ExecEvent;
use super::freezer::Frozen;
use super::gpus::GpuFact;
use super::history::HistoryEvent;
use super::networks::Changed;
use super::outputs::Collected;
use super::spawner::{CreateError, StartResult, WarmSandbox};
use super::staging::Staged;
use super::standing_store::PendingWrite;
use super::token::Token;
use crate::job::JobId;
use crate::network::Lease;
use crate::state::Outcome;

/// One answer or observation of a worker thread.
#[derive(Debug)]
pub(super) enum WorkerEvent {
    /// A warm sandbox is ready, or could not be created.
    Created(Result<Box<WarmSandbox>, Box<CreateError>>, Token),
    /// A spawner is done with a start.
    Started(Box<StartResult>),
    /// A job's output is complete.
    OutputComplete(JobId),
    /// All bytes are in the spool that were in the pipes of a command when that ended.
    OutputEmpty(JobId),
    /// The thread of commands in jobs has answered.
    Exec(ExecEvent),
    /// A job writes more output than is kept.
    OverLimit(JobId),
    /// A job keeps the lock of an output pipe.
    PipeHeld(JobId),
    /// The kernel refused to pause a job, or to have it go on.
    NotFrozen(Frozen),
    /// A job's output pipe, which was held, is free. It may be what the daemon's end waits for.
    PipeFree,
    /// A job's last sample is stored, and what it left behind is read.
    Evidence(JobId, Box<Evidence>),
    /// Records are on disk, or cannot be written.
    Recorded(Outcome<PendingWrite>),
    /// The inputs of a waiting job are written, or cannot be.
    Staged(Staged),
    /// The files that a job left for others are kept, or cannot be.
    Collected(Collected),
    /// Nobody needs the /work of a job that has built a runtime.
    TreeTaken(JobId),
    /// A network is made or removed, or could not be.
    Network(Box<Changed>),
    /// A volume is made or removed, or could not be.
    Volume(Box<super::volumes::Changed>),
    /// The thread of the GPUs has found something.
    Gpu(GpuFact),
    /// History has all of a job, or nothing any more.
    History(HistoryEvent),
    /// Nothing is left in the router of the jobs that had these addresses.
    AddressesFree(Vec<Lease>),
    /// A change of an egress list is in force, or was refused.
    EgressChanged(Box<EgressChange>),
    /// Something was removed, or looked into.
    Cleanup(CleanupEvent),
}
