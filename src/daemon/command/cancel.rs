//! CancelJob: a scheduled job will not start. Answered when that is recorded.

use super::request::{Answer, CommandError};
use crate::daemon::core::Core;
use crate::daemon::lifecycle::leave_queues;
use crate::job::state::{Fact, State};
use crate::job::{JobRef, JobView};

pub(super) fn handle(core: &mut Core, wanted: &JobRef, answer: Answer<JobView>) {
    match core.jobs.find(wanted) {
        Err(why) => {
            let _ = answer.send(Err(why));
        }
        Ok(job) if job.state == State::Scheduled => {
            job.waiters.await_end(answer);
            let id = job.id;
            leave_queues(core, id);
            core.jobs.note(id, Fact::Cancel);
        }
        Ok(job) => {
            let status = job.status().as_str();
            let text = format!("Job is not scheduled: {} (current status: {status})", job.id);
            let _ = answer.send(Err(CommandError::WrongState(text)));
        }
    }
}
