//! The requests to the loop, their answers, and the way in.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_channel::oneshot;

use crate::job::{JobId, JobRef, JobSpec, JobView, Layer, Status};
use crate::output::Watermark;
use crate::stream;
use crate::sys::mailbox::{Mailbox, SendError};
use crate::upload::{Stored, Upload};

/// Commands that may wait for the loop; the next one is answered "exhausted" at once.
pub const QUEUE: usize = 1024;

/// The way back to whoever asked. Sending never blocks; a client that is gone is no error.
pub type Answer<T> = oneshot::Sender<Result<T, CommandError>>;

/// A request that has passed authorisation and every check of syntax.
#[derive(Debug)]
pub enum Command {
    /// Start a job. Answered when its process runs, or could not be started.
    Run {
        /// The job to run.
        spec: Box<JobSpec>,
        /// Files for /work, already checked.
        uploads: Vec<Upload>,
        /// Files for /work that came ahead.
        stored: StoredFiles,
        /// The job as it stands then.
        answer: Answer<JobView>,
    },
    /// Tell what a start would do, and do nothing.
    Explain {
        /// The job that would run.
        spec: Box<JobSpec>,
        /// Files for /work, already checked.
        uploads: Vec<Upload>,
        /// Files for /work that came ahead.
        stored: StoredFiles,
        /// The plan, sentence by sentence.
        answer: Answer<Explained>,
    },
    /// Show one job.
    Status {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// The job as it is now.
        answer: Answer<JobView>,
    },
    /// Show what stands around a running job, read back from the kernel.
    Security {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// The job and its layers.
        answer: Answer<(JobView, Vec<Layer>)>,
    },
    /// Show jobs, oldest first.
    List {
        /// The page of the list.
        page: Page,
        /// The page, oldest jobs first.
        answer: Answer<JobPage>,
    },
    /// End a running job. Answered when it is terminal.
    Stop {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// From TERM to KILL; `None`: the job's own time.
        grace: Option<Duration>,
        /// The job as it ended.
        answer: Answer<JobView>,
    },
    /// Keep a scheduled job from starting. Answered when that is recorded.
    Cancel {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// The job as it ended.
        answer: Answer<JobView>,
    },
    /// Forget a terminal job and its output.
    Delete {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// Its whole id, when its files are gone.
        answer: Answer<JobId>,
    },
    /// Forget all terminal jobs.
    DeleteAll {
        /// The number of jobs deleted and skipped.
        answer: Answer<Deleted>,
    },
    /// Open a job's output for reading.
    Logs {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// The place to read from.
        answer: Answer<LogSource>,
    },
    /// Open a job's samples for reading.
    Samples {
        /// The job, by its id or a prefix of it.
        job: JobRef,
        /// The place to read from.
        answer: Answer<SampleSource>,
    },
}

/// The uploads that a request names.
#[derive(Debug, Default)]
pub struct StoredFiles {
    /// The complete ones.
    pub found: Vec<Arc<Stored>>,
    /// Why one cannot be used. The same request sent again finds none, because its job has taken them.
    pub missing: Option<String>,
}

/// The plan of a start that is not made.
#[derive(Debug)]
pub struct Explained {
    /// The job that would run, with its limits.
    pub spec: Box<JobSpec>,
    /// Limits that this host cannot enforce (best-effort mode), in words.
    pub unenforced: Vec<String>,
    /// One sentence a step, in order.
    pub plan: Vec<String>,
}

/// Which jobs a list wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// At most so many; 0 for as many as one page has.
    pub limit: usize,
    /// Only jobs with a serial above this one.
    pub after: u64,
    /// Only these statuses; empty for all.
    pub statuses: Vec<Status>,
}

/// The largest number of jobs on one page.
pub(in crate::daemon) const PAGE_MAX: usize = 5000;

/// A page ends behind the job whose texts bring it to so many bytes: arguments and variables of one job may
/// be megabytes, and the loop copies them.
pub(in crate::daemon) const PAGE_BYTES: usize = 8 << 20;

/// One page of the list of jobs.
#[derive(Debug, Clone, Default)]
pub struct JobPage {
    /// Jobs with their serials, by which a next page begins.
    pub jobs: Vec<(u64, JobView)>,
    /// There are more behind the last one.
    pub more: bool,
}

/// What DeleteAllJobs did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// Jobs that are gone.
    pub deleted: u32,
    /// Jobs that were not terminal.
    pub skipped: u32,
}

/// Where a job's output is read.
#[derive(Debug, Clone)]
pub struct LogSource {
    /// The job whose output it is.
    pub id: JobId,
    /// The spool; it may not exist where the job never came so far.
    pub dir: PathBuf,
    /// How far it has come.
    pub watermark: Arc<Watermark>,
}

/// Where a job's samples are read.
#[derive(Debug, Clone)]
pub struct SampleSource {
    /// The job whose samples they are.
    pub id: JobId,
    /// The spool; it has no samples where the job never ran.
    pub dir: PathBuf,
    /// How far they have come: whole lines, counted in bytes. When it has ended, all of the file is there.
    pub watermark: Arc<stream::Watermark>,
}

/// Why the loop refused. The API knows a gRPC code for each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// NOT_FOUND: no job has this id or prefix.
    #[error("job not found: {0}")]
    NotFound(String),
    /// INVALID_ARGUMENT: a prefix that several jobs have.
    #[error("ambiguous job id {prefix} matches {} jobs: {}", candidates.len(), candidates.join(", "))]
    Ambiguous {
        /// As it was given.
        prefix: String,
        /// Whole ids, at most ten of them.
        candidates: Vec<String>,
    },
    /// FAILED_PRECONDITION: the job is not in a state for it.
    #[error("{0}")]
    WrongState(String),
    /// RESOURCE_EXHAUSTED: a bound of the node is reached.
    #[error("{0}")]
    Exhausted(String),
    /// INTERNAL: the job could not be set up; it is stored as FAILED.
    #[error("{0}")]
    SetUp(String),
    /// UNAVAILABLE: nothing is accepted any more.
    #[error("the daemon is shutting down")]
    ShuttingDown,
}

/// The way into the loop, for any number of threads.
#[derive(Debug, Clone)]
pub struct CommandSender {
    mailbox: Mailbox<Command>,
    closed: Arc<AtomicBool>,
}

impl CommandSender {
    /// A sender into this mailbox of the loop.
    pub fn new(mailbox: Mailbox<Command>) -> Self {
        CommandSender { mailbox, closed: Arc::default() }
    }

    /// Hands a command to the loop; never waits.
    ///
    /// # Errors
    /// The mailbox is full, or the daemon is shutting down.
    pub fn submit(&self, command: Command) -> Result<(), CommandError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(CommandError::ShuttingDown);
        }
        self.mailbox.try_send(command).map_err(|e| match e {
            SendError::Full(_) => {
                CommandError::Exhausted(format!("too many requests: {QUEUE} are waiting already; try again"))
            }
            SendError::Closed(_) => CommandError::ShuttingDown,
        })
    }

    /// Accepts nothing any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}
