//! Bytes of jobs that have to wait: their requests, in memory and in the database, and their inputs on disk, by client
//! and in total.
//!
//! A job's share counts from its admission to its end, because its staged inputs stay as long.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::job::ClientId;
use crate::job::units::format_size;

/// The values of `joblet.queueLimit` and `joblet.clientQueueLimit`.
#[derive(Debug, Clone, Copy)]
pub(in crate::daemon) struct BacklogLimits {
    /// Bytes of all clients together.
    pub(in crate::daemon) all: u64,
    /// Bytes of one client.
    pub(in crate::daemon) client: u64,
}

#[derive(Debug, Default)]
struct Used {
    all: u64,
    clients: HashMap<ClientId, u64>,
}

/// The shares of all jobs that have waited and are not over.
#[derive(Debug)]
pub(in crate::daemon) struct Backlog {
    limits: BacklogLimits,
    used: Arc<Mutex<Used>>,
}

/// The share of one job. It comes back when it is dropped.
#[derive(Debug)]
pub(in crate::daemon) struct Share {
    used: Arc<Mutex<Used>>,
    client: ClientId,
    bytes: u64,
}

impl Backlog {
    /// A backlog without jobs.
    pub(in crate::daemon) fn new(limits: BacklogLimits) -> Self {
        Backlog { limits, used: Arc::default() }
    }

    /// Bytes of all clients together, and their limit.
    pub(in crate::daemon) fn used(&self) -> (u64, u64) {
        (lock(&self.used).all, self.limits.all)
    }

    /// Counts a job that is to wait.
    ///
    /// # Errors
    /// The limit that it would exceed, in words.
    pub(in crate::daemon) fn admit(&self, client: ClientId, bytes: u64) -> Result<Share, String> {
        let used = lock(&self.used);
        let of_client = used.clients.get(&client).copied().unwrap_or(0);
        for (whose, used, limit, key) in [
            ("this client's jobs", of_client, self.limits.client, "joblet.clientQueueLimit"),
            ("all jobs", used.all, self.limits.all, "joblet.queueLimit"),
        ] {
            if used.saturating_add(bytes) > limit {
                return Err(format!(
                    "the job cannot wait for its time or a slot: the requests and files of {whose} that wait would \
                     have {}, {key} allows {}; try again when some of them have ended",
                    format_size(used.saturating_add(bytes)),
                    format_size(limit)
                ));
            }
        }
        drop(used);
        Ok(self.adopt(client, bytes))
    }

    /// Counts a job that an earlier daemon accepted, beyond the limits too.
    pub(in crate::daemon) fn adopt(&self, client: ClientId, bytes: u64) -> Share {
        let mut used = lock(&self.used);
        used.all += bytes;
        *used.clients.entry(client).or_default() += bytes;
        Share { used: self.used.clone(), client, bytes }
    }
}

impl Share {
    /// Bytes of the request and its inputs.
    pub(in crate::daemon) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut used = lock(&self.used);
        used.all -= self.bytes;
        if let Some(of_client) = used.clients.get_mut(&self.client) {
            *of_client -= self.bytes;
            if *of_client == 0 {
                used.clients.remove(&self.client);
            }
        }
    }
}

fn lock(used: &Mutex<Used>) -> MutexGuard<'_, Used> {
    used.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_leaves_room_for_the_others_and_gets_its_own_back() {
        let backlog = Backlog::new(BacklogLimits { all: 150, client: 100 });
        let (one, other) = (ClientId::new(1), ClientId::new(2));
        let first = backlog.admit(one, 60).unwrap();
        let refused = backlog.admit(one, 41).unwrap_err();
        assert!(
            refused.contains("this client's jobs") && refused.contains("joblet.clientQueueLimit"),
            "{refused}"
        );
        let second = backlog.admit(other, 90).unwrap();
        let refused = backlog.admit(one, 1).unwrap_err();
        assert!(refused.contains("all jobs") && refused.contains("joblet.queueLimit"), "{refused}");
        drop(first);
        let third = backlog.admit(one, 60).unwrap();
        let fourth = backlog.adopt(one, 1000);
        assert!(backlog.admit(one, 1).is_err());
        drop((second, third, fourth));
        assert!(lock(&backlog.used).clients.is_empty(), "a client without jobs is forgotten");
        assert_eq!(lock(&backlog.used).all, 0);
    }
}
