//! One job as it is stored.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::job::egress::List;
use crate::job::exit::StopCause;
use crate::job::{Denials, Ending, GpuLease, JobId, JobSpec, WireLease};

/// Everything about a job that must survive the daemon. Times are ns since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The job's id.
    pub id: JobId,
    /// Place in the order of acceptance, from 1. No two stored jobs have the same.
    pub serial: u64,
    /// The program and its limits. Values of secrets are not stored.
    #[serde(serialize_with = "write_spec", deserialize_with = "read_spec")]
    pub spec: Arc<JobSpec>,
    /// From TERM to KILL, as a StopJob asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_grace: Option<Duration>,
    /// The stage that a new daemon goes on from.
    pub stage: Stage,
    /// Time of acceptance.
    pub created_ns: i64,
    /// Start of the wait for a slot.
    pub queued_ns: Option<i64>,
    /// Start of the payload.
    pub started_ns: Option<i64>,
    /// Time at which the job became terminal.
    pub ended_ns: Option<i64>,
    /// Limits that the host cannot keep, in words.
    pub unenforced: Vec<String>,
    /// Host id that its processes run as.
    pub lease: Option<u32>,
    /// Its address and its wire, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire: Option<WireLease>,
    /// The GPUs that it has, or had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuLease>,
    /// Its egress list, where that was changed after the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<List>,
    /// Destinations that it was refused, once it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denials: Option<Box<Denials>>,
    /// PID 1 of the job, once it exists.
    pub process: Option<Process>,
    /// The boot of the host that this was written in (proc_sys_kernel(5), random/boot_id).
    pub boot: String,
    /// The end of its timeout, ns of CLOCK_MONOTONIC in that boot.
    pub timeout_at_ns: Option<i64>,
    /// The timeout since the start, where it was changed after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Since when it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Peak memory in bytes.
    pub peak_bytes: Option<u64>,
    /// CPU time in microseconds.
    pub cpu_usec: Option<u64>,
}

/// The stage of a job, as far as a new daemon has to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Waits for its time.
    Scheduled,
    /// Waits for a slot.
    Queued,
    /// A spawner has it, or its processes live, or its end is not known yet. Somebody may have asked for that.
    Active(Option<StopCause>),
    /// It is over.
    Ended(Ending),
}

/// The beginning of a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// In ns since the epoch.
    pub since_ns: i64,
    /// In ns of CLOCK_MONOTONIC in the boot of the record.
    pub at_ns: i64,
}

/// Identifies one process among all others of its boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The process id on the host.
    pub pid: i32,
    /// The start time, clock ticks since boot (proc_pid_stat(5), field 22).
    #[serde(rename = "birth")]
    pub start_time: u64,
}

fn write_spec<S: Serializer>(spec: &Arc<JobSpec>, to: S) -> Result<S::Ok, S::Error> {
    spec.as_ref().serialize(to)
}

fn read_spec<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<JobSpec>, D::Error> {
    JobSpec::deserialize(from).map(Arc::new)
}
