//! The right to run, and the queue of jobs that wait for it, first come, first served.
//!
//! Jobs that want GPUs have a lane of their own: where the first of them waits for GPUs, jobs without such a wish go past it,
//! and other jobs with one do not, so that no wish is too large to be met some day.

use std::collections::VecDeque;

use crate::daemon::token::{Counter, Token};
use crate::job::{JobId, JobSpec};

/// The right of one job to run. It comes back when it is dropped.
#[derive(Debug)]
pub(in crate::daemon) struct Slot(#[expect(dead_code, reason = "counts as long as it lives")] Token);

/// A number in the queue's order; it is never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::daemon) struct Ticket(u64);

/// The part of the queue in which a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::daemon) enum Lane {
    /// Jobs that need nothing but a slot.
    Plain,
    /// Jobs that need GPUs too.
    Gpu,
}

impl Lane {
    /// The lane of a job.
    pub(in crate::daemon) fn of(spec: &JobSpec) -> Lane {
        if spec.gpus.is_some() { Lane::Gpu } else { Lane::Plain }
    }
}

/// Jobs of one lane. Tickets rise, so a job is found by halving.
type Waiting = VecDeque<(Ticket, JobId)>;

/// Slots and the queue for them.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Slots {
    limit: usize,
    taken: Counter,
    plain: Waiting,
    gpu: Waiting,
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

    /// A free slot for a job that starts without waiting; `None` where none is free or others wait before it.
    pub(in crate::daemon) fn take(&mut self, lane: Lane) -> Option<Slot> {
        self.is_open(lane).then(|| Slot(self.taken.token()))
    }

    /// A slot for the job that waits longest, which leaves the queue; `None` where none is free or nobody waits. With
    /// `gpus`, the first job of that lane can have its GPUs.
    pub(in crate::daemon) fn take_first(&mut self, gpus: bool) -> Option<(JobId, Slot)> {
        if !self.is_free() {
            return None;
        }
        let (_, id) = self.next_lane(gpus)?.pop_front()?;
        Some((id, Slot(self.taken.token())))
    }

    /// The lane whose first job is next.
    fn next_lane(&mut self, gpus: bool) -> Option<&mut Waiting> {
        let ticket = |lane: &Waiting| lane.front().map(|(ticket, _)| *ticket);
        match (ticket(&self.plain), ticket(&self.gpu).filter(|_| gpus)) {
            (None, None) => None,
            (Some(plain), Some(gpu)) if gpu < plain => Some(&mut self.gpu),
            (None, Some(_)) => Some(&mut self.gpu),
            (Some(_), _) => Some(&mut self.plain),
        }
    }

    /// The slot of a job that an earlier daemon started, beyond the limit too.
    pub(in crate::daemon) fn adopt(&mut self) -> Slot {
        Slot(self.taken.token())
    }

    /// Whether a job that came now would get a slot at once. A job without GPUs goes past those that wait for some.
    pub(in crate::daemon) fn is_open(&self, lane: Lane) -> bool {
        self.is_free() && self.plain.is_empty() && (lane == Lane::Plain || self.gpu.is_empty())
    }

    /// Jobs that can come before one of those that run ends.
    pub(in crate::daemon) fn free(&self) -> usize {
        self.limit.saturating_sub(self.taken.count())
    }

    fn is_free(&self) -> bool {
        self.free() > 0
    }

    /// Puts a job at the end of the queue.
    pub(in crate::daemon) fn queue(&mut self, id: JobId, lane: Lane) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        match lane {
            Lane::Plain => self.plain.push_back((ticket, id)),
            Lane::Gpu => self.gpu.push_back((ticket, id)),
        }
        ticket
    }

    /// The job that is next; see [`Slots::take_first`].
    pub(in crate::daemon) fn first(&mut self, gpus: bool) -> Option<JobId> {
        Some(self.next_lane(gpus)?.front()?.1)
    }

    /// The first of the jobs that wait for GPUs.
    pub(in crate::daemon) fn first_with_gpus(&self) -> Option<JobId> {
        self.gpu.front().map(|(_, id)| *id)
    }

    /// Takes a job out of the queue, wherever it stands.
    pub(in crate::daemon) fn leave(&mut self, ticket: Ticket) {
        for lane in [&mut self.plain, &mut self.gpu] {
            if let Ok(at) = find(lane, ticket) {
                lane.remove(at);
            }
        }
    }

    /// A job's position in the queue, from 1; `None` where it does not wait.
    pub(in crate::daemon) fn position(&self, ticket: Ticket) -> Option<u32> {
        let (plain, gpu) = (find(&self.plain, ticket), find(&self.gpu, ticket));
        let before = |found: Result<usize, usize>| found.unwrap_or_else(|at| at);
        (plain.is_ok() || gpu.is_ok()).then(|| (before(plain) + before(gpu)) as u32 + 1)
    }

    /// The number of jobs that wait.
    pub(in crate::daemon) fn waiting(&self) -> usize {
        self.plain.len() + self.gpu.len()
    }
}

