//! The thread with time: it packs the files of jobs that have ended, deletes what is old, and empties the trash.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, unbounded};
use log::Level;

use super::PersistError;
use super::remote::RemoteStore;
use super::store::{JobFiles, Keep, LocalStore, Packer};
use crate::config::daemon::persist::PersistRetention;
use crate::diag;
use crate::job::JobId;

const DAY: u64 = 24 * 3600;
/// Time until the first look for what is old.
const FIRST: Duration = Duration::from_secs(60);
/// Time for which a copy stays that a reader wanted.
const FRESH: Duration = Duration::from_secs(60);

/// A task of the thread.
#[derive(Debug)]
pub(super) enum StoreTask {
    /// The files of a job that has ended may be packed.
    Pack(Box<JobFiles>),
    /// Something is in the trash.
    Trash,
    /// The local files, which are a cache, have become more.
    Shrink,
}

/// The local store is the cache of a remote one.
#[derive(Debug)]
pub(super) struct Cache {
    /// The remote store.
    pub(super) remote: Arc<dyn RemoteStore>,
    /// Bytes that the local files may have.
    pub(super) bytes: u64,
}

/// The loop's side: it says which jobs must not expire.
#[derive(Debug, Clone, Default)]
pub(super) struct Janitor {
    known: Arc<Mutex<HashSet<JobId>>>,
    /// Jobs that were fetched a moment ago: whoever wanted them is about to read them.
    fetched: Arc<Mutex<HashMap<JobId, Instant>>>,
}

impl Janitor {
    /// Starts the thread. Its tasks go into the channel.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn start(
        store: &LocalStore,
        retention: &PersistRetention,
        cache: Option<Cache>,
    ) -> Result<(Janitor, Sender<StoreTask>), PersistError> {
        // As many as jobs that end or are deleted, once each.
        let (store_tasks, queue) = unbounded();
        let janitor = Janitor::default();
        let days = |days: u32| Some(Duration::from_secs(u64::from(days) * DAY));
        let keep = Keep { logs: days(retention.logs_days), metrics: days(retention.metrics_days) };
        let packer = Packer::new();
        let round = Round { store: store.clone(), janitor: janitor.clone(), keep, packer, cache };
        let interval = retention.cleanup_interval;
        let run = move || {
            crate::sys::thread::be_nice();
            round.run(&queue, interval);
        };
        let thread = std::thread::Builder::new().name("janitor".into()).spawn(run);
        thread.map_err(|source| PersistError::SetUp { doing: "start the janitor", source })?;
        Ok((janitor, store_tasks))
    }

    /// A job is being written: it must not expire.
    pub(super) fn knows(&self, job: JobId) {
        self.lock().insert(job);
    }

    /// A job is complete or deleted.
    pub(super) fn forget(&self, job: JobId) {
        self.lock().remove(&job);
    }

    /// Whether a job is being written.
    pub(super) fn has(&self, job: JobId) -> bool {
        self.lock().contains(&job)
    }

    /// A job was fetched for a reader: its copy must not go at once.
    pub(super) fn fetched(&self, job: JobId) {
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        fetched.retain(|_, since| since.elapsed() < FRESH);
        fetched.insert(job, Instant::now());
    }

    /// Whether the copy of a job has to stay, however full the cache is.
    fn keeps(&self, job: JobId) -> bool {
        let fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        self.has(job) || fetched.get(&job).is_some_and(|since| since.elapsed() < FRESH)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<JobId>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Round {
    store: LocalStore,
    janitor: Janitor,
    keep: Keep,
    packer: Packer,
    cache: Option<Cache>,
}

impl Round {
    fn run(mut self, queue: &Receiver<StoreTask>, interval: Duration) {
        // The daemon says first which jobs run: a quiet one may look old.
        let mut expire_at = Instant::now() + interval.min(FIRST);
        // An earlier process may have left some.
        self.empty_trash();
        loop {
            if expire_at <= Instant::now() {
                self.expire(queue);
                self.expire_remote();
                self.shrink();
                expire_at = Instant::now() + interval;
            }
            match queue.recv_deadline(expire_at) {
                Ok(task) => self.carry_out(task),
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => {}
                Err(crossbeam_channel::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn carry_out(&mut self, task: StoreTask) {
        match task {
            StoreTask::Pack(files) => self.pack(files),
            StoreTask::Trash => self.empty_trash(),
            StoreTask::Shrink => self.shrink(),
        }
    }

    /// Lets old jobs go that the remote store has.
    fn shrink(&self) {
        let Some(cache) = &self.cache else { return };
        match self.store.shrink(cache.bytes, &|job| self.janitor.keeps(job)) {
            Ok(0) => {}
            Ok(jobs) => {
                diag::event!(
                    Level::Info,
                    "the local copies of old jobs are gone, the cache is full",
                    jobs = jobs
                );
                self.empty_trash();
            }
            Err(why) => diag::limited!(Level::Warn, "cannot make room in the cache of history", error = why),
        }
    }

    fn expire_remote(&self) {
        let Some(cache) = &self.cache else { return };
        if let Err(why) = cache.remote.expire(&|job| self.janitor.has(job)) {
            diag::limited!(Level::Warn, "cannot forget notes of old jobs", error = why);
        }
    }

    fn pack(&mut self, mut files: Box<JobFiles>) {
        if let Err(why) = files.pack(&mut self.packer) {
            diag::limited!(Level::Warn, "cannot pack history; it stays as it is", error = why);
        }
    }

    /// Moves old history into the trash, a hundred directories at a time, and packs in between.
    fn expire(&mut self, queue: &Receiver<StoreTask>) {
        let janitor = self.janitor.clone();
        let is_known = move |job| janitor.has(job);
        let (mut walk, mut removed) = (self.store.expiry(self.keep), 0);
        loop {
            let step = walk.step(SystemTime::now(), &is_known);
            removed += step.removed;
            if let Some(why) = step.failed {
                diag::limited!(Level::Warn, "cannot delete old history", error = why);
            }
            if step.is_done {
                break;
            }
            queue.try_iter().for_each(|task| self.carry_out(task));
        }
        let tombstones = self.store.expire_tombstones(SystemTime::now(), &is_known);
        if removed > 0 {
            diag::event!(Level::Info, "deleted old history", directories = removed, tombstones = tombstones);
        }
        self.empty_trash();
    }

    fn empty_trash(&self) {
        if let Err(why) = self.store.empty_trash() {
            diag::limited!(Level::Warn, "cannot remove deleted history", error = why);
        }
    }
}

#[cfg(test)]
#[path = "janitor_tests.rs"]
mod tests;
