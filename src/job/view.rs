//! A job as a reply shows it: a copy without secrets that the loop hands to the API.

use super::{Ending, JobId, Limits, NetworkMode, Status};

/// The content of GetJobStatus, ListJobs and RunJob replies about one job. Times are ns since the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    /// The job's id.
    pub id: JobId,
    /// Name given by the client, or empty.
    pub name: String,
    /// The program to run.
    pub command: String,
    /// The arguments argv[1..].
    pub args: Vec<String>,
    /// Limits in force.
    pub limits: Limits,
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
    /// Plain variables, values of secret-looking names masked.
    pub environment: Vec<(String, String)>,
    /// Names of secret variables; the values stay with the loop.
    pub secret_names: Vec<String>,
    /// Network mode in force.
    pub network: NetworkMode,
    /// Working directory inside the job.
    pub work_dir: String,
    /// Relative paths of the uploads.
    pub uploads: Vec<String>,
    /// Timeout as the client may read it ("1h"), empty for none.
    pub timeout: String,
    /// Peak memory in bytes, where the cgroup counts it.
    pub peak_memory_bytes: Option<u64>,
    /// CPU time in microseconds, where known.
    pub cpu_time_usec: Option<u64>,
    /// Limits that this host cannot enforce (best-effort mode), in words.
    pub unenforced: Vec<String>,
    /// Earliest start, ns since the epoch.
    pub scheduled_ns: Option<i64>,
    /// Position in the queue for a slot, from 1; 0: the job does not wait.
    pub queue_position: u32,
    /// The thing that the job waits for; empty: it does not wait.
    pub wait_reason: String,
}