/// Where a ticket is in a lane, or would be.
fn find(lane: &Waiting, ticket: Ticket) -> Result<usize, usize> {
    lane.binary_search_by_key(&ticket, |(ticket, _)| *ticket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_move_up_when_a_job_leaves() {
        let mut slots = Slots::new(1);
        let ids: Vec<JobId> = (0..3).map(|_| JobId::random()).collect();
        let tickets: Vec<Ticket> = ids.iter().map(|id| slots.queue(*id, Lane::Plain)).collect();
        assert_eq!(slots.position(tickets[2]), Some(3));
        slots.leave(tickets[1]);
        slots.leave(tickets[1]);
        assert_eq!((slots.position(tickets[2]), slots.position(tickets[1])), (Some(2), None));
        slots.leave(tickets[0]);
        assert_eq!((slots.first(false), slots.waiting()), (Some(ids[2]), 1));
    }

    #[test]
    fn dropped_slot_goes_to_the_first_that_waits() {
        let mut slots = Slots::new(1);
        let slot = slots.take(Lane::Plain);
        assert!(slot.is_some() && slots.take(Lane::Plain).is_none());
        let (first, second) = (JobId::random(), JobId::random());
        slots.queue(first, Lane::Plain);
        slots.queue(second, Lane::Plain);
        assert!(slots.take_first(false).is_none());
        drop(slot);
        assert!(slots.take(Lane::Plain).is_none(), "others wait");
        let (id, _slot) = slots.take_first(false).unwrap();
        assert_eq!((id, slots.first(false)), (first, Some(second)));
    }

    #[test]
    fn jobs_without_gpus_go_past_those_that_wait_for_some() {
        let mut slots = Slots::new(3);
        let ids: Vec<JobId> = (0..4).map(|_| JobId::random()).collect();
        let lanes = [Lane::Gpu, Lane::Plain, Lane::Gpu, Lane::Plain];
        let tickets: Vec<Ticket> = ids.iter().zip(lanes).map(|(id, lane)| slots.queue(*id, lane)).collect();
        let positions: Vec<_> = tickets.iter().map(|ticket| slots.position(*ticket)).collect();
        assert_eq!(positions, [Some(1), Some(2), Some(3), Some(4)]);
        // The first one's GPUs are in use, and the third one does not take its turn.
        let (next, slot) = slots.take_first(false).unwrap();
        assert_eq!((next, slots.first_with_gpus()), (ids[1], Some(ids[0])));
        assert_eq!((slots.first(true), slots.first(false)), (Some(ids[0]), Some(ids[3])));
        let (next, _other) = slots.take_first(true).unwrap();
        assert_eq!((next, slots.first(true)), (ids[0], Some(ids[2])));
        slots.leave(tickets[3]);
        assert!(slots.is_open(Lane::Plain) && !slots.is_open(Lane::Gpu) && slots.take(Lane::Gpu).is_none());
        drop(slot);
        assert_eq!((slots.position(tickets[2]), slots.waiting()), (Some(1), 1));
    }
}
