//! Forgetting finished jobs: their records, their output, their timers.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use log::Level;

use super::workflows::forget_workflow;
use crate::daemon::cleanup::{CleanupTask, WhenRemoved};
use crate::daemon::core::Core;
use crate::daemon::history::WhenDeleted;
use crate::daemon::jobs::{Job, Slice};
use crate::daemon::timers::Timer;
use crate::diag;
use crate::job::JobId;
use crate::sys::clock::now_ns;

/// Finished jobs that one turn of the loop forgets or passes over at most; it goes on in the next turn, which comes at once.
const SLICE: usize = 128;
/// From one look for expired jobs to the next.
const EXPIRY: Duration = Duration::from_secs(3600);

/// Takes jobs out of the table and their records off the disk; then their output and their inputs are removed. History
/// that outlives them goes by its own age.
pub(in crate::daemon) fn forget(core: &mut Core, ids: &[JobId]) {
    let staged = ids.iter().map(|id| CleanupTask::File(core.staging.path(*id))).collect();
    forget_with(core, ids, staged, None);
}

/// The same for a job beyond the limits of what is kept: its history goes too, which counts for them.
fn forget_wholly(core: &mut Core, id: JobId) {
    let staged = vec![CleanupTask::File(core.staging.path(id))];
    forget_with(core, &[id], staged, Some(Box::new(|_| {})));
}

/// The same for jobs that are over, whose inputs are gone. `done` is called when nothing is left of them, with `false` when
/// their history is still there, and will be deleted.
pub(in crate::daemon) fn forget_then(
    core: &mut Core,
    ids: &[JobId],
    done: impl FnOnce(bool) + Send + 'static,
) {
    forget_with(core, ids, Vec::new(), Some(Box::new(done)));
}

fn forget_with(core: &mut Core, ids: &[JobId], mut tasks: Vec<CleanupTask>, history: Option<WhenDeleted>) {
    let both = |id: &JobId| [core.node.spool.join(id.to_string()), core.execs.of_job(*id)];
    let spools: VecDeque<PathBuf> = ids.iter().flat_map(both).collect();
    let (goes, kept) = (history.is_some(), core.streams.history().is_kept());
    let after = history.map(|done| {
        let (delete, ids) = (core.streams.history().deleter(), ids.to_vec());
        Box::new(move || delete(ids, done)) as WhenRemoved
    });
    tasks.push(CleanupTask::Directories(spools, after));
    let mut serials = Vec::with_capacity(ids.len());
    for id in ids {
        let Some(mut job) = core.jobs.remove(*id) else { continue };
        diag::event!(Level::Debug, "job forgotten", jobId = id);
        serials.push(job.serial());
        job.waiters.dismiss(*id);
        core.execs.forget(*id);
    }
    let queue = core.cleanup.queue();
    let wishes = if goes && kept { ids.to_vec() } else { Vec::new() };
    core.ledger.delete(serials, wishes, move || {
        for task in tasks {
            // The cleanup thread is gone only when the daemon is.
            let _ = queue.send(task);
        }
    });
}

/// Drops timers of jobs that are gone.
pub(super) fn forget_timers(core: &mut Core) {
    let (jobs, execs, live) = (&core.jobs, &core.execs, core.jobs.live() + core.execs.open());
    let lives = |id: &JobId| jobs.get(*id).is_some_and(|job| !job.state.is_finished());
    core.clock.weed(live, |timer| match timer {
        Timer::Grace(id) | Timer::Timeout(id) | Timer::PauseOver(id) | Timer::Drain(id) => lives(id),
        Timer::LiveOver(id) => jobs.get(*id).is_some(),
        Timer::ExecStuck(id, _) | Timer::ExecTimeout(id) | Timer::ExecKill(id) | Timer::ExecDrain(id) => {
            execs.is_open(*id)
        }
        Timer::Cgroup(_) | Timer::Stuck | Timer::Quiet => true,
        Timer::Expired | Timer::Schedule | Timer::Feed | Timer::ShutdownOver => true,
    });
}

/// Has what is kept of a finished job measured. Output that is live only is removed before.
pub(in crate::daemon) fn measure(core: &Core, id: JobId) {
    core.cleanup.measure([(id, core.node.kept(id))].into());
}

/// Forgets finished jobs and workflows that are too many, too large or too old, and those that a client wants deleted: as
/// many as one turn does. `true`: there are more.
pub(in crate::daemon) fn forget_some(core: &mut Core) -> bool {
    let room = SLICE - forget_surplus(core, SLICE);
    let room = room - forget_expired(core, room);
    let room = room - delete_some(core, room);
    // Each has as many elements as its file has.
    forget_workflow(core, core.sweep.before_ns().unwrap_or(i64::MIN)) || room == 0 || core.sweep.is_busy()
}

/// Forgets finished jobs beyond the number and the bytes that are kept: those that ended first, and the oldest ones of the
/// client that keeps most. How many.
fn forget_surplus(core: &mut Core, most: usize) -> usize {
    let (mut number, mut limit) = (0, None);
    while number < most {
        let too_many = core.jobs.finished() > core.settings.retention_max;
        let oldest = core.jobs.oldest_finished().filter(|_| too_many).map(|id| (id, None));
        let next = oldest.or_else(|| core.jobs.surplus().map(|(id, key)| (id, Some(key))));
        let Some((id, key)) = next else { break };
        forget_wholly(core, id);
        (number, limit) = (number + 1, key.or(limit));
    }
    if let Some(key) = limit {
        diag::limited!(Level::Info, "forgetting old jobs", number = number, limit = key);
    }
    number
}

/// Forgets finished jobs that ended too long ago. How many.
fn forget_expired(core: &mut Core, most: usize) -> usize {
    let Some(before) = core.sweep.before_ns() else { return 0 };
    let ids: Vec<JobId> = core.jobs.ended_before(before).take(most).collect();
    if !ids.is_empty() {
        diag::limited!(
            Level::Info,
            "forgetting old jobs",
            number = ids.len(),
            limit = "state.retention.days"
        );
        forget(core, &ids);
    }
    if ids.len() < most && core.workflows.surplus(before).is_none() {
        core.sweep.has_expired();
    }
    ids.len()
}

/// Forgets jobs for DeleteAllJobs. How many were looked at.
fn delete_some(core: &mut Core, most: usize) -> usize {
    // A workflow that runs keeps its jobs: people look for what they wrote.
    let workflows = &core.workflows;
    let in_use = |job: &Job| job.spec.part.is_some_and(|part| workflows.is_live(part.workflow));
    let Some(Slice { ids, looked_at, callers }) = core.sweep.slice(&core.jobs, in_use, most) else {
        return 0;
    };
    if ids.is_empty() {
        callers.removed(true);
    } else {
        forget_then(core, &ids, move |history_gone| callers.removed(history_gone));
    }
    looked_at
}

/// Forgets finished jobs that ended too long ago, now and from time to time.
pub(in crate::daemon) fn expire(core: &mut Core) {
    core.sweep.expire(now_ns().saturating_sub(core.settings.retention_ns));
    core.clock.set(Instant::now() + EXPIRY, Timer::Expired);
}
