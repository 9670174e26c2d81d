//! GetExec, ListExecs and GetJobLogs of a command: the commands that run, or ran, in a job.

use super::request::{CommandError, LogSource};
use crate::daemon::core::Core;
use crate::job::JobRef;
use crate::job::exec::ExecView;

/// The command of a job that a client names.
pub(super) fn find(core: &mut Core, job: &JobRef, wanted: &str) -> Result<ExecView, CommandError> {
    let job = core.jobs.find(job)?.id;
    core.execs.find(job, wanted).map(|exec| exec.view(job))
}

/// All commands of a job, oldest first.
pub(super) fn list(core: &mut Core, job: &JobRef) -> Result<Vec<ExecView>, CommandError> {
    let job = core.jobs.find(job)?.id;
    Ok(core.execs.list(job).iter().map(|exec| exec.view(job)).collect())
}

/// The place where the output of a command is read.
pub(super) fn source(core: &mut Core, job: &JobRef, wanted: &str) -> Result<LogSource, CommandError> {
    let id = core.jobs.find(job)?.id;
    let exec = core.execs.find(id, wanted)?;
    Ok(LogSource {
        id,
        dir: core.execs.room(id, exec.id),
        is_known: true,
        history: None,
        watermark: exec.output.clone(),
    })
}
