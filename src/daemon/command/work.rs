//! WriteFiles and ReadFiles of a job: its /work. The API copies by itself.

use std::os::fd::AsFd;

use super::request::CommandError;
use super::work_view::OpenWork;
use crate::daemon::core::Core;
use crate::job::{JobRef, State};

/// The /work of a job that runs.
pub(super) fn find(core: &mut Core, wanted: &JobRef) -> Result<OpenWork, CommandError> {
    let job = core.jobs.find(wanted)?;
    let id = job.id;
    let running = matches!(job.state, State::Running | State::StopRequested(_) | State::Stopping(_));
    let (Some(run), Some(identity)) = (job.run.as_ref().filter(|_| running), &job.held.identity) else {
        let status = job.status();
        return Err(CommandError::WrongState(format!(
            "job is not running: {id} (current status: {})",
            status.as_str()
        )));
    };
    let init = run.init.as_fd().try_clone_to_owned();
    let init = init.map_err(|why| CommandError::Exhausted(format!("cannot reach job {id}: {why}")))?;
    let output = job.output.watermark.clone();
    Ok(OpenWork { id, init, pid: run.pid, owner: identity.owner(), output })
}
