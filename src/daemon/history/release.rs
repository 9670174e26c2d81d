//! The thread that takes out of the spools what history has: it waits for disks, so it is no other thread's task.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::Level;

use super::HistoryEvent;
use crate::daemon::DaemonError;
use crate::diag;
use crate::job::JobId;
use crate::output::{Collector, release};

/// Bytes that go at once, unless the job waits for room.
const LEAST: u64 = 4 << 20;
/// Time until a release that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The part of a job that history has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// Rows up to this one. Whether the job waits for room: then every page counts.
    Rows(u64, bool),
    /// All of it.
    All,
}

/// Jobs whose spools have something that history has too, each at most once.
#[derive(Debug, Default)]
pub(super) struct Releases {
    queue: Mutex<Queue>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: BTreeMap<JobId, (PathBuf, Kept)>,
    /// Jobs whose release failed, and when they are tried again. A job that waits for room asks for it once.
    failed: BTreeMap<JobId, (PathBuf, Kept)>,
    again_at: Option<Instant>,
    closed: bool,
}

impl Queue {
    /// Takes in again what failed, unless a later word about a job says more.
    fn retry(&mut self) {
        self.again_at = None;
        for (job, (dir, kept)) in std::mem::take(&mut self.failed) {
            let known = self.jobs.get(&job).map(|(_, known)| *known);
            self.jobs.insert(job, (dir, known.map_or(kept, |known| known.with(kept))));
        }
    }
}

impl Kept {
    /// Both words about one job.
    fn with(self, other: Kept) -> Kept {
        match (self, other) {
            (Kept::Rows(a, waits), Kept::Rows(b, others)) => Kept::Rows(a.max(b), waits || others),
            _ => Kept::All,
        }
    }
}

impl Releases {
    /// Has a spool relieved of what history has. A later word about a job replaces an earlier one.
    pub(super) fn put(&self, job: JobId, dir: PathBuf, kept: Kept) {
        self.lock().jobs.insert(job, (dir, kept));
        self.news.notify_one();
    }

    /// Ends the thread when the queue is empty.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.news.notify_one();
    }

    /// A release failed: it is tried again later.
    fn failed(&self, job: JobId, dir: PathBuf, kept: Kept, now: Instant) {
        let mut queue = self.lock();
        queue.failed.insert(job, (dir, kept));
        queue.again_at.get_or_insert(now + AGAIN);
    }

    fn take(&self) -> Option<(JobId, PathBuf, Kept)> {
        let mut queue = self.lock();
        loop {
            let now = Instant::now();
            if queue.again_at.is_some_and(|at| at <= now) {
                queue.retry();
            }
            if let Some((job, (dir, kept))) = queue.jobs.pop_first() {
                return Some((job, dir, kept));
            }
            if queue.closed {
                return None;
            }
            queue = match queue.again_at {
                Some(at) => self.news.wait_timeout(queue, at - now).unwrap_or_else(PoisonError::into_inner).0,
                None => self.news.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread.
///
/// # Errors
/// No thread.
pub(super) fn start(
    collector: Collector,
    report: impl Fn(HistoryEvent) + Send + 'static,
) -> Result<(Arc<Releases>, JoinHandle<()>), DaemonError> {
    let releases = Arc::new(Releases::default());
    let queue = releases.clone();
    let run = move || {
        while let Some((job, dir, kept)) = queue.take() {
            if let Err(why) = relieve(&collector, job, &dir, kept) {
                diag::limited!(Level::Warn, "cannot release what history has", jobId = job, error = why);
                if kept != Kept::All {
                    queue.failed(job, dir, kept, Instant::now());
                }
            }
            if kept == Kept::All {
                report(HistoryEvent::Complete(job));
            }
        }
    };
    let thread = std::thread::Builder::new().name("release".into()).spawn(run);
    Ok((releases, thread.map_err(|source| DaemonError::Thread { name: "release", source })?))
}

fn relieve(
    collector: &Collector,
    job: JobId,
    dir: &std::path::Path,
    kept: Kept,
) -> Result<(), crate::output::OutputError> {
    match kept {
        Kept::All => release::remove(dir),
        Kept::Rows(through, waits) => {
            let done = release::release(dir, through, if waits { 1 } else { LEAST });
            // The header says what is released, whatever failed behind it: the next try finds nothing more to release.
            let header = done.as_ref().map_or_else(|_| release::released(dir), Clone::clone);
            if let Some(header) = header {
                collector.released(job, header.bytes());
            }
            done.map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_word_about_a_job_replaces_the_earlier_one() {
        let releases = Releases::default();
        let (a, b) = (JobId::random(), JobId::random());
        for (job, kept) in [(a, Kept::Rows(1, false)), (b, Kept::Rows(2, true)), (a, Kept::All)] {
            releases.put(job, "/x".into(), kept);
        }
        releases.close();
        let mut taken: Vec<(JobId, Kept)> =
            std::iter::from_fn(|| releases.take().map(|(job, _, kept)| (job, kept))).collect();
        taken.sort_by_key(|(job, _)| *job != a);
        assert_eq!(taken, [(a, Kept::All), (b, Kept::Rows(2, true))]);
    }

    #[test]
    fn failed_release_is_tried_again_with_what_came_since() {
        let releases = Releases::default();
        let [a, b, c] = [JobId::random(), JobId::random(), JobId::random()];
        let past = Instant::now().checked_sub(AGAIN).unwrap();
        for (job, kept) in [(a, Kept::Rows(5, true)), (b, Kept::Rows(5, true)), (c, Kept::Rows(5, false))] {
            releases.failed(job, "/x".into(), kept, past);
        }
        releases.put(b, "/x".into(), Kept::Rows(7, false));
        releases.put(c, "/x".into(), Kept::All);
        releases.close();
        let taken: BTreeMap<JobId, Kept> =
            std::iter::from_fn(|| releases.take().map(|(job, _, kept)| (job, kept))).collect();
        let wanted = [(a, Kept::Rows(5, true)), (b, Kept::Rows(7, true)), (c, Kept::All)];
        assert_eq!(taken, BTreeMap::from(wanted));
    }
}
