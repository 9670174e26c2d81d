//! The GPUs of the node as a reply shows them.

use crate::gpu::Device;
use crate::job::{GpuStrategy, JobId};

/// The GPUs of the node.
#[derive(Debug, Clone)]
pub struct GpusView {
    /// All that the driver told, by their numbers.
    pub gpus: Vec<GpuView>,
    /// The version of the driver, where it is known.
    pub driver: Option<String>,
    /// Why no job can have any; `None`: jobs can.
    pub disabled: Option<String>,
    /// The order in which free ones are given.
    pub strategy: GpuStrategy,
    /// Sentences about GPUs that are there and cannot be given.
    pub notes: Vec<String>,
}

/// One GPU of the node.
#[derive(Debug, Clone)]
pub struct GpuView {
    /// The driver's words about it.
    pub device: Device,
    /// Whether no job has it.
    pub is_free: bool,
    /// The job that has it; also `None` while that job starts.
    pub job: Option<JobId>,
}
