//! Attach: whose standard input it is. The API sends the bytes by itself.

use super::request::CommandError;
use crate::daemon::core::Core;
use crate::job::exec::ExecId;
use crate::job::{JobRef, State};

/// The program whose standard input a client wants to send: a command of a job, or its payload where `wanted` is empty.
pub(super) fn find(core: &mut Core, job: &JobRef, wanted: &str) -> Result<ExecId, CommandError> {
    let job = core.jobs.find(job)?;
    let id = job.id;
    if !wanted.is_empty() {
        return core.execs.find(id, wanted).map(|exec| exec.id);
    }
    match (&job.state, job.status().as_str()) {
        (State::Running | State::StopRequested(_) | State::Stopping(_), _) => Ok(id),
        (state, status) if state.is_finished() => {
            Err(CommandError::WrongState(format!("job is not running: {id} (current status: {status})")))
        }
        (_, status) => {
            Err(CommandError::WrongState(format!("job has not started: {id} (current status: {status})")))
        }
    }
}
