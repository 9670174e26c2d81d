//! DeleteJob and DeleteAllJobs: terminal jobs are forgotten. Answered when their records and their files are gone.

use super::request::{Answer, CommandError, Deleted, Removed};
use crate::daemon::core::Core;
use crate::daemon::lifecycle::forget_then;
use crate::job::JobRef;

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
        Ok(id) => forget_then(core, &[id], move |history_gone| {
            let _ = answer.send(Ok(Removed { id, history_gone }));
        }),
    }
}

/// Deletes all terminal jobs, some in each turn of the loop.
pub(super) fn handle_all(core: &mut Core, answer: Answer<Deleted>) {
    core.sweep.delete_all(answer);
}
