//! The messages of a lane: its answers, and what its worker hands to its writer.

use crossbeam_channel::Sender;
use futures_channel::oneshot;

use crate::job::JobId;
use crate::persist::client::Pulse;
use crate::persist::frame::Reached;
use crate::persist::jobs::End;
use crate::persist::store::{Batch, Committed, JobFiles, Resume};

/// An answer of a lane.
#[derive(Debug)]
pub(in crate::persist) enum LaneEvent {
    /// A job's files are open and hold so much; `complete`: they hold all of it.
    Opened {
        /// The id of the job.
        job: JobId,
        /// How much is stored, in rows of its spool.
        stored: Reached,
        /// How much of it no crash has torn: after the files lost something, less than what the spool has released.
        whole: Reached,
        /// Bytes of its output that need not be read any more.
        read: u64,
        /// Whether the job has ended and all of it is there.
        complete: bool,
    },
    /// A job's history was deleted: what comes of it is thrown away.
    Dropped(JobId),
    /// So much of a job is read, and more may be read.
    Staged {
        /// The id of the job.
        job: JobId,
        /// How far it was read.
        reached: Reached,
        /// Bytes of its output that need not be read any more.
        read: u64,
    },
    /// So much of a job is durable.
    Stored {
        /// The id of the job.
        job: JobId,
        /// How much is stored, in rows of its spool.
        stored: Reached,
        /// Whether that is all of it, its end included.
        complete: bool,
        /// The effects of the commit.
        committed: Committed,
    },
    /// A job cannot be read or stored now.
    Failed {
        /// The id of the job.
        job: JobId,
        /// The reason, in words.
        why: String,
    },
    /// So many bytes of pieces wait no more: they are durable, or thrown away.
    Taken(u64),
    /// A job's history is deleted.
    Deleted(JobId),
    /// The remote store has accepted so much of a job.
    Accepted {
        /// The id of the job.
        job: JobId,
        /// How much is accepted.
        reached: Reached,
        /// Whether that is all of it, its end included, or nobody wants it any more.
        complete: bool,
    },
    /// The remote store has deleted a job.
    RemoteDeleted(JobId),
    /// The remote store did not take a job, or did not delete it. It is tried again.
    RemoteFailed,
    /// Somebody asks how the work goes.
    Asked(oneshot::Sender<Pulse>),
    /// A job is in the local files, if the remote store has it.
    Fetched {
        /// The id of the job.
        job: JobId,
        /// Why it could not be copied.
        failure: Option<String>,
    },
    /// A client of the query socket wants a job's history deleted.
    Wanted {
        /// The id of the job.
        job: JobId,
        /// Hears when nothing is left.
        done: oneshot::Sender<()>,
    },
}

/// Part of a group: one job's next members.
pub(super) struct Item {
    pub(super) job: JobId,
    pub(super) batch: Batch,
    /// How far the job is read.
    pub(super) reached: Reached,
    /// Whether the spool counts its rows otherwise than the files: then its rows stay until it is complete.
    pub(super) is_recut: bool,
    pub(super) end: Option<(End, u64)>,
    /// Bytes of pieces in it.
    pub(super) pieces: u64,
}

pub(super) enum Step {
    /// The files of a job, and the rows of its spool that they hold.
    Open(JobId, Box<JobFiles>, u64),
    Group(Vec<Item>),
    Close(JobId),
    Delete(JobId),
    Again(JobId, Sender<(Resume, u64)>),
    /// Drop this when everything before is done.
    Reached(Sender<()>),
}
