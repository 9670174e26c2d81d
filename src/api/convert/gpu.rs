//! Messages about GPUs.

use super::Refusal;
use crate::daemon::command::{GpusView, SeenGpu};
use crate::job::InvalidField;
use crate::pb::joblet::{Gpu, Gpus, ResetGpuStateReq};

/// The reply to ListGpus.
pub(in crate::api) fn list(found: GpusView) -> Gpus {
    let gpus = found.measured().into_iter().map(one).collect();
    let GpusView { driver, disabled, strategy, notes, .. } = found;
    Gpus {
        gpus,
        driver_version: driver.unwrap_or_default(),
        disabled_reason: disabled.unwrap_or_default(),
        allocation_strategy: strategy.as_str().to_owned(),
        notes,
        ..Gpus::default()
    }
}

/// The GPU that ResetGpuState means.
///
/// # Errors
/// It names none.
pub(in crate::api) fn named(request: ResetGpuStateReq) -> Result<String, Refusal> {
    if request.gpu.is_empty() {
        let text = "gpu is empty: give the number or the UUID of a GPU".to_owned();
        return Err(Refusal::Invalid(InvalidField::new(text)));
    }
    Ok(request.gpu)
}

/// One GPU, with its figures where they are known.
pub(in crate::api) fn one(SeenGpu { device, standing, measured }: SeenGpu) -> Gpu {
    let figures = measured.map(|measured| measured.figures).unwrap_or_default();
    Gpu {
        index: i32::try_from(device.index).unwrap_or(i32::MAX),
        uuid: device.uuid,
        name: device.name,
        bus_id: device.bus_id,
        memory_mb: device.memory_mib.map(|mib| i64::try_from(mib).unwrap_or(i64::MAX)),
        state: standing.state.as_str().to_owned(),
        job_uuid: standing.job.map(|job| job.to_string()).unwrap_or_default(),
        numa_node: device.numa,
        reason: standing.reason,
        utilization: figures.utilization,
        memory_used: figures.memory_used,
        temperature: figures.temperature,
        power_draw: figures.power_draw,
        ..Gpu::default()
    }
}
