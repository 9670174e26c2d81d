//! DeleteJob and DeleteAllJobs: terminal jobs are forgotten. Answered when their records and their files are gone.

use super::request::{Answer, CommandError, Deleted, Removed};
use crate::daemon::core::Core;
use crate::daemon::jobs::Job;
use crate::daemon::lifecycle::forget_then;
use crate::job::{JobId, JobRef};

/// Deletes one job.
pub(super) fn handle(core: &mut Core, wanted: &JobRef, answer: Answer<Removed>) {
    let found = core.jobs.find(wanted).and_then(|job| {
        let hint = if job.state.waits() { "cancel or stop it first" } else { "stop it first" };
        let refused = || CommandError::WrongState(format!("Cannot delete running job; {hint}"));
        if job.state.is_finished() { Ok(job.id) } else { Err(refused()) }
    });
    match found {
        Err(why) => {
            let _ = answer.send(Err(why));
        }
        Ok(id) => remove(core, &[id], answer, move |history_gone| Removed { id, history_gone }),
    }
}

/// Deletes all terminal jobs.
pub(super) fn handle_all(core: &mut Core, answer: Answer<Deleted>) {
    // A workflow that runs keeps its jobs: people look for what they wrote.
    let in_use = |job: &Job| job.spec.part.is_some_and(|part| core.workflows.is_live(part.workflow));
    let goes = |job: &&Job| job.state.is_finished() && !in_use(job);
    let all = core.jobs.iter().count();
    let finished: Vec<JobId> = core.jobs.iter().filter(goes).map(|job| job.id).collect();
    let (deleted, skipped) = (finished.len() as u32, (all - finished.len()) as u32);
    let reply = move |history_gone| Deleted { deleted, skipped, history_gone };
    remove(core, &finished, answer, reply);
}

/// Forgets jobs, removes their output and their history, then answers.
fn remove<T: Send + 'static>(
    core: &mut Core,
    ids: &[JobId],
    answer: Answer<T>,
    reply: impl FnOnce(bool) -> T + Send + 'static,
) {
    forget_then(core, ids, move |history_gone| {
        let _ = answer.send(Ok(reply(history_gone)));
    });
}
