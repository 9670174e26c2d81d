//! `joblet:`, the defaults and bounds of jobs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::OnShutdown;
use crate::config::values;
use crate::job::SpoolPolicy;

/// The section `joblet:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Joblet {
    /// Percent of one core for a job without a limit of its own, up to 10000; 0: no limit.
    pub default_cpu_limit: u32,
    /// MiB for a job without a limit of its own, from 4; 0: no limit.
    pub default_memory_limit: u32,
    /// Bytes per second for a job without a limit of its own, from 4096; 0: no limit.
    pub default_io_limit: u32,
    /// Processes and threads of a job, at least 1.
    pub default_pids_limit: u32,
    /// MiB that a job may ask for; 0: the host's memory.
    pub max_memory_limit: u32,
    /// Jobs that run at one time, at least 1 and at most `process.subidCount`.
    pub max_concurrent_jobs: u32,
    /// Jobs that may wait for their scheduled time or for a slot; 0: none.
    pub max_queued_jobs: u32,
    /// Bytes of the requests and files of all jobs that have to wait, until they end.
    #[serde(with = "values::size")]
    pub queue_limit: u64,
    /// The same for the jobs of one client, at most `queue_limit`.
    #[serde(with = "values::size")]
    pub client_queue_limit: u64,
    /// Sandboxes kept warm for the next jobs, at most 256; 0: none.
    pub warm_sandboxes: u32,
    /// Longest run of any job; zero: no limit.
    #[serde(with = "values::duration")]
    pub job_timeout: Duration,
    /// Time from TERM to KILL when a job is stopped.
    #[serde(with = "values::duration")]
    pub stop_grace_period: Duration,
    /// Longest time from TERM to KILL that a job or a stop may ask for.
    #[serde(with = "values::duration")]
    pub max_stop_grace: Duration,
    /// Longest pause of a job; then it is stopped.
    #[serde(with = "values::duration")]
    pub max_pause: Duration,
    /// Bound of reading a finished job's pipes and of removing its cgroup; then a warning and a retry.
    #[serde(with = "values::duration")]
    pub cleanup_timeout: Duration,
    /// Refuses shell characters in commands (never in arguments).
    pub validate_commands: bool,
    /// How long a finished job waits for a new daemon to fetch its output when the old one is gone.
    #[serde(with = "values::duration")]
    pub orphan_linger: Duration,
    /// The fate of running jobs when the daemon shuts down.
    pub on_shutdown: OnShutdown,
    /// Bytes of output kept for all unfinished jobs together, at least 64 KiB.
    #[serde(with = "values::size")]
    pub spool_limit: u64,
    /// Bytes of output kept for one unfinished job, at least 64 KiB.
    #[serde(with = "values::size")]
    pub job_spool_limit: u64,
    /// Bytes of output kept for one running job with `ipc.enabled: false`, 64 KiB to 1 GiB.
    #[serde(with = "values::size")]
    pub live_buffer: u64,
    /// The policy for output at these limits.
    pub spool_policy: SpoolPolicy,
}

impl Default for Joblet {
    fn default() -> Self {
        Self {
            default_cpu_limit: 100,
            default_memory_limit: 512,
            default_io_limit: 0,
            default_pids_limit: 4096,
            max_memory_limit: 0,
            max_concurrent_jobs: 100,
            max_queued_jobs: 10_000,
            queue_limit: 1 << 30,
            client_queue_limit: 256 << 20,
            warm_sandboxes: 8,
            job_timeout: Duration::from_secs(3600),
            stop_grace_period: Duration::from_millis(100),
            max_stop_grace: Duration::from_secs(300),
            max_pause: Duration::from_secs(24 * 3600),
            cleanup_timeout: Duration::from_secs(5),
            validate_commands: true,
            orphan_linger: Duration::from_secs(24 * 3600),
            spool_limit: 1 << 30,
            job_spool_limit: 256 << 20,
            live_buffer: 1 << 20,
            spool_policy: SpoolPolicy::Block,
            on_shutdown: OnShutdown::Keep,
        }
    }
}
