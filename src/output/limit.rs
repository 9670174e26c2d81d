//! What unfinished jobs may keep in the spool, and what stands in the way of more.
//!
//! Counted are the bytes of the files, the index too, of every job whose pipes have not come to their end: a job that
//! writes byte by byte costs more than its bytes. What is in a pipe whose last writer is gone is always taken, a pipe's
//! worth beyond the limit at most: the job has ended, and nothing but its last words is to come.

use crate::job::SpoolPolicy;
use crate::job::units::format_size;

use super::spool::{CHUNK, ROW};

/// `joblet.spoolLimit`, `joblet.jobSpoolLimit` and `joblet.spoolPolicy`.
#[derive(Debug, Clone, Copy)]
pub struct SpoolLimits {
    /// Bytes of all unfinished jobs together.
    pub all: u64,
    /// Bytes of one.
    pub job: u64,
    /// What happens at either limit.
    pub policy: SpoolPolicy,
}

/// What keeps output out of the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The limit of one job.
    Job,
    /// The limit of all jobs.
    All,
    /// The disk, or whatever else makes a write fail.
    Disk,
}

impl Full {
    /// What a job waits for.
    pub fn reason(self) -> &'static str {
        match self {
            Full::Job => "room for its output: joblet.jobSpoolLimit is reached",
            Full::All => "room for its output: joblet.spoolLimit is reached",
            Full::Disk => "room for its output: the data directory's disk is full or cannot be written",
        }
    }
}

impl SpoolLimits {
    /// Bytes that a job may write at once, where it has written `job` and all together `all`.
    ///
    /// # Errors
    /// What is full.
    pub fn room(&self, job: u64, all: u64) -> Result<usize, Full> {
        // Every run of bytes costs a row too.
        let left = |limit: u64, used: u64| limit.saturating_sub(used).saturating_sub(ROW as u64);
        match (left(self.job, job), left(self.all, all)) {
            (0, _) => Err(Full::Job),
            (_, 0) => Err(Full::All),
            (of_job, of_all) => Ok(of_job.min(of_all).min(CHUNK as u64) as usize),
        }
    }

    /// Why a job was ended.
    pub fn ended(&self, full: Full) -> String {
        match full {
            Full::All => format!(
                "wrote output when that of all jobs had reached joblet.spoolLimit ({})",
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

    #[test]
    fn a_job_may_write_what_both_limits_leave_a_row_for() {
        let limits = SpoolLimits { all: 1000, job: 500, policy: SpoolPolicy::Block };
        assert_eq!(limits.room(0, 0), Ok(468));
        assert_eq!(limits.room(0, 900), Ok(68));
        assert_eq!(limits.room(467, 467), Ok(1));
        assert_eq!(limits.room(468, 468), Err(Full::Job));
        assert_eq!(limits.room(600, 0), Err(Full::Job));
        assert_eq!(limits.room(0, 968), Err(Full::All));
        let wide = SpoolLimits { all: 1 << 40, job: 1 << 40, policy: SpoolPolicy::Block };
        assert_eq!(wide.room(0, 0), Ok(CHUNK));
    }
}
