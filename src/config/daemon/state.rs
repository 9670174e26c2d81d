//! The part of `joblet-config.yml` about what is kept of jobs.

use serde::{Deserialize, Serialize};

use crate::config::values::section;

/// What becomes of running jobs when the daemon is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnShutdown {
    /// They go on, and the next daemon takes them over.
    Keep,
    /// They are stopped.
    Stop,
}

/// Where jobs are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// In `<dataDir>/state.db`: they outlive the daemon.
    Sqlite,
    /// In the daemon alone, which takes them with it.
    Memory,
}

/// `state:`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct State {
    /// Where jobs are remembered.
    pub backend: Backend,
    /// How long finished jobs are.
    #[serde(deserialize_with = "section")]
    pub retention: Retention,
}

/// `state.retention:`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Retention {
    /// Days from a job's end, 1..36500.
    pub days: u32,
    /// Finished jobs, at least 1; those that ended first go.
    pub max: u32,
}

impl Default for State {
    fn default() -> Self {
        Self { backend: Backend::Sqlite, retention: Retention::default() }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { days: 30, max: 100_000 }
    }
}
