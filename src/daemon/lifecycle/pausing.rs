//! The clock of a job: its timeout, and the pauses in which that stands still.
//!
//! A job is paused by its cgroup (`cgroup.freeze`), which outlives the daemon. So the kernel has the last word on whether a
//! job is paused, and the record only knows since when: the next daemon goes on with both.

use std::time::{Duration, Instant};

use log::Level;

use crate::cgroup::JobCgroup;
use crate::daemon::command::{Answer, PauseState};
use crate::daemon::core::Core;
use crate::daemon::freezer::{Frozen, Waiting};
use crate::daemon::instant_of;
use crate::daemon::jobs::Job;
use crate::daemon::timers::Timer;
use crate::diag;
use crate::job::JobId;
use crate::job::exit::StopCause;
use crate::job::state::Fact;
use crate::state::Pause;
use crate::sys::clock::{monotonic_ns, now_ns};

use super::recording::save;

/// Starts the clock of a job's timeout, or goes on with the one that an earlier daemon started.
pub(super) fn run_timeout(core: &mut Core, id: JobId) {
    let Some(job) = core.jobs.get_mut(id) else { return };
    let Some(timeout) = job.timeout() else { return };
    let at = *job.times.timeout_at_ns.get_or_insert_with(|| after(timeout));
    if job.times.paused.is_none() {
        core.clock.set(instant_of(at), Timer::Timeout(id));
    }
}

/// A timer of a job's timeout fires. The timeout may have moved since it was set.
pub(in crate::daemon) fn on_timeout(core: &mut Core, id: JobId) {
    let Some(job) = core.jobs.get(id) else { return };
    let Some(at) = job.times.timeout_at_ns.filter(|_| job.times.paused.is_none()) else { return };
    if at <= monotonic_ns() {
        core.jobs.note(id, Fact::Stop(StopCause::Timeout));
    } else {
        core.clock.set(instant_of(at), Timer::Timeout(id));
    }
}

/// A pause may have lasted for as long as the node allows.
pub(in crate::daemon) fn on_pause_over(core: &mut Core, id: JobId) {
    let Some(pause) = core.jobs.get(id).and_then(|job| job.times.paused) else { return };
    if pause_ends(core, pause) <= Instant::now() {
        core.jobs.note(id, Fact::Stop(StopCause::Paused));
    }
}

/// Has a running job paused; its timeout stands still from now on.
pub(in crate::daemon) fn pause(core: &mut Core, id: JobId, answer: Answer<PauseState>) {
    let Some(job) = core.jobs.get_mut(id) else { return };
    let started = Pause { since_ns: now_ns(), at_ns: monotonic_ns() };
    let pause = *job.times.paused.get_or_insert(started);
    core.clock.set(pause_ends(core, pause), Timer::PauseOver(id));
    save(core, id);
    set(core, id, true, Some(answer));
}

/// Has a paused job go on, and its timeout too.
pub(in crate::daemon) fn resume(core: &mut Core, id: JobId, answer: Option<Answer<PauseState>>) {
    if let Some(job) = core.jobs.get_mut(id) {
        end_pause(job);
    }
    run_timeout(core, id);
    save(core, id);
    set(core, id, false, answer);
}

/// Has a job go on that is to end.
pub(super) fn wake(core: &mut Core, id: JobId) {
    if core.jobs.get(id).is_some_and(|job| job.times.paused.is_some()) {
        resume(core, id, None);
    }
}

/// The kernel has paused a job, or has it go on, or refused to.
pub(in crate::daemon) fn on_frozen(core: &mut Core, frozen: Frozen) {
    let Frozen { id, wanted, refused } = frozen;
    diag::limited!(Level::Warn, "cannot pause or resume a job", jobId = id, error = refused);
    let Some(job) = core.jobs.get_mut(id).filter(|_| wanted) else { return };
    end_pause(job);
    run_timeout(core, id);
    save(core, id);
}

/// Gives a running job another timeout, counted from now.
pub(in crate::daemon) fn change_timeout(core: &mut Core, id: JobId, left: Duration) {
    let Some(job) = core.jobs.get_mut(id) else { return };
    job.times.timeout = Some(ran_for(job).saturating_add(left));
    let from = job.times.paused.map_or_else(monotonic_ns, |pause| pause.at_ns);
    job.times.timeout_at_ns = Some(from.saturating_add(nanos(left)));
    run_timeout(core, id);
    save(core, id);
}

/// How long a job has run, without pauses as far as its timeout tells of them.
pub(in crate::daemon) fn ran_for(job: &Job) -> Duration {
    let now = job.times.paused.map_or_else(monotonic_ns, |pause| pause.at_ns);
    let left =
        job.times.timeout_at_ns.map(|at| Duration::from_nanos(at.saturating_sub(now).max(0).cast_unsigned()));
    match (job.timeout(), left) {
        (Some(timeout), Some(left)) => timeout.saturating_sub(left),
        _ => {
            let since = job.times.started_ns.map_or(0, |start| now_ns().saturating_sub(start));
            Duration::from_nanos(since.max(0).cast_unsigned())
        }
    }
}

/// A job that lives has a new daemon: whether it is paused, its cgroup tells.
pub(super) fn take_over_pause(core: &mut Core, id: JobId) {
    let Some(job) = core.jobs.get_mut(id) else { return };
    let group = job.held.cgroup.as_ref();
    let is_paused = group.is_some_and(|group| group.is_to_freeze().unwrap_or(false));
    match job.times.paused {
        Some(_) if !is_paused => end_pause(job),
        None if is_paused => {
            job.times.paused = Some(Pause { since_ns: now_ns(), at_ns: monotonic_ns() });
        }
        _ => {}
    }
    if let Some(pause) = job.times.paused {
        core.clock.set(pause_ends(core, pause), Timer::PauseOver(id));
    }
}

/// The end of the longest pause that began so.
fn pause_ends(core: &Core, pause: Pause) -> Instant {
    instant_of(pause.at_ns.saturating_add(nanos(core.settings.max_pause)))
}

/// Moves the end of the timeout by the length of the pause that is over.
fn end_pause(job: &mut Job) {
    let Some(pause) = job.times.paused.take() else { return };
    let length = monotonic_ns().saturating_sub(pause.at_ns).max(0);
    job.times.timeout_at_ns = job.times.timeout_at_ns.map(|at| at.saturating_add(length));
}

fn set(core: &Core, id: JobId, frozen: bool, answer: Option<Answer<PauseState>>) {
    let Some(job) = core.jobs.get(id) else { return };
    match job.held.cgroup.as_ref().map(JobCgroup::try_clone) {
        Some(Ok(group)) => {
            let waiting = answer.map(|answer| Waiting { clock: job.clock(), answer });
            core.streams.freezer().set(id, group, frozen, waiting);
        }
        Some(Err(why)) => {
            diag::limited!(Level::Warn, "cannot pause or resume a job", jobId = id, error = why);
        }
        None => {}
    }
}

/// A moment of CLOCK_MONOTONIC, ns.
fn after(time: Duration) -> i64 {
    monotonic_ns().saturating_add(nanos(time))
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}
