//! Jobs that do not start at once: they wait for their time, then for a slot.

use std::io;
use std::time::{Duration, Instant};

use log::Level;

use super::recording::{answer_starters, save};
use super::standing::{grant_slots, leave_queues};
use super::workflows::on_workflow_staged;
use crate::daemon::core::Core;
use crate::daemon::jobs::Lane;
use crate::daemon::staging::{self, Staged};
use crate::daemon::timers::Timer;
use crate::diag;
use crate::job::exit::start_failure;
use crate::job::state::Fact;
use crate::job::{JobId, WorkflowId};
use crate::sys::clock::now_ns;
use crate::upload::JobInputs;

/// Time to the next look at scheduled jobs whose timer failed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Has the inputs of a waiting job written, if its record does not hold them all.
pub(in crate::daemon) fn put_aside(core: &mut Core, id: JobId, inputs: JobInputs) {
    let Some(job) = core.jobs.get_mut(id) else { return };
    // Its workflow has the inputs of a job that belongs to one.
    if job.spec.part.is_none() && staging::is_needed(&job.spec) {
        job.durability.set_staging(true);
        core.staging.put(id, inputs);
    }
}

/// The inputs of a waiting job are written, or cannot be.
pub(in crate::daemon) fn on_staged(core: &mut Core, staged: Staged) {
    let Staged { id, result, pending: _pending } = staged;
    if core.jobs.get(id).is_none() && on_workflow_staged(core, WorkflowId::new(id), result.clone()) {
        return;
    }
    let Some(job) = core.jobs.get_mut(id) else {
        // It was not to be remembered.
        core.cleanup.remove_file(core.staging.path(id));
        return;
    };
    job.durability.set_staging(false);
    let waits = job.state.waits();
    match result {
        Err(why) if waits => {
            leave_queues(core, id);
            core.jobs.note(id, Fact::NotStarted(start_failure(why)));
        }
        _ => answer_starters(core, id),
    }
    if !waits {
        // It was stopped or canceled meanwhile.
        core.cleanup.remove_file(core.staging.path(id));
    }
    grant_slots(core);
}

/// Adds a job to the schedule.
pub(in crate::daemon) fn wait_for_time(core: &mut Core, id: JobId) {
    let Some(job) = core.jobs.get(id) else { return };
    let at = job.spec.not_before_ns.unwrap_or(0);
    let set = core.schedule.add(at, job.serial(), id);
    look_again_after(core, set);
}

/// The timer of scheduled jobs has fired, or the clock was set.
pub(in crate::daemon) fn on_due(core: &mut Core) {
    let (due, ready) = core.schedule.due(now_ns());
    for id in due {
        core.jobs.note(id, Fact::Due);
    }
    look_again_after(core, ready);
}

/// Looks at the times of scheduled jobs again in a while, where their own timer failed.
fn look_again_after(core: &mut Core, set: io::Result<()>) {
    if let Err(why) = set {
        diag::limited!(
            Level::Error,
            "the timer of scheduled jobs fails, looking at their times instead",
            error = why
        );
        core.clock.set(Instant::now() + LOOK_AGAIN, Timer::Schedule);
    }
}

/// Puts a job behind all that wait for a slot.
pub(in crate::daemon) fn enqueue(core: &mut Core, id: JobId) {
    let Some(job) = core.jobs.get_mut(id) else { return };
    let ticket = core.slots.queue(id, Lane::of(&job.spec));
    job.times.queued_ns = Some(now_ns());
    job.standing.queue(ticket);
    grant_slots(core);
    let waits = core.jobs.get(id).is_some_and(|job| job.standing.ticket().is_some());
    if waits {
        // Its place in the order must outlive us; a job that starts at once is recorded then.
        save(core, id);
    }
}
