//! GetWorkflowStatus and GetWorkflowJobs: one workflow as it is now.

use super::request::Answer;
use crate::daemon::core::Core;
use crate::daemon::workflows::view::WorkflowView;
use crate::job::JobRef;

pub(super) fn handle(core: &Core, wanted: &JobRef, answer: Answer<WorkflowView>) {
    let found = core.workflows.find(wanted).map(|serial| core.workflows.get(serial));
    let _ = answer.send(found.and_then(|entry| {
        let missing = || super::CommandError::NoWorkflow(wanted.to_string());
        entry.map(|entry| entry.view(true)).ok_or_else(missing)
    }));
}
