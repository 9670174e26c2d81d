//! CancelWorkflow: nothing of a workflow starts any more, and its jobs are ended. Answered when all of them are over; a
//! workflow that is over already is shown as it ended.

use super::request::Answer;
use crate::daemon::core::Core;
use crate::daemon::lifecycle;
use crate::daemon::workflows::view::WorkflowView;
use crate::job::JobRef;

pub(super) fn handle(core: &mut Core, wanted: &JobRef, answer: Answer<WorkflowView>) {
    let serial = match core.workflows.find(wanted) {
        Ok(serial) => serial,
        Err(why) => {
            let _ = answer.send(Err(why));
            return;
        }
    };
    let Some(entry) = core.workflows.get_mut(serial) else { return };
    if entry.is_over() {
        let _ = answer.send(Ok(entry.view(false)));
        return;
    }
    if entry.cancel(answer) {
        lifecycle::save_workflow(core, serial);
    }
}
