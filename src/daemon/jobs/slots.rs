//! The right to run, and the queue of jobs that wait for it, first come, first served.

use std::collections::VecDeque;

use crate::daemon::token::{Counter, Token};
use crate::job::JobId;

/// The right of one job to run. It comes back when it is dropped.
#[derive(Debug)]
pub(in crate::daemon) struct Slot(#[expect(dead_code, reason = "counts as long as it lives")] Token);

/// A number in the queue's order; it is never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::daemon) struct Ticket(u64);

/// Slots and the queue for them.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Slots {
    limit: usize,
    taken: Counter,
    // Tickets rise, so a job is found by halving.
    waiting: VecDeque<(Ticket, JobId)>,
    last: u64,
}

impl Slots {
    /// `limit` slots (`joblet.maxConcurrentJobs`), all of them free.
    pub(in crate::daemon) fn new(limit: usize) -> Self {
        Slots { limit, ..Slots::default() }
    }

    /// All slots of the node.
    pub(in crate::daemon) fn limit(&self) -> usize {
        self.limit
    }

    /// A free slot for a job that starts without waiting; `None` where none is free or others wait.
    pub(in crate::daemon) fn take(&mut self) -> Option<Slot> {
        (self.is_free() && self.waiting.is_empty()).then(|| Slot(self.taken.token()))
    }

    /// A slot for the job that waits longest, which leaves the queue; `None` where none is free or nobody waits.
    pub(in crate::daemon) fn take_first(&mut self) -> Option<(JobId, Slot)> {
        if !self.is_free() {
            return None;
        }
        let (_, id) = self.waiting.pop_front()?;
        Some((id, Slot(self.taken.token())))
    }

    /// The slot of a job that an earlier daemon started, beyond the limit too.
    pub(in crate::daemon) fn adopt(&mut self) -> Slot {
        Slot(self.taken.token())
    }

    /// Whether a job that came now would get a slot at once.
    pub(in crate::daemon) fn is_open(&self) -> bool {
        self.is_free() && self.waiting.is_empty()
    }

    /// Jobs that can come before one of those that run ends.
    pub(in crate::daemon) fn free(&self) -> usize {
        self.limit.saturating_sub(self.taken.count())
    }

    fn is_free(&self) -> bool {
        self.free() > 0
    }

    /// Puts a job at the end of the queue.
    pub(in crate::daemon) fn queue(&mut self, id: JobId) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        self.waiting.push_back((ticket, id));
        ticket
    }

    /// The job that is next.
    pub(in crate::daemon) fn first(&self) -> Option<JobId> {
        self.waiting.front().map(|(_, id)| *id)
    }

    /// Takes a job out of the queue, wherever it stands.
    pub(in crate::daemon) fn leave(&mut self, ticket: Ticket) {
        if let Ok(at) = self.find(ticket) {
            self.waiting.remove(at);
        }
    }

    /// A job's position in the queue, from 1; `None` where it does not wait.
    pub(in crate::daemon) fn position(&self, ticket: Ticket) -> Option<u32> {
        self.find(ticket).ok().map(|at| at as u32 + 1)
    }

    /// The number of jobs that wait.
    pub(in crate::daemon) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn find(&self, ticket: Ticket) -> Result<usize, usize> {
        self.waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_move_up_when_a_job_leaves() {
        let mut slots = Slots::new(1);
        let ids: Vec<JobId> = (0..3).map(|_| JobId::random()).collect();
        let tickets: Vec<Ticket> = ids.iter().map(|id| slots.queue(*id)).collect();
        assert_eq!(slots.position(tickets[2]), Some(3));
        slots.leave(tickets[1]);
        slots.leave(tickets[1]);
        assert_eq!((slots.position(tickets[2]), slots.position(tickets[1])), (Some(2), None));
        slots.leave(tickets[0]);
        assert_eq!((slots.first(), slots.waiting()), (Some(ids[2]), 1));
    }

    #[test]
    fn dropped_slot_goes_to_the_first_that_waits() {
        let mut slots = Slots::new(1);
        let slot = slots.take();
        assert!(slot.is_some() && slots.take().is_none());
        let (first, second) = (JobId::random(), JobId::random());
        slots.queue(first);
        slots.queue(second);
        assert!(slots.take_first().is_none());
        drop(slot);
        assert!(slots.take().is_none(), "others wait");
        let (id, _slot) = slots.take_first().unwrap();
        assert_eq!((id, slots.first()), (first, Some(second)));
    }
}
