//! GetJobStatus: one job as it is now.

use super::request::Answer;
use crate::daemon::core::Core;
use crate::job::{JobRef, JobView};

pub(super) fn handle(core: &mut Core, wanted: &JobRef, answer: Answer<JobView>) {
    let _ = answer.send(core.jobs.find(wanted).map(|job| job.view(&core.slots)));
}
