//! A job as a reply shows it: a copy without secrets that the loop hands to the API.

use std::sync::Arc;
use std::time::Duration;

use super::egress::List;
use super::publish::Published;
use super::{Ending, GpuLease, JobId, JobSpec, Status};

/// The content of GetJobStatus, ListJobs and RunJob replies about one job. Times are ns since the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    /// The job's id.
    pub id: JobId,
    /// The request, shared with the loop: its texts may have megabytes, which the loop must not copy. The values of
    /// secrets stay with the loop.
    pub spec: Arc<JobSpec>,
    /// The job's status.
    pub status: Status,
    /// When the request was accepted.
    pub created_ns: i64,
    /// When the payload started.
    pub started_ns: Option<i64>,
    /// When the job became terminal.
    pub ended_ns: Option<i64>,
    /// How it ended, once terminal.
    pub ending: Option<Ending>,
    /// Peak memory in bytes, where the cgroup counts it.
    pub peak_memory_bytes: Option<u64>,
    /// CPU time in microseconds, where known.
    pub cpu_time_usec: Option<u64>,
    /// Its timeout, and the pause that it is in.
    pub clock: JobClock,
    /// Its egress list, where that was changed after the start.
    pub egress: Option<Arc<List>>,
    /// Packets and questions that its network refused.
    pub denials: u64,
    /// Limits that this host cannot enforce (best-effort mode), in words.
    pub unenforced: Vec<String>,
    /// Ports of the host that reach it now.
    pub ports: Vec<Published>,
    /// The GPUs that it has, or had.
    pub gpus: Vec<GpuLease>,
    /// Position in the queue for a slot, from 1; 0: the job does not wait.
    pub queue_position: u32,
    /// The thing that the job waits for; empty: it does not wait.
    pub wait_reason: String,
    /// Its address with the length of its prefix, as 10.50.0.2/16; empty where it has none.
    pub address: String,
    /// A sentence about a job that runs; mostly empty.
    pub note: String,
    /// The jobs of its workflow that it waits for, by name; only in a view of a single job.
    pub dependencies: Vec<String>,
}

/// The clock of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobClock {
    /// The timeout, counted from the start without pauses; `None`: it has none.
    pub timeout: Option<Duration>,
    /// When that ends the job, ns since the epoch, while it runs and is not paused.
    pub ends_ns: Option<i64>,
    /// Since when it is paused, ns since the epoch.
    pub paused_ns: Option<i64>,
}

impl JobView {
    /// The egress list in force.
    pub fn egress(&self) -> Option<&List> {
        self.egress.as_deref().or(self.spec.egress.as_ref())
    }
}
