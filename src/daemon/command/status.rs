//! GetJobStatus: one job as it is now.

use super::request::Answer;
use crate::daemon::core::Core;
use crate::job::{JobRef, JobView};

pub(super) fn handle(core: &mut Core, wanted: &JobRef, answer: Answer<JobView>) {
    let found = core.jobs.find(wanted).map(|job| {
        let dependencies = job.spec.part.map(|part| core.workflows.dependencies(&part)).unwrap_or_default();
        JobView { dependencies, ..job.view(&core.slots) }
    });
    let _ = answer.send(found);
}
