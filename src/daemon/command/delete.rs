//! DeleteJob and DeleteAllJobs: terminal jobs are forgotten. Answered when their records and their files are gone.

use super::request::{Answer, CommandError, Deleted};
use crate::daemon::core::Core;
use crate::daemon::lifecycle::forget_then;
use crate::job::{JobId, JobRef};

/// Deletes one job.
pub(super) fn handle(core: &mut Core, wanted: &JobRef, answer: Answer<JobId>) {
    let found = core.jobs.find(wanted).and_then(|job| {
        let hint = if job.state.waits() { "cancel or stop it first" } else { "stop it first" };
        let refused = || CommandError::WrongState(format!("Cannot delete running job; {hint}"));
        if job.state.is_finished() { Ok(job.id) } else { Err(refused()) }
    });
    match found {
        Err(why) => {
            let _ = answer.send(Err(why));
        }
        Ok(id) => remove(core, &[id], answer, id),
    }
}

/// Deletes all terminal jobs.
pub(super) fn handle_all(core: &mut Core, answer: Answer<Deleted>) {
    let finished = core.jobs.iter().filter(|job| job.state.is_finished());
    let finished: Vec<JobId> = finished.map(|job| job.id).collect();
    let deleted = Deleted { deleted: finished.len() as u32, skipped: core.jobs.live() as u32 };
    remove(core, &finished, answer, deleted);
}

/// Forgets jobs, removes their output, then answers.
fn remove<T: Send + 'static>(core: &mut Core, ids: &[JobId], answer: Answer<T>, reply: T) {
    forget_then(core, ids, move || {
        let _ = answer.send(Ok(reply));
    });
}
