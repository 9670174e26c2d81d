//! `ipc:`, whether the daemon keeps the output of jobs.

use serde::{Deserialize, Serialize};

/// The section `ipc:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ipc {
    /// Keeps the output of jobs; `false` is refused until live-only output exists.
    pub enabled: bool,
}

impl Default for Ipc {
    fn default() -> Self {
        Self { enabled: true }
    }
}
