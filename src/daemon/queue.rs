//! Jobs that wait for a place, first come, first served.

use std::collections::VecDeque;

use crate::job::JobId;

/// The queue. A ticket is a place in the order; it is never given twice.
#[derive(Debug, Default)]
pub(super) struct Queue {
    // Tickets rise, so a job is found by halving.
    waiting: VecDeque<(u64, JobId)>,
    last: u64,
}

impl Queue {
    /// Puts a job at the end.
    pub(super) fn push(&mut self, id: JobId) -> u64 {
        self.last += 1;
        self.waiting.push_back((self.last, id));
        self.last
    }

    /// Who is next.
    pub(super) fn first(&self) -> Option<JobId> {
        self.waiting.front().map(|(_, id)| *id)
    }

    /// Takes a job out, wherever it stands.
    pub(super) fn remove(&mut self, ticket: u64) {
        if let Ok(at) = self.find(ticket) {
            self.waiting.remove(at);
        }
    }

    /// A job's place, from 1; `None`: it does not wait.
    pub(super) fn position(&self, ticket: u64) -> Option<u32> {
        self.find(ticket).ok().map(|at| at as u32 + 1)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn find(&self, ticket: u64) -> Result<usize, usize> {
        self.waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_positions_move_up_when_a_job_leaves() {
        let mut queue = Queue::default();
        let ids: Vec<JobId> = (0..3).map(|_| JobId::random()).collect();
        let tickets: Vec<u64> = ids.iter().map(|id| queue.push(*id)).collect();
        assert_eq!(queue.position(tickets[2]), Some(3));
        queue.remove(tickets[1]);
        queue.remove(tickets[1]);
        assert_eq!((queue.position(tickets[2]), queue.position(tickets[1])), (Some(2), None));
        queue.remove(tickets[0]);
        assert_eq!((queue.first(), queue.len()), (Some(ids[2]), 1));
    }
}
