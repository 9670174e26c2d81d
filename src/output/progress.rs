//! How far a job's output has come: what the collector and the loop tell, and readers ask.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::job::JobId;

/// Called with a job's id when it has news and somebody watches. Must not block.
pub type Tell = Arc<dyn Fn(JobId) + Send + Sync>;

/// Shared by the collector (writes rows), the loop (says the end) and readers.
pub struct Progress {
    id: JobId,
    rows: AtomicU64,
    ended: AtomicBool,
    watched: AtomicBool,
    told: AtomicBool,
    tell: Tell,
}

impl Progress {
    /// Nothing has come yet.
    pub fn new(id: JobId, tell: Tell) -> Arc<Self> {
        Arc::new(Progress {
            id,
            rows: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            told: AtomicBool::new(false),
            tell,
        })
    }

    /// Rows up to this one may be read.
    pub fn publish(&self, rows: u64) {
        self.rows.store(rows, Ordering::SeqCst);
        self.news();
    }

    /// The job is terminal and its output complete: readers end when they have read all rows.
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.news();
    }

    /// From now on news are told.
    pub fn watch(&self) {
        self.watched.store(true, Ordering::SeqCst);
    }

    /// What is there: rows that may be read, and whether more may come. Ask after [`Progress::heard`].
    pub fn look(&self) -> (u64, bool) {
        // The end is read first: rows published before it are then seen.
        let ended = self.ended.load(Ordering::SeqCst);
        (self.rows.load(Ordering::SeqCst), ended)
    }

    /// The watcher has the news; the next ones are told again. At most one telling is under way per job, so
    /// a watcher's queue is bounded by the number of jobs.
    pub fn heard(&self) {
        self.told.store(false, Ordering::SeqCst);
    }

    fn news(&self) {
        if self.watched.load(Ordering::SeqCst) && !self.told.swap(true, Ordering::SeqCst) {
            (self.tell)(self.id);
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, ended) = self.look();
        write!(f, "Progress({}: {rows} rows, ended {ended})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn news_are_told_once_until_heard_and_only_when_watched() {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        let tell: Tell = Arc::new(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        let progress = Progress::new(JobId::random(), tell);
        progress.publish(1);
        assert_eq!(count.load(Ordering::SeqCst), 0);
        progress.watch();
        progress.publish(2);
        progress.publish(3);
        assert_eq!(count.load(Ordering::SeqCst), 1);
        progress.heard();
        progress.end();
        assert_eq!(count.load(Ordering::SeqCst), 2);
        assert_eq!(progress.look(), (3, true));
    }
}
