//! The pipes of a job as the collector takes them over, and the events that it reports.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Watermark;
use super::spool::SpoolWriter;
use crate::job::JobId;

/// The output of a job that starts, as the collector takes it over.
#[derive(Debug)]
pub struct JobOutput {
    /// The id of the job.
    pub id: JobId,
    /// The read end of the stdout pipe, non-blocking.
    pub stdout: OwnedFd,
    /// The read end of the stderr pipe, non-blocking.
    pub stderr: OwnedFd,
    /// The write end of joblet-init's control pipe, which gets a byte when everything is in the spool.
    pub control: Arc<OwnedFd>,
    /// The spool that the output goes into.
    pub spool: SpoolWriter,
    /// The watermark on which each row is published.
    pub watermark: Arc<Watermark>,
    /// A pidfd of a joblet-init that may linger since its daemon died. It waits for a signal before it reads the control
    /// pipe again, so the collector sends it SIGUSR1 when everything is in the spool. Set only where the exit file
    /// existed *after* the control pipe had been opened anew: before that joblet-init forwards signals to the payload,
    /// and needs no signal, because it will find the pipe open.
    pub wake: Option<OwnedFd>,
}

/// An event of one job that the collector reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectorEvent {
    /// Both pipes have ended and all their bytes are in the spool.
    OutputComplete,
    /// The job writes more than a limit allows and must be stopped for it. Reported once.
    OverLimit,
    /// A process of the job keeps the lock of an output pipe; the job must be stopped for it.
    PipeHeld,
    /// A call on the job's pipe that was late has returned.
    PipeFree,
}

/// The function that takes the collector's events.
pub(super) type Notify = Arc<dyn Fn(JobId, CollectorEvent) + Send + Sync>;
