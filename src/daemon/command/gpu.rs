//! GpuService: the GPUs of the node, who has them, and those that are given to jobs again.

use super::gpu_view::GpusView;
use super::request::{Answer, CommandError};
use crate::daemon::core::Core;
use crate::daemon::gpus::GpuFact;
use crate::daemon::lifecycle;
use crate::gpu::Seen;

/// All GPUs. Their figures are on the board, which the loop does not touch.
pub(super) fn view(core: &Core) -> GpusView {
    let table = core.supply.gpus();
    let found = table.found();
    let seen = |(device, standing)| Seen { device, standing, measured: None };
    GpusView {
        gpus: found.devices.iter().cloned().zip(table.standings()).map(seen).collect(),
        driver: found.driver.clone(),
        disabled: table.off().map(str::to_owned),
        strategy: table.strategy(),
        notes: found.notes.clone(),
        board: table.board().clone(),
    }
}

/// Has a GPU given to jobs again.
pub(super) fn reset(core: &Core, named: &str, answer: Answer<GpusView>) {
    if core.shutdown.has_begun() {
        let _ = answer.send(Err(CommandError::ShuttingDown));
        return;
    }
    core.supply.gpus().reset(named, answer);
}

/// The thread of the GPUs has found something.
pub(in crate::daemon) fn on_fact(core: &mut Core, fact: GpuFact) {
    let gpus = core.supply.gpus_mut();
    match fact {
        GpuFact::Clean(at) => gpus.clean(at),
        GpuFact::HeldBack(at, why) => gpus.hold_back(at, why),
        GpuFact::Lost(at, why) => lose(core, at, &why),
        GpuFact::Restored(at, answer) => {
            gpus.restore(at);
            let _ = answer.send(Ok(view(core)));
        }
    }
    // Also where there is one less: jobs that can never have what they wait for go on to their end.
    lifecycle::grant_slots(core);
}

/// The record of the job that has it says so from now on.
fn lose(core: &mut Core, at: usize, why: &str) {
    let Some((uuid, Some(id))) = core.supply.gpus_mut().lose(at, why.to_owned()) else { return };
    let Some(job) = core.jobs.get_mut(id) else { return };
    let mut leases = job.trace.gpus.iter_mut();
    if let Some(lease) = leases.find(|lease| lease.uuid == uuid) {
        lease.lost = Some(why.to_owned());
        lifecycle::save(core, id);
    }
}
