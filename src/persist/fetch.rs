//! The way back from a remote store: a job whose local files are gone is copied into the local store, once at a time.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Sender, TrySendError, bounded};
use log::Level;

use super::PersistError;
use super::janitor::{Janitor, StoreTask};
use super::lane::LaneEvent;
use super::remote::RemoteStore;
use super::store::LocalStore;
use crate::diag;
use crate::job::JobId;
use crate::sys::clock::now_ns;
use crate::sys::mailbox::Mailbox;

/// Threads that fetch for the daemon. AWS permits few requests a second for reading, so more would only wait.
const THREADS: usize = 2;
/// Fetches that may wait for a thread.
const WAITING: usize = 1024;
/// The range of samples where nobody says when the job ran: CloudWatch keeps points of a minute for 15 days.
const RANGE_NS: i64 = 15 * 24 * 3600 * 1_000_000_000;

/// A job that the daemon wants to read, with the times of its beginning and end; 0: it does not know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FetchRequest {
    /// The id of the job.
    pub(super) job: JobId,
    /// When it was accepted, ns since the epoch.
    pub(super) created_ns: i64,
    /// When it ended, ns since the epoch.
    pub(super) ended_ns: i64,
}

/// Fetches jobs; clones share one set of those under way.
#[derive(Debug, Clone)]
pub(super) struct Fetcher {
    shared: Arc<Shared>,
    queue: Sender<FetchRequest>,
}

#[derive(Debug)]
struct Shared {
    remote: Arc<dyn RemoteStore>,
    store: LocalStore,
    janitor: Janitor,
    store_tasks: Sender<StoreTask>,
    busy: Mutex<HashSet<JobId>>,
    news: Condvar,
}

impl Fetcher {
    /// Starts the threads, which report into the mailbox.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn start(
        remote: Arc<dyn RemoteStore>,
        store: &LocalStore,
        janitor: &Janitor,
        store_tasks: &Sender<StoreTask>,
        events: &Mailbox<LaneEvent>,
    ) -> Result<Fetcher, PersistError> {
        let (queue, requests) = bounded::<FetchRequest>(WAITING);
        let (store, janitor, store_tasks) = (store.clone(), janitor.clone(), store_tasks.clone());
        let (busy, news) = Default::default();
        let shared = Arc::new(Shared { remote, store, janitor, store_tasks, busy, news });
        for _ in 0..THREADS {
            let (shared, requests, events) = (shared.clone(), requests.clone(), events.clone());
            let run = move || {
                crate::sys::thread::be_nice();
                for request in requests {
                    let failure = shared.fetch(request).err();
                    let _ = events.send(LaneEvent::Fetched { job: request.job, failure });
                }
            };
            let thread = std::thread::Builder::new().name("fetch".into()).spawn(run);
            thread.map_err(|source| PersistError::SetUp { doing: "start a fetch", source })?;
        }
        Ok(Fetcher { shared, queue })
    }

    /// Fetches a job later; its end is an event. `false`: too many wait.
    pub(super) fn ask(&self, request: FetchRequest) -> bool {
        !matches!(self.queue.try_send(request), Err(TrySendError::Full(_)))
    }

    /// Fetches a job that a query names, and waits for that.
    ///
    /// # Errors
    /// The store's reason, in words.
    pub(super) fn fetch(&self, job: JobId) -> Result<(), String> {
        self.shared.fetch(FetchRequest { job, created_ns: 0, ended_ns: 0 })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashSet<JobId>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a job in the local store, if the remote one has it.
    fn fetch(&self, request: FetchRequest) -> Result<(), String> {
        let job = request.job;
        let mut busy = self.lock();
        while !busy.insert(job) {
            busy = self.news.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        drop(busy);
        let done = if self.is_here(job) { Ok(()) } else { self.copy(request) };
        self.lock().remove(&job);
        self.news.notify_all();
        done
    }

    /// Whether the local files are all there is: complete, being written, or deleted for good.
    fn is_here(&self, job: JobId) -> bool {
        self.store.is_complete(job) || self.store.is_deleted(job) || self.janitor.has(job)
    }

    fn copy(&self, request: FetchRequest) -> Result<(), String> {
        let FetchRequest { job, created_ns, ended_ns } = request;
        let is_known = ended_ns > 0;
        let words = |why: super::store::StoreError| why.to_string();
        let times = if is_known { (created_ns, ended_ns) } else { (now_ns() - RANGE_NS, now_ns()) };
        let has_some = self.remote.fetch(job, &self.store, times)?;
        if !has_some && !is_known {
            return Ok(());
        }
        self.store.mark_copy(job).map_err(words)?;
        self.janitor.fetched(job);
        let mut files = self.store.job(job).map_err(words)?;
        let resume = files.resume();
        let ended_ns = if is_known { ended_ns } else { now_ns() };
        let samples = resume.sequence(super::store::Kind::Samples);
        files.end(ended_ns, resume.through, samples).map_err(words)?;
        diag::event!(
            Level::Info,
            "fetched history from the remote store",
            jobId = job,
            rows = files.resume().through
        );
        let _ = self.store_tasks.send(StoreTask::Shrink);
        Ok(())
    }
}
