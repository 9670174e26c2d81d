//! The words between the loop and the thread of history.

use std::path::PathBuf;
use std::sync::Arc;

use super::fetches::{Wanted, WhenFetched};
use crate::job::JobId;
use crate::output::Watermark;
use crate::stream;

/// Called when the history of some jobs is deleted, or when it is certain that it will be; then with `false`.
pub(in crate::daemon) type WhenDeleted = Box<dyn FnOnce(bool) + Send>;

/// A request to the thread.
pub(super) enum Command {
    /// Keep the output of this job, which runs.
    Added(Box<Added>),
    /// A job has ended: nothing more comes of it.
    Ended(Box<Ended>),
    /// Delete the history of jobs.
    Delete(Vec<JobId>, WhenDeleted),
    /// Have a job in the local files, for a reader.
    Fetch(Wanted, WhenFetched),
    /// A job's output or samples have come further.
    Grown(JobId),
    /// End the process, and then this thread.
    Stop,
}

/// A job whose output is to be kept.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Added {
    /// The job's identity.
    pub(in crate::daemon) id: JobId,
    /// The directory of its spool.
    pub(in crate::daemon) dir: PathBuf,
    /// When it was accepted, ns since the epoch.
    pub(in crate::daemon) created_ns: i64,
    /// How far its output has come.
    pub(in crate::daemon) output: Arc<Watermark>,
    /// How far its samples have come.
    pub(in crate::daemon) samples: Arc<stream::Watermark>,
}

/// A job that has ended.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Ended {
    /// The job's identity.
    pub(in crate::daemon) id: JobId,
    /// Its spool, which may be gone already.
    pub(in crate::daemon) dir: PathBuf,
    /// When it was accepted, ns since the epoch.
    pub(in crate::daemon) created_ns: i64,
    /// When it ended, ns since the epoch.
    pub(in crate::daemon) ended_ns: i64,
}

/// An event that the thread reports.
#[derive(Debug)]
pub(in crate::daemon) enum HistoryEvent {
    /// All of a job is durable, and its spool is empty.
    Complete(JobId),
    /// The history of jobs is deleted.
    Forgotten(Vec<JobId>),
}
