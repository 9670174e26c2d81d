//! Timers of the loop. Entries are not cancelled one by one: one that comes too late finds its job in another state, and
//! the pure `step` ignores it. They are weeded out when there are many.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::cleanup::BusyCgroup;
use crate::job::JobId;
use crate::job::exec::ExecId;

/// Something that becomes due.
#[derive(Debug)]
pub(super) enum Timer {
    /// The grace period of a job that is being stopped is over.
    Grace(JobId),
    /// The timeout of a job is over.
    Timeout(JobId),
    /// A job may have been paused for as long as the node allows.
    PauseOver(JobId),
    /// A job that has ended has had long enough for its output and its evidence.
    Drain(JobId),
    /// A busy cgroup is to be removed now.
    Cgroup(BusyCgroup),
    /// Children that hang in the kernel are to be looked for.
    Stuck,
    /// The pool is to be refilled if nothing starts or ends.
    Quiet,
    /// The output of an ended job that is live only goes.
    LiveOver(JobId),
    /// A command in a job was not executed yet, at so many looks.
    ExecStuck(ExecId, u32),
    /// The timeout of a command in a job is over.
    ExecTimeout(ExecId),
    /// A command in a job that must end has had its grace.
    ExecKill(ExecId),
    /// A command that has ended has had long enough for its output.
    ExecDrain(ExecId),
    /// Old jobs are to be forgotten.
    Expired,
    /// The timer of scheduled jobs failed: their times are to be looked at again.
    Schedule,
    /// Jobs of workflows could not be submitted, because the node had too little of something.
    Feed,
    /// The daemon's own end takes too long.
    ShutdownOver,
}

/// The loop's timers.
pub(super) type Timers = Heap<Timer>;

/// A heap of due times.
#[derive(Debug)]
pub(super) struct Heap<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    count: u64,
}

#[derive(Debug)]
struct Entry<T> {
    at: Instant,
    // Equal times fire in the order in which they were set.
    order: u64,
    what: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl<T> Eq for Entry<T> {}
impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl<T> Heap<T> {
    /// A heap without timers.
    pub(super) fn new() -> Self {
        Heap { heap: BinaryHeap::new(), count: 0 }
    }

    /// Fires `what` at a time.
    pub(super) fn set(&mut self, at: Instant, what: T) {
        self.count += 1;
        self.heap.push(Reverse(Entry { at, order: self.count, what }));
    }

    /// Drops what `keep` does not want, once the entries outnumber `live` things by far. A short job leaves an
    /// entry that is due when its timeout would have been.
    pub(super) fn weed(&mut self, live: usize, keep: impl Fn(&T) -> bool) {
        if self.heap.len() > 1024 + 8 * live {
            self.heap.retain(|Reverse(entry)| keep(&entry.what));
        }
    }

    /// How long a poll may wait; `None` is for ever.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        self.heap.peek().map(|Reverse(entry)| entry.at.saturating_duration_since(now))
    }

    /// The next entry that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<T> {
        if self.heap.peek()?.0.at > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry.what)
    }
}

impl<T> Default for Heap<T> {
    fn default() -> Self {
        Heap::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_and_not_early() {
        let mut timers = Heap::new();
        let start = Instant::now();
        let later = |ms| start + Duration::from_millis(ms);
        for (ms, what) in [(20, 'c'), (10, 'a'), (10, 'b')] {
            timers.set(later(ms), what);
        }
        assert_eq!(timers.wait(start), Some(Duration::from_millis(10)));
        assert_eq!(timers.pop_due(start), None);
        let due: String = std::iter::from_fn(|| timers.pop_due(later(20))).collect();
        assert_eq!(due, "abc");
        assert_eq!(timers.wait(start), None);
    }

    #[test]
    fn many_idle_timers_are_weeded_out() {
        let mut timers = Heap::new();
        let at = Instant::now();
        for what in 0..2000 {
            timers.set(at, what);
            timers.weed(1, |what| *what == 7);
        }
        assert!(timers.heap.len() <= 1033, "{}", timers.heap.len());
        assert!(timers.pop_due(at) == Some(7));
    }
}
