//! ListWorkflows: one page of workflows, oldest first.

use super::request::Answer;
use crate::daemon::core::Core;
use crate::daemon::workflows::view::{WorkflowPage, WorkflowQuery};

pub(super) fn handle(core: &Core, query: &WorkflowQuery, answer: Answer<WorkflowPage>) {
    let _ = answer.send(Ok(core.workflows.list(query)));
}
