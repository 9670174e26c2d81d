//! `state:`, the storage of job records, and the fate of running jobs at a shutdown.

use serde::{Deserialize, Serialize};

use crate::config::values::{self, section};

/// The fate of running jobs when the daemon shuts down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnShutdown {
    /// They keep running, and the next daemon takes them over.
    Keep,
    /// The daemon stops them.
    Stop,
}

/// Storage of job records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// In `<dataDir>/state.db`: records outlive the daemon.
    Sqlite,
    /// In memory only: records are lost when the daemon ends.
    Memory,
}

/// The section `state:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct State {
    /// Storage of job records.
    pub backend: Backend,
    /// How long records of finished jobs are kept.
    #[serde(deserialize_with = "section")]
    pub retention: Retention,
}

/// The section `state.retention:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Retention {
    /// Days from a job's end, 1..36500.
    pub days: u32,
    /// Number of finished jobs, at least 1; beyond it those that ended first are removed.
    pub max: u32,
    /// Bytes of the output and samples of finished jobs, at least `joblet.jobSpoolLimit`; beyond it the client that keeps
    /// most loses its oldest jobs.
    #[serde(with = "values::size")]
    pub bytes: u64,
    /// Bytes of the records of finished jobs, at least 4 MiB; beyond it as with `bytes`.
    #[serde(with = "values::size")]
    pub record_bytes: u64,
}

impl Default for State {
    fn default() -> Self {
        Self { backend: Backend::Sqlite, retention: Retention::default() }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { days: 30, max: 100_000, bytes: 10 << 30, record_bytes: 256 << 20 }
    }
}
