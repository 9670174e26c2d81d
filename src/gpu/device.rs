//! One GPU, as the driver tells it.

use serde::{Deserialize, Serialize};

/// One GPU of the host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Device {
    /// The number that NVML and nvidia-smi show, by which people name it.
    pub index: u32,
    /// The vendor's identity, `GPU-...`.
    pub uuid: String,
    /// The name of the model.
    pub name: String,
    /// The number of its node, `/dev/nvidiaN`.
    pub minor: u32,
    /// All of its memory in MiB; `None`: not known without NVML.
    pub memory_mib: Option<u64>,
    /// Its PCI address as the kernel writes it, `0000:04:00.0`.
    pub bus_id: String,
    /// The NUMA node that it is attached to, where the kernel knows.
    pub numa: Option<i32>,
}
