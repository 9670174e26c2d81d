//! A job's standing among those that want to run.

use super::backlog::Share;
use super::slots::{Slot, Ticket};

/// Its right to run, or its place in the queue for one; and its share of the bytes of jobs that wait, from its admission to
/// its end.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Standing {
    turn: Turn,
    share: Option<Share>,
}

#[derive(Debug, Default)]
enum Turn {
    // It neither runs nor waits for a slot.
    #[default]
    Out,
    Queued(Ticket),
    Running(#[expect(dead_code, reason = "counts as long as the job has it")] Slot),
}

impl Standing {
    /// It counts among those that wait.
    pub(in crate::daemon) fn set_share(&mut self, share: Option<Share>) {
        self.share = share;
    }

    /// Bytes of its request and inputs that count among those of jobs that wait.
    pub(in crate::daemon) fn share_bytes(&self) -> u64 {
        self.share.as_ref().map_or(0, Share::bytes)
    }

    /// It waits for a slot.
    pub(in crate::daemon) fn queue(&mut self, ticket: Ticket) {
        self.turn = Turn::Queued(ticket);
    }

    /// It has the right to run.
    pub(in crate::daemon) fn run(&mut self, slot: Slot) {
        self.turn = Turn::Running(slot);
    }

    /// Its place in the queue, where it waits for a slot.
    pub(in crate::daemon) fn ticket(&self) -> Option<Ticket> {
        match self.turn {
            Turn::Queued(ticket) => Some(ticket),
            Turn::Out | Turn::Running(_) => None,
        }
    }

    /// It waits no more: its place, to be taken out of the queue.
    pub(in crate::daemon) fn leave_queue(&mut self) -> Option<Ticket> {
        let ticket = self.ticket()?;
        self.turn = Turn::Out;
        Some(ticket)
    }

    /// Gives its slot back, if it has one.
    pub(in crate::daemon) fn give_slot_back(&mut self) {
        if let Turn::Running(_) = self.turn {
            self.turn = Turn::Out;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::slots::{Lane, Slots};
    use super::*;
    use crate::job::JobId;

    #[test]
    fn slot_comes_back_and_a_place_in_the_queue_stays() {
        let mut slots = Slots::new(1);
        let mut standing = Standing::default();
        standing.run(slots.take(Lane::Plain).unwrap());
        assert_eq!((slots.free(), standing.leave_queue(), slots.free()), (0, None, 0));
        standing.give_slot_back();
        assert_eq!(slots.free(), 1);
        let ticket = slots.queue(JobId::random(), Lane::Plain);
        standing.queue(ticket);
        standing.give_slot_back();
        assert_eq!((standing.leave_queue(), standing.ticket()), (Some(ticket), None));
    }
}
