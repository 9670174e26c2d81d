//! FreezeJob, ThawJob and SetJobTimeout: the clock of a running job.

use std::time::Duration;

use super::pause_state::PauseState;
use super::request::{Answer, CommandError};
use crate::daemon::core::Core;
use crate::daemon::lifecycle::{change_timeout, pause, ran_for, resume};
use crate::job::state::State;
use crate::job::{JobId, JobRef, units};

/// Pauses a job, or has it go on. A job that is paused already stays so, since when it was.
pub(super) fn handle(core: &mut Core, wanted: &JobRef, paused: bool, answer: Answer<PauseState>) {
    let id = match running(core, wanted) {
        Ok(id) => id,
        Err(why) => return drop(answer.send(Err(why))),
    };
    if core.streams.freezer().is_full() {
        let text = "too many jobs are being paused or resumed; try again";
        return drop(answer.send(Err(CommandError::Exhausted(text.to_owned()))));
    }
    let Some(job) = core.jobs.get(id) else { return };
    if job.held.cgroup.is_none() {
        let text = format!("cannot pause job {id}: it has no cgroup, because this host has no cgroup v2");
        return drop(answer.send(Err(CommandError::WrongState(text))));
    }
    if paused { pause(core, id, answer) } else { resume(core, id, Some(answer)) }
}

/// Gives a job another timeout, counted from now.
pub(super) fn set_timeout(core: &mut Core, wanted: &JobRef, left: Duration, answer: Answer<PauseState>) {
    let changed = running(core, wanted).and_then(|id| {
        check_bound(core, id, left)?;
        change_timeout(core, id, left);
        let job = core.jobs.get(id).ok_or(CommandError::ShuttingDown)?;
        let clock = job.clock();
        Ok(PauseState { id, frozen: clock.paused_ns.is_some(), clock })
    });
    let _ = answer.send(changed);
}

/// A job may not run longer in all than one whose timeout was given at its start.
fn check_bound(core: &Core, id: JobId, left: Duration) -> Result<(), CommandError> {
    let (Some(job), Some(bound)) = (core.jobs.get(id), core.settings.job_timeout) else { return Ok(()) };
    let ran = ran_for(job);
    if ran.saturating_add(left) <= bound {
        return Ok(());
    }
    let (bound, ran) =
        (units::format_duration(bound), units::format_duration(Duration::from_secs(ran.as_secs())));
    Err(CommandError::Invalid(format!(
        "invalid timeout: joblet.jobTimeout of this node allows at most {bound} from the start, of which job {id} has \
         run {ran}; ask for less, or raise that key"
    )))
}

/// The job, if it runs and nobody ends it.
fn running(core: &mut Core, wanted: &JobRef) -> Result<JobId, CommandError> {
    let job = core.jobs.find(wanted)?;
    let (id, status) = (job.id, job.status().as_str());
    match &job.state {
        State::Running => Ok(id),
        State::StopRequested(_) | State::Stopping(_) => Err(CommandError::WrongState(format!(
            "job is being stopped already: {id} (current status: {status})"
        ))),
        State::Draining(_) | State::Recording(_) => {
            Err(CommandError::WrongState(format!("job is ending already: {id} (current status: {status})")))
        }
        _ => Err(CommandError::WrongState(format!("job is not running: {id} (current status: {status})"))),
    }
}
