//! The pipes of a job as the collector takes them over, and the events that it reports.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::process::{Signal, pidfd_send_signal};

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
    /// Lets joblet-init end when everything is in the spool, unless it is held ([`Watermark::hold`]); `None` for a command
    /// beside the payload, with which nothing ends.
    pub release: Option<Arc<Release>>,
    /// The spool that the output goes into.
    pub spool: SpoolWriter,
    /// The watermark on which each row is published.
    pub watermark: Arc<Watermark>,
}

/// The end of a joblet-init, which keeps the pipes and /work until nobody needs them.
#[derive(Debug)]
pub struct Release {
    /// The write end of its control pipe. Closing it says "the daemon is gone".
    pub control: Arc<OwnedFd>,
    /// A pidfd of a joblet-init that may linger since its daemon died. It waits for a signal before it reads the control
    /// pipe again, so it gets SIGUSR1 with the byte. Set only where the exit file existed *after* the control pipe had
    /// been opened anew: before that joblet-init forwards signals to the payload, and needs no signal, because it will
    /// find the pipe open.
    pub wake: Option<OwnedFd>,
}

impl Release {
    /// Lets the joblet-init of a job end.
    pub fn give(&self, id: JobId) {
        if let Err(why) = rustix::io::write(&*self.control, b"R") {
            log::debug!("release of {id}: {why}");
        }
        if let Some(init) = &self.wake
            && let Err(why) = pidfd_send_signal(init, Signal::USR1)
        {
            log::debug!("wake-up of {id}: {why}");
        }
    }
}

/// An event of one job that the collector reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectorEvent {
    /// Both pipes have ended and all their bytes are in the spool.
    OutputComplete,
    /// After [`Collector::report_empty`](super::Collector::report_empty): each pipe was empty or has ended since, and all
    /// bytes that were in it are in the spool.
    OutputEmpty,
    /// The job writes more than a limit allows and must be stopped for it. Reported once.
    OverLimit,
    /// A process of the job keeps the lock of an output pipe; the job must be stopped for it.
    PipeHeld,
    /// A call on the job's pipe that was late has returned.
    PipeFree,
}

/// The function that takes the collector's events.
pub(super) type Notify = Arc<dyn Fn(JobId, CollectorEvent) + Send + Sync>;
