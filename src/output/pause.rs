//! Pipes that are left alone for a while: those that wait for the disk, and those of jobs that make calls late.
//!
//! A job can make one call on its pipes late after another, each shorter than the time after which it is ended. It need
//! not mean to: a writer whose processor limit stops it keeps the lock of its pipe too. Each late call costs the output of
//! all others [`LATE`]. So the job is not ended, but after a late call its pipes rest, for [`REST`] times the number of
//! jobs that rest. All these jobs together thus cost the others a twentieth of the time. A pipe without a writer never
//! rests: nobody can keep its lock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::handoff::LATE;
use crate::job::JobId;

/// Time after which a stream whose disk is full tries again. The job waits with its pipe full.
const STALL: Duration = Duration::from_secs(1);
/// The rest of a job's pipes after a late call, where no other job rests.
const REST: Duration = LATE.saturating_mul(20);

/// The pauses of all pipes. There are no more rests than jobs.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    /// The time at which pipes that wait for the disk are tried again.
    disk: Option<Instant>,
    /// The ends of rests.
    rests: HashMap<JobId, Instant>,
}

/// The pauses that are over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Over {
    /// Whether to try the disk again.
    pub(super) disk: bool,
    /// The jobs that have rested.
    pub(super) jobs: Vec<JobId>,
}

impl Pauses {
    /// The disk does not take a pipe's bytes.
    pub(super) fn stall(&mut self, now: Instant) {
        self.disk.get_or_insert(now + STALL);
    }

    /// A call on a pipe of this job was late.
    pub(super) fn rest(&mut self, now: Instant, id: JobId) {
        self.rests.insert(id, now);
        let jobs = u32::try_from(self.rests.len()).unwrap_or(u32::MAX);
        self.rests.insert(id, now + REST.saturating_mul(jobs));
    }

    /// Whether the pipes of this job rest.
    pub(super) fn has_rest(&self, id: JobId) -> bool {
        self.rests.contains_key(&id)
    }

    /// The job's output is complete.
    pub(super) fn forget(&mut self, id: JobId) {
        self.rests.remove(&id);
    }

    /// The time at which a pause is over.
    pub(super) fn next(&self) -> Option<Instant> {
        self.rests.values().copied().chain(self.disk).min()
    }

    /// Ends the pauses that are over.
    pub(super) fn end(&mut self, now: Instant) -> Over {
        let disk = self.disk.take_if(|at| *at <= now).is_some();
        let jobs = self.rests.extract_if(|_, at| *at <= now).map(|(id, _)| id).collect();
        Over { disk, jobs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_end_at_their_times() {
        let (start, id) = (Instant::now(), JobId::random());
        let mut pauses = Pauses::default();
        assert_eq!((pauses.next(), pauses.has_rest(id)), (None, false));
        pauses.stall(start);
        pauses.stall(start + STALL / 2);
        assert_eq!(pauses.next(), Some(start + STALL));
        pauses.rest(start + STALL / 2, id);
        assert_eq!(pauses.end(start + STALL), Over { disk: true, jobs: vec![] });
        assert_eq!((pauses.next(), pauses.has_rest(id)), (Some(start + STALL / 2 + REST), true));
        assert_eq!(pauses.end(start + STALL / 2 + REST), Over { disk: false, jobs: vec![id] });
        pauses.rest(start, id);
        pauses.forget(id);
        assert_eq!((pauses.next(), pauses.has_rest(id)), (None, false));
    }

    /// The share of the time that jobs take whose every call is late.
    fn share(jobs: usize) -> f64 {
        let start = Instant::now();
        let mut now = start;
        let mut pauses = Pauses::default();
        let mut ready: Vec<JobId> = (0..jobs).map(|_| JobId::random()).collect();
        // Each has had its first late call.
        ready.drain(..).for_each(|id| pauses.rest(now, id));
        let mut late = Duration::ZERO;
        while now < start + Duration::from_secs(1000) {
            ready.extend(pauses.end(now).jobs);
            match ready.pop() {
                Some(id) => {
                    now += LATE;
                    late += LATE;
                    pauses.rest(now, id);
                }
                None => now = pauses.next().unwrap(),
            }
        }
        late.as_secs_f64() / (now - start).as_secs_f64()
    }

    #[test]
    fn late_jobs_take_a_small_share_however_many_they_are() {
        for jobs in [1, 10, 100, 1000] {
            let share = share(jobs);
            assert!((0.01..0.06).contains(&share), "{jobs} jobs take {share}");
        }
    }
}
