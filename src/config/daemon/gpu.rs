//! `gpu:`, the GPUs that jobs can have.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::job::{GpuScrub, GpuStrategy};

/// The section `gpu:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gpu {
    /// Whether jobs can ask for GPUs. The daemon asks the driver for them when it starts.
    pub enabled: bool,
    /// Which of the free GPUs a job gets.
    pub allocation_strategy: GpuStrategy,
    /// The treatment of a GPU's memory between two jobs.
    pub scrub: GpuScrub,
    /// Names of the driver's libraries that jobs with GPUs see; a star at the end stands for the rest of a name.
    pub libraries: Vec<String>,
    /// Directories of CUDA, absolute. Jobs with GPUs see the first that is there.
    pub cuda_paths: Vec<PathBuf>,
}

/// Libraries that the vendor's packages of the driver have (driver 580, README, "Installed Components").
const LIBRARIES: [&str; 10] = [
    "libcuda.so*",
    "libcudadebugger.so*",
    "libnvcuvid.so*",
    "libnvidia-*",
    "libnvoptix.so*",
    "libGLX_nvidia.so*",
    "libEGL_nvidia.so*",
    "libGLESv1_CM_nvidia.so*",
    "libGLESv2_nvidia.so*",
    "libvdpau_nvidia.so*",
];

impl Default for Gpu {
    fn default() -> Self {
        Gpu {
            enabled: false,
            allocation_strategy: GpuStrategy::default(),
            scrub: GpuScrub::default(),
            libraries: LIBRARIES.map(str::to_owned).into(),
            cuda_paths: ["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda"].map(PathBuf::from).into(),
        }
    }
}
