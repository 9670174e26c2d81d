//! How far a job's output has come, or its samples: what who writes them and the loop tell, and readers ask.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use super::{Full, Stream};
use crate::job::JobId;

/// Called with a job's id when it has news and somebody watches. Must not block.
pub type Notify = Arc<dyn Fn(JobId) + Send + Sync>;

/// Whom to tell of what.
#[derive(Clone)]
pub struct Notifiers {
    /// New output.
    pub output: Notify,
    /// New samples.
    pub samples: Notify,
}

/// Shared by who writes (the collector rows of output, the sampler bytes of samples), the loop (says the end) and
/// readers. Of samples, a row is a byte.
pub struct Watermark {
    id: JobId,
    rows: AtomicU64,
    ended: AtomicBool,
    watched: AtomicBool,
    told: AtomicBool,
    /// What each stream waits for.
    waits: [AtomicU8; 2],
    /// The limit for which the job is to end.
    over: AtomicU8,
    tell: Notify,
}

const NOTHING: u8 = 0;

fn number(full: Option<Full>) -> u8 {
    match full {
        None => NOTHING,
        Some(Full::Job) => 1,
        Some(Full::All) => 2,
        Some(Full::Disk) => 3,
    }
}

fn full(number: u8) -> Option<Full> {
    [Full::Job, Full::All, Full::Disk].get(usize::from(number).checked_sub(1)?).copied()
}

impl Watermark {
    /// Nothing has come yet.
    pub fn new(id: JobId, tell: Notify) -> Arc<Self> {
        Arc::new(Watermark {
            id,
            rows: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            told: AtomicBool::new(false),
            waits: Default::default(),
            over: AtomicU8::new(NOTHING),
            tell,
        })
    }

    /// Rows up to this one may be read.
    pub fn publish(&self, rows: u64) {
        self.rows.store(rows, Ordering::SeqCst);
        self.news();
    }

    /// The job is terminal and what is written complete: readers end when they have read all rows.
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.news();
    }

    /// From now on news are told.
    pub fn watch(&self) {
        self.watched.store(true, Ordering::SeqCst);
    }

    /// What is there: rows that may be read, and whether more may come. Ask after [`Watermark::acknowledged`].
    pub fn look(&self) -> (u64, bool) {
        // The end is read first: rows published before it are then seen.
        let ended = self.ended.load(Ordering::SeqCst);
        (self.rows.load(Ordering::SeqCst), ended)
    }

    /// The watcher has the news; the next ones are told again. At most one telling is under way per job, so
    /// a watcher's queue is bounded by the number of jobs.
    pub fn acknowledged(&self) {
        self.told.store(false, Ordering::SeqCst);
    }

    /// What its output waits for, if it does. Its pipes stay full meanwhile.
    pub fn waits(&self) -> Option<Full> {
        self.waits.iter().find_map(|of_stream| full(of_stream.load(Ordering::SeqCst)))
    }

    pub(super) fn set_waits(&self, stream: Stream, what: Option<Full>) {
        self.waits[stream.place()].store(number(what), Ordering::SeqCst);
    }

    /// The limit that it was ended for.
    pub fn over(&self) -> Option<Full> {
        full(self.over.load(Ordering::SeqCst))
    }

    pub(super) fn set_over(&self, what: Full) {
        self.over.store(number(Some(what)), Ordering::SeqCst);
    }

    fn news(&self) {
        if self.watched.load(Ordering::SeqCst) && !self.told.swap(true, Ordering::SeqCst) {
            (self.tell)(self.id);
        }
    }
}

impl fmt::Debug for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, ended) = self.look();
        write!(f, "Watermark({}: {rows} rows, ended {ended})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn a_job_waits_while_one_of_its_streams_does() {
        let watermark = Watermark::new(JobId::random(), Arc::new(|_| {}));
        assert_eq!((watermark.waits(), watermark.over()), (None, None));
        for what in [Full::Job, Full::All, Full::Disk] {
            watermark.set_waits(Stream::Stderr, Some(what));
            watermark.set_over(what);
            assert_eq!((watermark.waits(), watermark.over()), (Some(what), Some(what)));
        }
        watermark.set_waits(Stream::Stderr, None);
        assert_eq!(watermark.waits(), None);
    }

    #[test]
    fn watermark_notifies_once_until_acknowledged_while_watched() {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        let tell: Notify = Arc::new(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        let watermark = Watermark::new(JobId::random(), tell);
        watermark.publish(1);
        assert_eq!(count.load(Ordering::SeqCst), 0);
        watermark.watch();
        watermark.publish(2);
        watermark.publish(3);
        assert_eq!(count.load(Ordering::SeqCst), 1);
        watermark.acknowledged();
        watermark.end();
        assert_eq!(count.load(Ordering::SeqCst), 2);
        assert_eq!(watermark.look(), (3, true));
    }
}
