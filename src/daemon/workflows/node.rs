//! One job of a workflow's file, and the elements that it stands for.

use crate::job::{Ending, JobId, Status};
use crate::state::ElementRecord;
use crate::workflow::{Counts, NodeStatus, fold};

/// An element of an array or matrix; a job that stands for itself is its only element.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Element {
    /// Where it is in its life.
    pub(in crate::daemon) status: NodeStatus,
    /// Its attempts that were submitted, in order.
    pub(in crate::daemon) attempts: Vec<JobId>,
    /// The last of them, until it has ended.
    pub(in crate::daemon) job: Option<JobId>,
    /// Start of the last payload, ns since the epoch.
    pub(in crate::daemon) started_ns: Option<i64>,
    /// End of the last attempt.
    pub(in crate::daemon) ended_ns: Option<i64>,
    /// How that ended.
    pub(in crate::daemon) ending: Option<Ending>,
    /// Earliest start of the next attempt.
    pub(in crate::daemon) next_ns: Option<i64>,
}

/// One job of the file.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Node {
    /// Its elements, at least one.
    pub(in crate::daemon) elements: Vec<Element>,
    /// How many of them have each status.
    pub(in crate::daemon) counts: Counts,
    /// When its condition came true, ns since the epoch.
    pub(in crate::daemon) since_ns: i64,
    /// Whether it stands among the jobs that have elements to submit.
    pub(in crate::daemon) is_ready: bool,
    /// No element before this one is still to be submitted for the first time.
    cursor: usize,
}

impl Element {
    fn new() -> Element {
        Element {
            status: NodeStatus::Pending,
            attempts: Vec::new(),
            job: None,
            started_ns: None,
            ended_ns: None,
            ending: None,
            next_ns: None,
        }
    }

    fn is_untouched(&self) -> bool {
        self.status == NodeStatus::Pending && self.attempts.is_empty()
    }
}

impl Node {
    /// A job with so many elements, all of them PENDING.
    pub(in crate::daemon) fn new(elements: usize) -> Node {
        let mut counts = Counts::default();
        counts[NodeStatus::Pending as usize] = elements;
        Node { elements: vec![Element::new(); elements], counts, since_ns: 0, is_ready: false, cursor: 0 }
    }

    /// The next element to submit for the first time, while fewer than `most` are under way.
    pub(in crate::daemon) fn next(&mut self, most: usize) -> Option<usize> {
        let under_way = [NodeStatus::Scheduled, NodeStatus::Initializing, NodeStatus::Running];
        if under_way.iter().map(|status| self.counts[*status as usize]).sum::<usize>() >= most {
            return None;
        }
        self.has_more().then_some(self.cursor)
    }

    /// Whether an element has never been submitted.
    pub(in crate::daemon) fn has_more(&mut self) -> bool {
        while self.elements.get(self.cursor).is_some_and(|element| !element.is_untouched()) {
            self.cursor += 1;
        }
        self.cursor < self.elements.len()
    }

    /// Gives an element a status.
    pub(in crate::daemon) fn put(&mut self, element: usize, status: NodeStatus) {
        let was = std::mem::replace(&mut self.elements[element].status, status);
        self.counts[was as usize] -= 1;
        self.counts[status as usize] += 1;
    }

    /// None of its elements will run any more.
    pub(in crate::daemon) fn cancel_all(&mut self) {
        for element in 0..self.elements.len() {
            if !self.elements[element].status.is_terminal() {
                self.put(element, NodeStatus::Canceled);
            }
        }
    }

    /// Takes in the row of an element whose workflow is over.
    pub(in crate::daemon) fn recall(&mut self, row: &ElementRecord) {
        let at = row.element as usize;
        let Some(element) = self.elements.get_mut(at) else { return };
        element.attempts = row.attempts.clone();
        (element.started_ns, element.ended_ns) = (row.started_ns, Some(row.ended_ns));
        element.ending = Some(row.ending.clone());
        // Its next attempt was canceled with the workflow.
        let status = if row.next_ns.is_some() { NodeStatus::Canceled } else { status_of(row.ending.status) };
        self.put(at, status);
    }

    /// The one status that stands for all elements.
    pub(in crate::daemon) fn status(&self) -> NodeStatus {
        fold(&self.counts)
    }

    /// The element whose end people look for: one that failed, else the last one that was submitted.
    pub(in crate::daemon) fn shown(&self) -> &Element {
        let failed =
            self.elements.iter().find(|e| matches!(e.status, NodeStatus::Failed | NodeStatus::Stopped));
        let last = || self.elements.iter().rev().find(|element| !element.attempts.is_empty());
        // Every job stands for at least one element.
        failed.or_else(last).unwrap_or(&self.elements[0])
    }
}

/// The status of an element whose job has ended.
pub(super) fn status_of(status: Status) -> NodeStatus {
    match status {
        Status::Completed => NodeStatus::Completed,
        Status::Stopped => NodeStatus::Stopped,
        Status::Canceled => NodeStatus::Canceled,
        _ => NodeStatus::Failed,
    }
}
