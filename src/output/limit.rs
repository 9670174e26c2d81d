//! The limits of the spool for unfinished jobs.
//!
//! The limit of all jobs is shared: a job may grow while it and all jobs of its client keep no more, on the average of
//! both, than is still free (a dynamic threshold, as in shared packet buffers). So a job that is alone gets half of the
//! limit. Four floods of four clients get a fifth each, and a fifth stays free. The floods of one client get less than two
//! thirds together, however many they are: a job of another client still finds a sixth of the limit. A job may have
//! [`RESERVE`] bytes whatever others have. So the files of all jobs exceed the limit by the reserves of the running jobs
//! at most.
//!
//! A limit counts the bytes of all files of every job whose pipes have not ended. The index counts too: a job that
//! writes byte by byte costs more than its bytes. The content of a pipe whose last writer is gone is always stored,
//! which exceeds a limit by one pipe at most: the job has ended, and only its last output is still to come.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::job::units::format_size;
use crate::job::{ClientId, SpoolPolicy};

use super::row::ROW;
use super::spool::CHUNK;
use super::totals::Counters;

/// The values of `joblet.spoolLimit`, `joblet.jobSpoolLimit`, `joblet.liveBuffer` and `joblet.spoolPolicy`.
#[derive(Debug, Clone, Copy)]
pub struct SpoolLimits {
    /// Bytes of all unfinished jobs together.
    pub all: u64,
    /// Bytes of one unfinished job.
    pub job: u64,
    /// Bytes that a ring keeps of one unfinished job.
    pub ring: u64,
    /// The policy at either limit: wait, drop output or stop the job.
    pub policy: SpoolPolicy,
}

/// The limit that keeps output out of the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The limit of one job, `joblet.jobSpoolLimit`.
    Job,
    /// The limit of all jobs together, `joblet.spoolLimit`.
    All,
    /// The disk, or another cause that makes a write fail.
    Disk,
}

/// Bytes that a job may keep whatever others have; at most an eighth of `joblet.spoolLimit`.
pub const RESERVE: u64 = 1 << 20;

/// Bytes in the spools of all unfinished jobs, in all and for each client.
#[derive(Debug, Default)]
pub(super) struct Used {
    all: u64,
    /// Clients whose jobs have bytes, so no more than there are jobs.
    clients: HashMap<ClientId, u64>,
    totals: Arc<Counters>,
}

impl Used {
    /// Nothing is used. The bytes of all jobs are counted here too.
    pub(super) fn counted_in(totals: Arc<Counters>) -> Used {
        Used { totals, ..Used::default() }
    }

    /// The bytes of all jobs.
    pub(super) fn all(&self) -> u64 {
        self.all
    }

    /// The bytes of this client's jobs.
    pub(super) fn of(&self, client: ClientId) -> u64 {
        self.clients.get(&client).copied().unwrap_or(0)
    }

    /// Notes that a job of this client has `now` bytes and had `before`.
    pub(super) fn change(&mut self, client: ClientId, before: u64, now: u64) {
        self.all = self.all - before + now;
        self.totals.spooled.store(self.all, Ordering::Relaxed);
        match self.of(client) - before + now {
            0 => self.clients.remove(&client),
            bytes => self.clients.insert(client, bytes),
        };
    }
}

impl Full {
    /// The reason why a job waits, for its status and the log.
    pub fn reason(self) -> &'static str {
        match self {
            Full::Job => "room for its output: joblet.jobSpoolLimit is reached",
            Full::All => "room for its output: its share of joblet.spoolLimit is used",
            Full::Disk => "room for its output: the data directory's disk is full or cannot be written",
        }
    }
}

