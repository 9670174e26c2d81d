//! A workflow as replies show it.

use std::sync::Arc;

use super::node::Node;
use crate::job::{JobId, WorkflowId};
use crate::state::workflow::NodeRecord;
use crate::workflow::NodeStatus;

/// Most ids of attempts and elements that a reply names for one job.
const SHOWN_IDS: usize = 1000;

/// A workflow at one moment. Times are ns since the epoch.
#[derive(Debug, Clone)]
pub struct WorkflowView {
    /// The workflow's id.
    pub id: WorkflowId,
    /// The name in its file; may be empty.
    pub name: Arc<str>,
    /// The file, with `***` for the values of secrets.
    pub yaml: Arc<str>,
    /// The status of the workflow.
    pub status: NodeStatus,
    /// When the request was accepted.
    pub created_ns: i64,
    /// Start of its first job.
    pub started_ns: Option<i64>,
    /// The time of its end.
    pub ended_ns: Option<i64>,
    /// A sentence for people; may be empty.
    pub message: String,
    /// Jobs of the file by status: COMPLETED; FAILED or STOPPED; CANCELED.
    pub counts: [usize; 3],
    /// The jobs as the file has them.
    pub roster: Arc<Vec<NodeRecord>>,
    /// Where each of them stands; empty where that was not asked for.
    pub nodes: Vec<NodeView>,
}

/// One job of a workflow at one moment.
#[derive(Debug, Clone)]
pub struct NodeView {
    /// The job that people look for; `None`: none was started.
    pub job: Option<JobId>,
    /// The status of the job, or of all of its elements.
    pub status: NodeStatus,
    /// Start of the last payload, of an array the first one.
    pub started_ns: Option<i64>,
    /// The end, once it is over.
    pub ended_ns: Option<i64>,
    /// Exit code of the last attempt.
    pub code: i32,
    /// The reason of its end; empty before.
    pub reason: &'static str,
    /// A sentence on it; may be empty.
    pub message: String,
    /// Most attempts that an element had.
    pub attempts: usize,
    /// Elements in all, running, COMPLETED, FAILED or STOPPED, CANCELED.
    pub elements: [usize; 5],
    /// Ids of all attempts and elements, at most a thousand.
    pub ids: Vec<JobId>,
}

/// One page of the list of workflows, oldest first.
#[derive(Debug, Clone, Default)]
pub struct WorkflowPage {
    /// Workflows with their serials, by which a next page begins.
    pub workflows: Vec<(u64, WorkflowView)>,
    /// There are more behind the last one.
    pub more: bool,
}

/// Which workflows a list wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkflowQuery {
    /// Those that are over, too.
    pub with_ended: bool,
    /// At most so many; 0 for as many as one page has.
    pub limit: usize,
    /// Only workflows with a serial above this one.
    pub after: u64,
}

/// A job of the file as replies show it.
pub(in crate::daemon) fn node(node: &Node, status: NodeStatus) -> NodeView {
    let shown = node.shown();
    let ending = shown.ending.as_ref().filter(|_| shown.job.is_none() && shown.status.is_terminal());
    let count = |status: NodeStatus| node.counts[status as usize];
    let started = node.elements.iter().filter_map(|element| element.started_ns).min();
    let ended = node.elements.iter().filter_map(|element| element.ended_ns).max();
    NodeView {
        job: shown.attempts.last().copied(),
        status,
        started_ns: if node.elements.len() == 1 { shown.started_ns } else { started },
        ended_ns: ended.filter(|_| status.is_terminal()),
        code: ending.map_or(0, |ending| ending.code),
        reason: ending.map_or("", |ending| ending.reason.as_str()),
        message: ending.map_or_else(String::new, |ending| ending.message.clone()),
        attempts: node.elements.iter().map(|element| element.attempts.len()).max().unwrap_or(0),
        elements: [
            node.elements.len(),
            count(NodeStatus::Running),
            count(NodeStatus::Completed),
            count(NodeStatus::Failed) + count(NodeStatus::Stopped),
            count(NodeStatus::Canceled),
        ],
        ids: node
            .elements
            .iter()
            .flat_map(|element| element.attempts.iter().copied())
            .take(SHOWN_IDS)
            .collect(),
    }
}
