//! Words that the configuration shares with other rooms: controllers of limits, and the policies at a limit.

use serde::{Deserialize, Serialize};

/// The policy for output beyond `joblet.spoolLimit` and `joblet.jobSpoolLimit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpoolPolicy {
    /// The job waits in its write until there is room.
    Block,
    /// The daemon discards the excess and counts the bytes.
    Drop,
    /// The daemon kills the job.
    Kill,
}

/// The policy for a job whose limits the host cannot enforce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforcement {
    /// The daemon refuses the job.
    Strict,
    /// The job starts, with a warning at the daemon's start and in the job's status.
    BestEffort,
}

/// A controller of cgroup v2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    /// CPU time, `cpu.max`.
    Cpu,
    /// Memory in bytes, `memory.max`.
    Memory,
    /// Block I/O in bytes per second, `io.max`.
    Io,
    /// Processes and threads, `pids.max`.
    Pids,
    /// Cores to run on, `cpuset.cpus`.
    Cpuset,
}

impl Controller {
    /// The controller's name in `cgroup.controllers`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "io",
            Self::Pids => "pids",
            Self::Cpuset => "cpuset",
        }
    }
}
