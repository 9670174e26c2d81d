//! `gpu:`, the GPUs that jobs can have.

use serde::{Deserialize, Serialize};

use crate::job::{GpuScrub, GpuStrategy};

/// The section `gpu:`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Gpu {
    /// Whether jobs can ask for GPUs. The daemon asks the driver for them when it starts.
    pub enabled: bool,
    /// Which of the free GPUs a job gets.
    pub allocation_strategy: GpuStrategy,
    /// The treatment of a GPU's memory between two jobs.
    pub scrub: GpuScrub,
}
