//! The limits of the spool for unfinished jobs.
//!
//! The limit of all jobs is shared: a job may keep as much as is still free (the dynamic threshold of shared packet
//! buffers). So a job that is alone gets half of it, four floods get a fifth each, and a fifth stays free for a job that
//! comes later. A job may have [`RESERVE`] bytes whatever others have. So the files of all jobs exceed the limit by the
//! reserves of the running jobs at most.
//!
//! A limit counts the bytes of all files of every job whose pipes have not ended. The index counts too: a job that
//! writes byte by byte costs more than its bytes. The content of a pipe whose last writer is gone is always stored,
//! which exceeds a limit by one pipe at most: the job has ended, and only its last output is still to come.

use crate::job::SpoolPolicy;
use crate::job::units::format_size;

use super::spool::{CHUNK, ROW};

/// The values of `joblet.spoolLimit`, `joblet.jobSpoolLimit` and `joblet.spoolPolicy`.
#[derive(Debug, Clone, Copy)]
pub struct SpoolLimits {
    /// Bytes of all unfinished jobs together.
    pub all: u64,
    /// Bytes of one unfinished job.
    pub job: u64,
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
    /// Bytes that may be moved at once for a job that has `job` bytes in the spool, where all jobs have `all` bytes.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn room(&self, job: u64, all: u64) -> Result<usize, Full> {
        // Every run of bytes costs a row too.
        let left = |limit: u64, used: u64| limit.saturating_sub(used).saturating_sub(ROW as u64);
        let free = self.all.saturating_sub(all);
        // What it takes is no longer free: half of the difference makes both equal.
        let shared = (free.saturating_sub(job) / 2).saturating_sub(ROW as u64);
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
        SpoolLimits { all, job, policy: SpoolPolicy::Block }
    }

    #[test]
    fn a_job_may_write_what_both_limits_leave_a_row_for() {
        let small = limits(4000, 500);
        assert_eq!(small.room(0, 0), Ok(468));
        assert_eq!(small.room(467, 467), Ok(1));
        assert_eq!(small.room(468, 468), Err(Full::Job));
        assert_eq!(small.room(600, 0), Err(Full::Job));
        assert_eq!(small.room(0, 3968), Ok(468), "an eighth is reserved");
        assert_eq!(small.room(468, 3968), Err(Full::Job));
        assert_eq!(limits(1 << 40, 1 << 40).room(0, 0), Ok(CHUNK));
    }

    #[test]
    fn floods_leave_a_share_for_a_job_that_comes_later() {
        let shared = limits(1 << 30, 1 << 30);
        let (mut used, mut all) = ([0u64; 4], 0);
        while let Some((job, room)) = (0..4).find_map(|job| Some((job, shared.room(used[job], all).ok()?))) {
            used[job] += room as u64;
            all += room as u64;
        }
        let free = (1 << 30) - all;
        // The first one took half, the next half of the rest: later ones find less, and none finds nothing.
        assert!(free >= 1 << 26, "{free}");
        assert!(shared.room(0, all).is_ok());
        assert!(used.iter().all(|job| *job >= free - 2 * CHUNK as u64), "{used:?}, {free}");
    }

    #[test]
    fn a_quiet_job_has_its_reserve_when_nothing_is_free() {
        let shared = limits(1 << 30, 1 << 28);
        assert_eq!(shared.room(0, 1 << 30), Ok(CHUNK));
        assert_eq!(shared.room(RESERVE, 1 << 30), Err(Full::All));
    }
}
