//! How many processes all jobs together may have, so that the host can always fork.
//!
//! The kernel has one number of processes and threads for everybody: the lower one of `kernel.pid_max` and
//! `kernel.threads-max`, beyond which fork(2) fails for root too. Jobs get three quarters of it. With the pids controller
//! the group above the jobs has that limit. Without it nothing counts the jobs together, so each one's own limit is
//! lowered until all of them fit.

use std::fs;

use super::CgroupError;

/// Fewer processes than this are of no use to a job: there would be fewer jobs instead.
const LEAST: u32 = 16;

/// The share of each job where no limit holds for all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Jobs at one time.
    pub jobs: u32,
    /// Processes and threads of each of them.
    pub processes: u32,
}

/// Process ids that the kernel never gives out again once they have been around (`RESERVED_PIDS`, kernel/pid.c).
const RESERVED: u64 = 300;

/// The most processes of all jobs on a host with these two numbers.
pub(super) fn bound(pid_max: u64, threads_max: u64) -> u32 {
    u32::try_from(pid_max.saturating_sub(RESERVED).min(threads_max) / 4 * 3).unwrap_or(u32::MAX)
}

/// The most processes of all jobs on this host.
///
/// # Errors
/// A setting of the kernel cannot be read.
pub fn most_processes() -> Result<u32, CgroupError> {
    Ok(bound(setting("/proc/sys/kernel/pid_max")?, setting("/proc/sys/kernel/threads-max")?))
}

/// The share of each job where `most` processes are for all of them and up to `jobs` run.
pub fn share(most: u32, jobs: u32) -> Share {
    let jobs = jobs.clamp(1, (most / LEAST).max(1));
    // RLIMIT_NPROC is one more than a job's limit.
    Share { jobs, processes: (most / jobs).saturating_sub(1).max(1) }
}

fn setting(path: &str) -> Result<u64, CgroupError> {
    let read = fs::read_to_string(path).and_then(|text| text.trim().parse().map_err(std::io::Error::other));
    read.map_err(|source| CgroupError::Read { file: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_keeps_a_quarter_of_the_lower_number() {
        assert_eq!(bound(32_768, 192_729), 24_351);
        assert_eq!(bound(4_194_304, 31_000), 23_250);
        assert_eq!(bound(u64::MAX, u64::MAX), u32::MAX);
        assert!(most_processes().unwrap() > 0);
    }

    #[test]
    fn shares_of_all_jobs_fit_into_the_bound_together() {
        for (most, jobs) in
            [(24_576, 100), (24_576, 1), (24_576, 1536), (24_576, 100_000), (750, 100), (3, 5)]
        {
            let share = share(most, jobs);
            assert!(share.jobs * (share.processes + 1) <= most, "{most} for {jobs}: {share:?}");
            assert!(share.jobs == jobs || share.processes == LEAST - 1 || most < LEAST * 2, "{share:?}");
        }
        assert_eq!(share(24_576, 100), Share { jobs: 100, processes: 244 });
    }
}
