//! Forward: the way into the network of a running job. The API connects there by itself.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::request::{Answer, CommandError};
use crate::daemon::core::Core;
use crate::forward::JobNetwork;
use crate::job::{JobRef, NetworkMode, State};

/// Answers with the network of a job that runs.
pub(super) fn handle(core: &mut Core, wanted: &JobRef, answer: Answer<Arc<JobNetwork>>) {
    let _ = answer.send(find(core, wanted));
}

fn find(core: &mut Core, wanted: &JobRef) -> Result<Arc<JobNetwork>, CommandError> {
    let id = core.jobs.find(wanted)?.id;
    let job = core.jobs.get_mut(id).ok_or_else(|| CommandError::NotFound(id.to_string()))?;
    if job.spec.network == NetworkMode::Host {
        return Err(CommandError::WrongState(format!(
            "job {id} has no network of its own (mode host): its ports are the host's"
        )));
    }
    let status = job.status();
    let running = matches!(job.state, State::Running | State::StopRequested(_) | State::Stopping(_));
    match job.run.as_ref().filter(|_| running) {
        Some(run) => {
            let ports = job.held.ports.get_or_insert_with(|| core.supply.ports().none());
            ports.network(id, run.init.as_fd(), run.pid).map_err(|why| {
                CommandError::Exhausted(format!("cannot open the way to job {id}: {why}; try again"))
            })
        }
        None => Err(CommandError::WrongState(format!(
            "job is not running: {id} (current status: {})",
            status.as_str()
        ))),
    }
}
