//! A paused job as replies show it.

use crate::job::{JobClock, JobId};

/// A job that was paused, resumed or given another timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PauseState {
    /// The job that it is about.
    pub id: JobId,
    /// Whether all its processes stand still.
    pub frozen: bool,
    /// The clock of the job.
    pub clock: JobClock,
}
