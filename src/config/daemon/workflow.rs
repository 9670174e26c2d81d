//! `workflow:`, the bounds of workflows.

use serde::{Deserialize, Serialize};

use crate::config::values;

/// The section `workflow:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Workflow {
    /// Workflows that run at one time, 1 to 10000.
    pub max_running: u32,
    /// Those of one client.
    pub client_max_running: u32,
    /// Jobs of one workflow with the elements of arrays counted, 1 to 20000.
    pub max_jobs: u32,
    /// Bytes of a workflow file, at most 8MiB.
    #[serde(with = "values::size")]
    pub max_bytes: u64,
    /// Bytes that the jobs of one workflow leave for others.
    #[serde(with = "values::size")]
    pub max_output_bytes: u64,
}

impl Default for Workflow {
    fn default() -> Self {
        Self {
            max_running: 200,
            client_max_running: 50,
            max_jobs: 20_000,
            max_bytes: 8 << 20,
            max_output_bytes: 1 << 30,
        }
    }
}
