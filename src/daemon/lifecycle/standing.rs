//! Slots and queues: who may run next, and how a job leaves.

use crate::daemon::core::Core;
use crate::job::JobId;
use crate::job::state::{Fact, State};

/// Gives free slots to the jobs that wait longest. A job whose inputs are still being written holds up the others: it
/// was first.
pub(in crate::daemon) fn grant_slots(core: &mut Core) {
    while !core.shutdown.has_begun()
        && let gpus = next_has_gpus(core)
        && let Some(first) = core.slots.first(gpus)
        && let Some(job) = core.jobs.get_mut(first)
        && !job.durability.is_staging()
        && let Some((id, slot)) = core.slots.take_first(gpus)
    {
        job.standing.run(slot);
        // Now, so that no other job gets them before this one starts.
        job.held.gpus = job.spec.gpus.and_then(|wish| core.supply.take_gpus(id, wish));
        core.jobs.note(id, Fact::SlotGranted);
    }
}

/// Whether the first of the jobs that wait for GPUs can have them now; or never, because the node has others since: then it
/// goes on to its end.
fn next_has_gpus(core: &Core) -> bool {
    let job = core.slots.first_with_gpus().and_then(|id| core.jobs.get(id));
    job.is_some_and(|job| core.supply.has_gpus(&job.spec) || core.supply.lacks_gpus(&job.spec).is_some())
}

/// Takes a job out of the schedule and of the queue.
pub(in crate::daemon) fn leave_queues(core: &mut Core, id: JobId) {
    let Some(job) = core.jobs.get_mut(id) else { return };
    if let Some(ticket) = job.standing.leave_queue() {
        core.slots.leave(ticket);
    }
    if job.state == State::Scheduled {
        core.schedule.remove(job.spec.not_before_ns.unwrap_or(0), job.serial(), id);
    }
}

/// Gives the slot of a job back, and to the next one.
pub(super) fn release_slot(core: &mut Core, id: JobId) {
    let Some(job) = core.jobs.get_mut(id) else { return };
    job.standing.give_slot_back();
    grant_slots(core);
}
