//! Records of jobs: when one is written, and what happens when it is on disk.

use super::forgetting::forget;
use super::standing::{leave_queues, release_slot};
use super::workflows::on_workflow_recorded;
use crate::daemon::core::Core;
use crate::daemon::ledger::Put;
use crate::daemon::standing_store::PendingWrite;
use crate::job::JobId;
use crate::job::exit::ExitReason;
use crate::job::state::{Fact, State};
use crate::state::{Outcome, Record, not_recorded};

/// Has a job's record written as it is now; `None` where jobs are remembered in memory only.
pub(in crate::daemon) fn save(core: &mut Core, id: JobId) -> Option<Box<Record>> {
    let job = core.jobs.get_mut(id)?;
    match core.ledger.put(job) {
        Put::OnItsWay(record) => Some(record),
        Put::InMemory => {
            core.jobs.note(id, Fact::Recorded);
            // No outcome will come to do it.
            answer_starters(core, id);
            None
        }
    }
}

/// Records are on disk, or cannot be written.
pub(in crate::daemon) fn on_recorded(core: &mut Core, outcome: Outcome<PendingWrite>) {
    let Outcome { trouble, records, workflows, tickets: _tickets } = outcome;
    let durable = trouble.is_none();
    for (serial, version) in workflows {
        on_workflow_recorded(core, serial, version, trouble.as_deref());
    }
    for (id, version) in records {
        let Some(job) = core.jobs.get_mut(id) else { continue };
        let kept = &mut job.durability;
        let was_durable = kept.is_durable();
        if durable {
            kept.has(version)
        } else {
            kept.lacks(version)
        }
        match (durable, was_durable) {
            (true, _) => {
                core.jobs.note(id, Fact::Recorded);
                answer_starters(core, id);
            }
            (false, true) => core.jobs.note(id, Fact::Unrecorded),
            (false, false) => {
                // A stop of a job that runs does not wait for the disk.
                core.jobs.note(id, Fact::Unrecorded);
                refuse_unrecorded(core, id, trouble.as_deref().unwrap_or_default());
            }
        }
    }
}

/// The first record of a job cannot be written, and nobody knows of the job yet. A job that waits is forgotten and its
/// caller refused; the caller of one that failed to start hears that, and of one that is over already; the caller of a
/// job that runs is answered when its record is written.
fn refuse_unrecorded(core: &mut Core, id: JobId, trouble: &str) {
    let Some(job) = core.jobs.get_mut(id) else { return };
    if job.spec.part.is_some() {
        // Its workflow is recorded, and nobody else waits for it: its record is tried again.
        return;
    }
    let why = match &job.state {
        State::Recording(ending) if ending.reason == ExitReason::StartFailed => ending.message.clone(),
        State::Recording(_) => format!("job {id} is over, and that cannot be recorded yet: {trouble}"),
        state if state.waits() => not_recorded(trouble),
        _ => return,
    };
    let refused = job.refused(why);
    for starter in job.waiters.take_starters() {
        let _ = starter.send(Err(refused.clone()));
    }
    if job.state.waits() {
        // Whoever found it in the list may follow it.
        job.end_streams();
        leave_queues(core, id);
        // It may have been given a slot in this very turn.
        release_slot(core, id);
        forget(core, &[id]);
    }
}

/// Answers RunJob, if there is an answer to give.
pub(in crate::daemon) fn answer_starters(core: &mut Core, id: JobId) {
    let Some(job) = core.jobs.get_mut(id) else { return };
    if !job.waiters.await_any_start() || !job.is_announceable() {
        return;
    }
    let starters = job.waiters.take_starters();
    let view = job.view(&core.slots);
    let failed = match &view.ending {
        Some(ending) if ending.reason == ExitReason::StartFailed && ending.code == -1 => {
            Some(job.refused(ending.message.clone()))
        }
        _ => None,
    };
    for starter in starters {
        let _ = starter.send(failed.clone().map_or_else(|| Ok(view.clone()), Err));
    }
}
