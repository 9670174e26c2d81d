//! Messages about GPUs.

use crate::daemon::command::{GpuView, GpusView};
use crate::pb::joblet::{Gpu, Gpus};

/// The reply to ListGpus.
pub(in crate::api) fn list(found: GpusView) -> Gpus {
    let GpusView { gpus, driver, disabled, strategy, notes } = found;
    Gpus {
        gpus: gpus.into_iter().map(one).collect(),
        driver_version: driver.unwrap_or_default(),
        disabled_reason: disabled.unwrap_or_default(),
        allocation_strategy: strategy.as_str().to_owned(),
        notes,
        ..Gpus::default()
    }
}

fn one(GpuView { device, is_free, job }: GpuView) -> Gpu {
    Gpu {
        index: i32::try_from(device.index).unwrap_or(i32::MAX),
        uuid: device.uuid,
        name: device.name,
        bus_id: device.bus_id,
        memory_mb: device.memory_mib.map(|mib| i64::try_from(mib).unwrap_or(i64::MAX)),
        state: if is_free { "free" } else { "in_use" }.to_owned(),
        job_uuid: job.map(|job| job.to_string()).unwrap_or_default(),
        numa_node: device.numa,
        ..Gpu::default()
    }
}
