//! GpuService: the GPUs of the node, and who has them.

use super::gpu_view::{GpuView, GpusView};
use super::request::Answer;
use crate::daemon::core::Core;
use crate::gpu::Device;

/// Shows all GPUs. A host has a few of them, so each looks for its job.
pub(super) fn list(core: &Core, answer: Answer<GpusView>) {
    let table = &core.supply.gpus;
    let found = table.found();
    let view = |(at, device): (usize, &Device)| {
        let is_free = table.is_free(at);
        let has = |uuid: &str| {
            let mut live = core.jobs.iter().filter(|job| !job.state.is_finished());
            live.find(|job| job.trace.gpus.iter().any(|lease| lease.uuid == uuid)).map(|job| job.id)
        };
        let job = if is_free { None } else { has(&device.uuid) };
        GpuView { device: device.clone(), is_free, job }
    };
    let _ = answer.send(Ok(GpusView {
        gpus: found.devices.iter().enumerate().map(view).collect(),
        driver: found.driver.clone(),
        disabled: table.off().map(str::to_owned),
        strategy: table.strategy(),
        notes: found.notes.clone(),
    }));
}
