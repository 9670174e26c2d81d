//! Forgetting finished jobs: their records, their output, their timers.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use log::Level;

use super::workflows::forget_workflows;
use crate::daemon::cleanup::{CleanupTask, WhenRemoved};
use crate::daemon::command::CommandError;
use crate::daemon::core::Core;
use crate::daemon::history::WhenDeleted;
use crate::daemon::jobs::Job;
use crate::daemon::timers::Timer;
use crate::diag;
use crate::job::JobId;
use crate::sys::clock::now_ns;

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
    let spools: VecDeque<PathBuf> = ids.iter().map(|id| core.node.spool.join(id.to_string())).collect();
    let (goes, kept) = (history.is_some(), core.streams.history.is_kept());
    let after = history.map(|done| {
        let (delete, ids) = (core.streams.history.deleter(), ids.to_vec());
        Box::new(move || delete(ids, done)) as WhenRemoved
    });
    tasks.push(CleanupTask::Directories(spools, after));
    let mut serials = Vec::with_capacity(ids.len());
    for id in ids {
        let Some(job) = core.jobs.remove(*id) else { continue };
        diag::event!(Level::Debug, "job forgotten", jobId = id);
        serials.push(job.serial);
        dismiss(job);
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

/// Answers the calls that still wait for a job that is gone. They would hear that the daemon shuts down.
fn dismiss(mut job: Job) {
    let gone = CommandError::NotFound(format!("{} (it was deleted)", job.id));
    for caller in job.waiters.starters.drain(..).chain(job.waiters.stoppers.drain(..)) {
        let _ = caller.send(Err(gone.clone()));
    }
    for tester in job.waiters.testers.drain(..) {
        let _ = tester.send(Err(gone.clone()));
    }
}

/// Forgets finished jobs beyond the number that is kept, those that ended first, and timers of jobs that are gone.
pub(super) fn forget_old(core: &mut Core) {
    while core.jobs.finished() > core.settings.retention_max
        && let Some(id) = core.jobs.oldest_finished()
    {
        forget_wholly(core, id);
    }
    forget_surplus(core);
    let (jobs, live) = (&core.jobs, core.jobs.live());
    let lives = |id: &JobId| jobs.get(*id).is_some_and(|job| !job.state.is_finished());
    core.clock.timers.weed(live, |timer| match timer {
        Timer::Grace(id) | Timer::Timeout(id) | Timer::PauseOver(id) | Timer::Drain(id) => lives(id),
        Timer::LiveOver(id) => jobs.get(*id).is_some(),
        Timer::Cgroup(_) | Timer::Stuck | Timer::Quiet => true,
        Timer::Expired | Timer::Schedule | Timer::Feed | Timer::ShutdownOver => true,
    });
}

/// Has what is kept of a finished job measured. Output that is live only is removed before.
pub(in crate::daemon) fn measure(core: &Core, id: JobId) {
    core.cleanup.measure([(id, core.node.kept(id))].into());
}

/// A finished job's output was measured.
pub(in crate::daemon) fn on_measured(core: &mut Core, id: JobId, bytes: u64) {
    core.jobs.measured(id, bytes);
    forget_surplus(core);
}

/// Forgets finished jobs beyond the bytes that are kept: the oldest ones of the client that keeps most.
fn forget_surplus(core: &mut Core) {
    let mut gone: Option<(usize, &str)> = None;
    while let Some((id, key)) = core.jobs.surplus() {
        forget_wholly(core, id);
        gone = Some((gone.map_or(1, |(number, _)| number + 1), key));
    }
    if let Some((number, limit)) = gone {
        diag::limited!(Level::Info, "forgetting old jobs", number = number, limit = limit);
    }
}

/// Forgets finished jobs that ended too long ago, now and from time to time.
pub(in crate::daemon) fn expire(core: &mut Core) {
    let before = now_ns().saturating_sub(core.settings.retention_ns);
    let finished = core.jobs.iter().filter(|job| job.state.is_finished());
    let expired = finished.filter(|job| job.times.ended_ns.is_some_and(|at| at < before));
    let ids: Vec<JobId> = expired.map(|job| job.id).collect();
    if !ids.is_empty() {
        diag::event!(Level::Info, "forgetting old jobs", number = ids.len());
        forget(core, &ids);
    }
    forget_workflows(core, before);
    core.clock.timers.set(Instant::now() + EXPIRY, Timer::Expired);
}
