//! StopJob: ends a job that waits for a slot or runs. Answered when it is terminal.
//!
//! A job that is being stopped may be stopped again with a grace period. Each such call waits, and sets a timer at most;
//! there are no more of them than open calls of all clients, which the API bounds.

use std::time::Duration;

use super::request::{Answer, CommandError};
use crate::daemon::core::Core;
use crate::daemon::lifecycle::{kill_after, leave_queues};
use crate::job::exit::StopCause;
use crate::job::state::{Fact, State};
use crate::job::{JobRef, JobView};

pub(super) fn handle(core: &mut Core, wanted: &JobRef, grace: Option<Duration>, answer: Answer<JobView>) {
    let job = match core.jobs.find(wanted) {
        Ok(job) => job,
        Err(why) => {
            let _ = answer.send(Err(why));
            return;
        }
    };
    let (id, status) = (job.id, job.status().as_str());
    if let Some(grace) = grace.filter(|_| is_stopping(&job.state)) {
        // A grace period may be long; this ends it sooner, and never prolongs it.
        job.waiters.await_end(answer);
        job.times.stop_grace = Some(job.times.stop_grace.map_or(grace, |first| first.min(grace)));
        if matches!(job.state, State::Stopping(_)) {
            kill_after(core, id, grace);
        }
        return;
    }
    let refused = if job.state == State::Scheduled {
        Some(format!("job is not running: {id} (current status: {status}); cancel it instead"))
    } else if job.state.stop_cause().is_some() {
        Some(format!("job is being stopped already: {id} (current status: {status})"))
    } else if matches!(job.state, State::Recording(_) | State::Draining(_)) {
        Some(format!("job is ending already: {id} (current status: {status})"))
    } else if job.state.is_finished() {
        Some(format!("job is not running: {id} (current status: {status})"))
    } else {
        None
    };
    if let Some(text) = refused {
        let _ = answer.send(Err(CommandError::WrongState(text)));
        return;
    }
    job.waiters.await_end(answer);
    job.times.stop_grace = grace;
    leave_queues(core, id);
    core.jobs.note(id, Fact::Stop(StopCause::Request));
}

/// Whether a stop is under way that waits for the payload.
fn is_stopping(state: &State) -> bool {
    matches!(state, State::Starting(Some(_)) | State::StopRequested(_) | State::Stopping(_))
}
