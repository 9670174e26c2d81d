//! Jobs that have ended and whose output or evidence is still to come: those that take too long are noticed.
//!
//! Nearly every job is complete a moment after its end, so a job has no timer of its own here. One timer at a time stands
//! for the job that waits longest.

use std::collections::VecDeque;
use std::time::Instant;

use crate::job::JobId;

/// Jobs in the order of their ends, from the first one that is not complete on.
#[derive(Debug, Default)]
pub(super) struct Drains {
    waiting: VecDeque<(Instant, JobId)>,
    /// Whether a timer is set.
    timed: bool,
}

impl Drains {
    /// Adds a job that has ended; it is late at that time. Jobs that are complete leave. Returns the time of a timer to be
    /// set, if none is.
    pub(super) fn add(
        &mut self,
        late_at: Instant,
        id: JobId,
        drains: impl Fn(JobId) -> bool,
    ) -> Option<Instant> {
        self.leave(drains);
        self.waiting.push_back((late_at, id));
        self.timer()
    }

    /// The timer has fired: the jobs that are late by now, and the time of the next timer.
    pub(super) fn late(
        &mut self,
        now: Instant,
        drains: impl Fn(JobId) -> bool,
    ) -> (Vec<JobId>, Option<Instant>) {
        self.timed = false;
        let mut late = Vec::new();
        while let Some((_, id)) = self.waiting.front().copied().filter(|(at, _)| *at <= now) {
            self.waiting.pop_front();
            late.extend(drains(id).then_some(id));
        }
        self.leave(drains);
        (late, self.timer())
    }

    fn leave(&mut self, drains: impl Fn(JobId) -> bool) {
        while self.waiting.front().is_some_and(|(_, id)| !drains(*id)) {
            self.waiting.pop_front();
        }
    }

    fn timer(&mut self) -> Option<Instant> {
        let (at, _) = self.waiting.front()?;
        (!std::mem::replace(&mut self.timed, true)).then_some(*at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::HashSet;
    use std::time::Duration;

    #[test]
    fn quick_jobs_leave_neither_entry_nor_timer() {
        let (start, draining) = (Instant::now(), RefCell::new(HashSet::new()));
        let drains = |id| draining.borrow().contains(&id);
        let mut all = Drains::default();
        let mut timers = 0;
        for ms in 0..1000 {
            let id = JobId::random();
            draining.borrow_mut().insert(id);
            timers += usize::from(all.add(start + Duration::from_millis(ms), id, drains).is_some());
            draining.borrow_mut().remove(&id);
        }
        assert_eq!((timers, all.waiting.len()), (1, 1));
        assert_eq!(all.late(start + Duration::from_secs(9), drains), (vec![], None));
    }

    #[test]
    fn slow_job_is_late_once_and_at_its_time() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let (slow, slower) = (JobId::random(), JobId::random());
        let mut all = Drains::default();
        assert_eq!(all.add(at(5), slow, |_| true), Some(at(5)));
        assert_eq!(all.add(at(7), slower, |_| true), None);
        assert_eq!(all.late(at(5), |_| true), (vec![slow], Some(at(7))));
        assert_eq!(all.late(at(7), |id| id == slower), (vec![slower], None));
        assert_eq!(all.late(at(9), |_| true), (vec![], None));
    }
}