impl SpoolLimits {
    /// Bytes that may be moved at once for a job that has `job` bytes in the spool, where the jobs of its client have
    /// `client` bytes and all jobs `all` bytes.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn room(&self, job: u64, client: u64, all: u64) -> Result<usize, Full> {
        // Every run of bytes costs a row too.
        let left = |limit: u64, used: u64| limit.saturating_sub(used).saturating_sub(ROW as u64);
        let free = self.all.saturating_sub(all);
        // A byte that it takes counts for the job and for its client, and is no longer free, which counts twice: a fourth
        // of the difference makes both sides equal.
        let kept = job.saturating_add(client);
        let shared = (free.saturating_mul(2).saturating_sub(kept) / 4).saturating_sub(ROW as u64);
        let reserved = left(RESERVE.min(self.all / 8), job);
        match (left(self.job, job), shared.max(reserved)) {
            (0, _) => Err(Full::Job),
            (_, 0) => Err(Full::All),
            (of_job, of_all) => Ok(of_job.min(of_all).min(CHUNK as u64) as usize),
        }
    }

    /// The reason why a job was stopped at this limit.
    pub fn ended(&self, full: Full) -> String {
        match full {
            Full::All => format!(
                "wrote more output than its share of joblet.spoolLimit ({}) allows",
                format_size(self.all)
            ),
            Full::Job | Full::Disk => {
                format!("wrote more output than joblet.jobSpoolLimit allows ({})", format_size(self.job))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(all: u64, job: u64) -> SpoolLimits {
        SpoolLimits { all, job, ring: job, policy: SpoolPolicy::Block }
    }

    #[test]
    fn a_job_may_write_what_both_limits_leave_a_row_for() {
        let small = limits(4000, 500);
        assert_eq!(small.room(0, 0, 0), Ok(468));
        assert_eq!(small.room(467, 467, 467), Ok(1));
        assert_eq!(small.room(468, 468, 468), Err(Full::Job));
        assert_eq!(small.room(600, 600, 0), Err(Full::Job));
        assert_eq!(small.room(0, 0, 3968), Ok(468), "an eighth is reserved");
        assert_eq!(small.room(468, 468, 3968), Err(Full::Job));
        assert_eq!(limits(1 << 40, 1 << 40).room(0, 0, 0), Ok(CHUNK));
    }

    /// The bytes of each flood and those of all, when the floods of these clients have taken all that they may. They take
    /// it in this order, which is the most unfair one.
    fn flooded(limits: &SpoolLimits, clients: &[u64]) -> (Vec<u64>, Used) {
        let (mut floods, mut used) = (vec![0; clients.len()], Used::default());
        for (bytes, client) in floods.iter_mut().zip(clients) {
            let client = ClientId::new(*client);
            while let Ok(room) = limits.room(*bytes, used.of(client), used.all()) {
                used.change(client, *bytes, *bytes + room as u64);
                *bytes += room as u64;
            }
        }
        (floods, used)
    }

    #[test]
    fn floods_leave_a_share_for_a_job_that_comes_later() {
        let shared = limits(1 << 30, 1 << 30);
        let (floods, used) = flooded(&shared, &[1, 2, 3, 4]);
        let free = (1 << 30) - used.all();
        // The first one took half, the next half of the rest: later ones find less, and none finds nothing.
        assert!(free >= 1 << 26, "{free}");
        assert!(shared.room(0, 0, used.all()).is_ok());
        assert!(floods.iter().all(|job| *job >= free - 2 * CHUNK as u64), "{floods:?}, {free}");
        // Those of one client find less, and more than their reserves.
        let (floods, used) = flooded(&shared, &[1; 4]);
        assert!(shared.room(RESERVE, used.of(ClientId::new(1)) + RESERVE, used.all() + RESERVE).is_ok());
        assert!(floods.iter().all(|job| *job > 4 * RESERVE), "{floods:?}");
    }

    #[test]
    fn floods_of_one_client_leave_a_third_to_the_others() {
        let shared = limits(1 << 30, 1 << 30);
        for number in [1, 4, 100] {
            let (_, used) = flooded(&shared, &vec![1; number]);
            let reserves = number as u64 * RESERVE;
            assert!(used.all() <= (1 << 31) / 3 + reserves, "{number} floods: {}", used.all());
            let (before, mut other) = (used.all(), 0);
            while let Ok(room) = shared.room(other, other, before + other) {
                other += room as u64;
            }
            assert!(other + reserves > (1 << 30) / 6 - CHUNK as u64, "{number} floods leave {other}");
        }
    }

    #[test]
    fn client_without_bytes_is_forgotten() {
        let (mut used, client) = (Used::default(), ClientId::new(1));
        used.change(client, 0, 10);
        used.change(ClientId::new(2), 0, 5);
        used.change(client, 10, 30);
        assert_eq!((used.of(client), used.all()), (30, 35));
        used.change(client, 30, 0);
        assert_eq!((used.all(), used.clients.len()), (5, 1));
    }

    #[test]
    fn a_quiet_job_has_its_reserve_when_nothing_is_free() {
        let shared = limits(1 << 30, 1 << 28);
        assert_eq!(shared.room(0, 1 << 30, 1 << 30), Ok(CHUNK));
        assert_eq!(shared.room(RESERVE, RESERVE, 1 << 30), Err(Full::All));
    }
}
