//! Jobs whose history is to be deleted, until the history process says that it is.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use super::WhenDeleted;
use crate::job::JobId;

/// Requests that are under way at one time.
const AT_ONCE: usize = 256;
/// How long a caller waits for the answer. The deletion is certain by then.
const PATIENCE: Duration = Duration::from_secs(5);

/// A call that waits for deletions.
struct Call {
    left: usize,
    until: Instant,
    done: WhenDeleted,
}

/// All deletions that are not done.
#[derive(Default)]
pub(super) struct Deletions {
    wanted: BTreeSet<JobId>,
    unsent: VecDeque<JobId>,
    sent: BTreeSet<JobId>,
    /// The call that waits for a job, by its number.
    waits: HashMap<JobId, u64>,
    calls: HashMap<u64, Call>,
    next: u64,
}

impl Deletions {
    /// Deletions that an earlier daemon did not see done.
    pub(super) fn of(wishes: Vec<JobId>) -> Deletions {
        let wanted: BTreeSet<JobId> = wishes.into_iter().collect();
        Deletions { unsent: wanted.iter().copied().collect(), wanted, ..Deletions::default() }
    }

    /// Wants the history of jobs deleted. `is_up`: the process hears of it now, so the caller waits for the answer.
    pub(super) fn add(&mut self, jobs: Vec<JobId>, done: WhenDeleted, is_up: bool, now: Instant) {
        let call = self.next;
        self.next += 1;
        let mut left = 0;
        for job in jobs {
            if self.wanted.insert(job) {
                self.unsent.push_back(job);
            }
            if self.waits.insert(job, call).is_none() {
                left += 1;
            }
        }
        if left == 0 || !is_up {
            done(left == 0);
        } else {
            self.calls.insert(call, Call { left, until: now + PATIENCE, done });
        }
    }

    /// The next job to ask for.
    pub(super) fn next_to_send(&mut self) -> Option<JobId> {
        if self.sent.len() >= AT_ONCE {
            return None;
        }
        let job = self.unsent.pop_front()?;
        self.sent.insert(job);
        Some(job)
    }

    /// Nothing is left of a job. Returns whether that was wanted.
    pub(super) fn deleted(&mut self, job: JobId) -> bool {
        self.sent.remove(&job);
        if let Some(number) = self.waits.remove(&job)
            && let Some(call) = self.calls.get_mut(&number)
        {
            call.left -= 1;
            if call.left == 0
                && let Some(call) = self.calls.remove(&number)
            {
                (call.done)(true);
            }
        }
        self.wanted.remove(&job)
    }

    /// The process is gone: it hears of everything again, and nobody waits for that.
    pub(super) fn disconnected(&mut self) {
        self.sent.clear();
        self.unsent = self.wanted.iter().copied().collect();
        self.dismiss(|_| true);
    }

    /// Callers have waited long enough.
    pub(super) fn give_up(&mut self, now: Instant) {
        self.dismiss(|call| call.until <= now);
    }

    fn dismiss(&mut self, which: impl Fn(&Call) -> bool) {
        let gone: Vec<u64> = self.calls.iter().filter(|(_, call)| which(call)).map(|(n, _)| *n).collect();
        for call in gone.iter().filter_map(|number| self.calls.remove(number)) {
            (call.done)(false);
        }
        self.waits.retain(|_, number| !gone.contains(number));
    }

    /// When the next caller has waited long enough.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.calls.values().map(|call| call.until).min()
    }
}

impl fmt::Debug for Deletions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Deletions({} wanted, {} calls)", self.wanted.len(), self.calls.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn caller_hears_of_the_last_deletion_or_that_it_will_come() {
        let now = Instant::now();
        let (told, heard) = channel();
        let call = |n: u8| -> WhenDeleted {
            let told = told.clone();
            Box::new(move |done| told.send((n, done)).unwrap())
        };
        let [a, b, c] = [JobId::random(), JobId::random(), JobId::random()];
        let mut deletions = Deletions::of(vec![c]);
        deletions.add(vec![a, b], call(1), true, now);
        assert_eq!(std::iter::from_fn(|| deletions.next_to_send()).count(), 3);
        assert!(deletions.deleted(a) && deletions.deleted(c) && heard.try_recv().is_err());
        assert!(deletions.deleted(b) && !deletions.deleted(b));
        assert_eq!(heard.try_recv(), Ok((1, true)));
        deletions.add(vec![a], call(2), false, now);
        assert_eq!(heard.try_recv(), Ok((2, false)));
        deletions.add(vec![b], call(3), true, now);
        deletions.give_up(now + PATIENCE);
        assert_eq!(heard.try_recv(), Ok((3, false)));
        deletions.disconnected();
        let mut again: Vec<JobId> = std::iter::from_fn(|| deletions.next_to_send()).collect();
        again.sort_unstable();
        let mut want = vec![a, b];
        want.sort_unstable();
        assert_eq!(again, want);
        deletions.add(vec![], call(4), true, now);
        assert_eq!(heard.try_recv(), Ok((4, true)));
    }
}
