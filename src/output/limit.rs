//! The limits of the spool for unfinished jobs.
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

impl Full {
    /// The reason why a job waits, for its status and the log.
    pub fn reason(self) -> &'static str {
        match self {
            Full::Job => "room for its output: joblet.jobSpoolLimit is reached",
            Full::All => "room for its output: joblet.spoolLimit is reached",
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
        match (left(self.job, job), left(self.all, all)) {
            (0, _) => Err(Full::Job),
            (_, 0) => Err(Full::All),
            (of_job, of_all) => Ok(of_job.min(of_all).min(CHUNK as u64) as usize),
        }
    }

    /// The reason why a job was stopped at this limit.
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
