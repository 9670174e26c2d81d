//! One workflow that the daemon knows.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::draft::Draft;
use super::flow::Flow;
use super::node::Node;
use super::view::{self, WorkflowView};
use crate::daemon::command::request::Answer;
use crate::daemon::jobs::Share;
use crate::state::WorkflowRecord;
use crate::state::workflow::{NodeRecord, WorkflowEnd};
use crate::upload::Claim;
use crate::workflow::NodeStatus;

/// A workflow with everything that exists because of it.
#[derive(Debug)]
pub(in crate::daemon) struct Entry {
    // As it is stored next.
    record: WorkflowRecord,
    // The number of records that were sent to the disk.
    version: u64,
    // Texts that replies share.
    name: Arc<str>,
    yaml: Arc<str>,
    // The jobs as the file has them.
    roster: Arc<Vec<NodeRecord>>,
    body: Body,
    // The files that its jobs name.
    claims: Arc<Vec<Claim>>,
    // Bytes of the files that its jobs have left for others.
    output_bytes: u64,
    // Bytes that they may still leave; taken by the threads that keep them.
    room: Arc<AtomicU64>,
    // Its share of the bytes of jobs that wait.
    share: Option<Share>,
    waiting: Waiting,
}

/// The stage of a workflow.
#[derive(Debug)]
pub(in crate::daemon) enum Body {
    /// It is not recorded yet, and has submitted nothing.
    Accepted(Box<Flow>),
    /// Its jobs run and wait.
    Running(Box<Flow>),
    /// All of its jobs are over.
    Over(Over),
}

/// A workflow whose jobs are all over.
#[derive(Debug)]
pub(in crate::daemon) struct Over {
    // As it is stored.
    end: WorkflowEnd,
    nodes: Vec<Node>,
    counts: [usize; 3],
}

impl Over {
    /// Stands in a place for the moment in which its workflow is elsewhere.
    fn none() -> Over {
        let end = WorkflowEnd {
            status: String::new(),
            started_ns: None,
            ended_ns: 0,
            message: String::new(),
            nodes: vec![],
        };
        Over { end, nodes: Vec::new(), counts: [0; 3] }
    }

    /// The end of a workflow with these jobs.
    pub(in crate::daemon) fn new(end: WorkflowEnd, nodes: Vec<Node>) -> Over {
        let count = |wanted: &[NodeStatus]| nodes.iter().filter(|n| wanted.contains(&n.status())).count();
        let counts = COUNTED.map(count);
        Over { end, nodes, counts }
    }
}

/// The statuses that replies count together.
const COUNTED: [&[NodeStatus]; 3] =
    [&[NodeStatus::Completed], &[NodeStatus::Failed, NodeStatus::Stopped], &[NodeStatus::Canceled]];

/// Calls that wait for a workflow.
#[derive(Debug, Default)]
struct Waiting {
    // RunWorkflow calls, which wait for its record.
    starters: Vec<Answer<WorkflowView>>,
    // CancelWorkflow calls, which wait for its end.
    cancelers: Vec<Answer<WorkflowView>>,
}

impl Entry {
    /// A workflow with this record.
    pub(in crate::daemon) fn new(record: WorkflowRecord, roster: Vec<NodeRecord>, body: Body) -> Entry {
        Entry {
            name: record.name.as_str().into(),
            yaml: record.yaml.as_str().into(),
            record,
            version: 0,
            roster: Arc::new(roster),
            body,
            claims: Arc::default(),
            output_bytes: 0,
            room: Arc::default(),
            share: None,
            waiting: Waiting::default(),
        }
    }

    /// A workflow that was just accepted.
    pub(super) fn accepted(record: WorkflowRecord, draft: Draft) -> Entry {
        let (roster, flow) = draft.into_parts();
        Entry::new(record, roster, Body::Accepted(flow))
    }

    /// The same with the bytes of files that its jobs have left for others, of those that they may leave.
    pub(in crate::daemon) fn with_output(mut self, bytes: u64, most: u64) -> Self {
        self.output_bytes = bytes;
        self.room = Arc::new(AtomicU64::new(most.saturating_sub(bytes)));
        self
    }

    /// The same with the files that its jobs name, and its share of the bytes of jobs that wait: until it is over.
    pub(in crate::daemon) fn with_inputs(mut self, claims: Arc<Vec<Claim>>, share: Share) -> Self {
        (self.claims, self.share) = (claims, Some(share));
        self
    }

    /// Its record, as it is stored next.
    pub(in crate::daemon) fn record(&self) -> &WorkflowRecord {
        &self.record
    }

    /// The files that its jobs name.
    pub(in crate::daemon) fn claims(&self) -> &Arc<Vec<Claim>> {
        &self.claims
    }

    /// Bytes that its jobs may still leave for others.
    pub(in crate::daemon) fn room(&self) -> &Arc<AtomicU64> {
        &self.room
    }

    /// A job has left files of so many bytes, in place of those of an earlier attempt.
    pub(in crate::daemon) fn count_output(&mut self, freed: u64, bytes: u64) {
        self.output_bytes = self.output_bytes.saturating_sub(freed).saturating_add(bytes);
    }

    /// Bytes of the files that its jobs have left for others.
    pub(super) fn output_bytes(&self) -> u64 {
        self.output_bytes
    }

    /// The record that is to be written now, with its number.
    pub(in crate::daemon) fn next_record(&mut self) -> (Box<WorkflowRecord>, u64) {
        self.version += 1;
        (Box::new(self.record.clone()), self.version)
    }

    /// Whether this is the number of the newest record.
    pub(in crate::daemon) fn is_newest(&self, version: u64) -> bool {
        self.version == version
    }

    /// Whether it is not recorded yet, and has submitted nothing.
    pub(in crate::daemon) fn is_accepted(&self) -> bool {
        matches!(self.body, Body::Accepted(_))
    }

    /// Whether all of its jobs are over.
    pub(in crate::daemon) fn is_over(&self) -> bool {
        matches!(self.body, Body::Over(_))
    }

    /// The graph, while its jobs run and wait.
    pub(in crate::daemon) fn running(&self) -> Option<&Flow> {
        match &self.body {
            Body::Running(flow) => Some(flow),
            Body::Accepted(_) | Body::Over(_) => None,
        }
    }

    /// The same, to change.
    pub(super) fn running_mut(&mut self) -> Option<&mut Flow> {
        match &mut self.body {
            Body::Running(flow) => Some(flow),
            Body::Accepted(_) | Body::Over(_) => None,
        }
    }

    /// Its end, when it is over.
    pub(super) fn end(&self) -> Option<&WorkflowEnd> {
        match &self.body {
            Body::Over(over) => Some(&over.end),
            Body::Accepted(_) | Body::Running(_) => None,
        }
    }

    /// It is recorded: its jobs may start. The calls that have waited for that.
    pub(in crate::daemon) fn begin(&mut self) -> Vec<Answer<WorkflowView>> {
        self.body = match std::mem::replace(&mut self.body, Body::Over(Over::none())) {
            Body::Accepted(flow) => Body::Running(flow),
            other => other,
        };
        std::mem::take(&mut self.waiting.starters)
    }

    /// All of its jobs are over: what it has is given back. The calls that have waited for that.
    pub(in crate::daemon) fn finish(&mut self, end: WorkflowEnd) -> Vec<Answer<WorkflowView>> {
        self.record.end = Some(end.clone());
        self.body = match std::mem::replace(&mut self.body, Body::Over(Over::none())) {
            Body::Accepted(flow) | Body::Running(flow) => Body::Over(Over::new(end, flow.into_nodes())),
            over => over,
        };
        (self.claims, self.share) = (Arc::default(), None);
        std::mem::take(&mut self.waiting.cancelers)
    }

    /// A call waits until it is recorded.
    pub(in crate::daemon) fn await_start(&mut self, starter: Answer<WorkflowView>) {
        self.waiting.starters.push(starter);
    }

    /// A call waits until it is over, because a user cancels it; whether that is the first one.
    pub(in crate::daemon) fn cancel(&mut self, canceler: Answer<WorkflowView>) -> bool {
        self.waiting.cancelers.push(canceler);
        !std::mem::replace(&mut self.record.canceled, true)
    }

    /// The calls that wait for it.
    pub(in crate::daemon) fn into_waiting(self) -> impl Iterator<Item = Answer<WorkflowView>> {
        self.waiting.starters.into_iter().chain(self.waiting.cancelers)
    }

    /// The graph, while it is not over.
    pub(in crate::daemon) fn flow(&self) -> Option<&Flow> {
        match &self.body {
            Body::Accepted(flow) | Body::Running(flow) => Some(flow),
            Body::Over(_) => None,
        }
    }

    /// The same, to change.
    pub(in crate::daemon) fn flow_mut(&mut self) -> Option<&mut Flow> {
        match &mut self.body {
            Body::Accepted(flow) | Body::Running(flow) => Some(flow),
            Body::Over(_) => None,
        }
    }

    /// The jobs as the file has them.
    pub(in crate::daemon) fn roster(&self) -> &Arc<Vec<NodeRecord>> {
        &self.roster
    }

    /// Bytes of its record, in memory and in the database.
    pub(in crate::daemon) fn bytes(&self) -> u64 {
        let names: usize = self.roster.iter().map(|node| node.name.len() + 4 * node.dependencies.len()).sum();
        let elements: usize = self.roster.iter().map(|node| node.elements as usize).sum();
        (self.yaml.len() + names + 512 * elements + 1024) as u64
    }

    /// The workflow as replies show it, with each of its jobs if asked for.
    pub(in crate::daemon) fn view(&self, with_nodes: bool) -> WorkflowView {
        let (status, started_ns, ended_ns, message) = match &self.body {
            Body::Accepted(flow) | Body::Running(flow) => {
                (flow.status(), flow.started_ns(), None, self.says())
            }
            Body::Over(Over { end, .. }) => {
                let status = NodeStatus::ALL.into_iter().find(|status| status.as_str() == end.status);
                let status = status.unwrap_or(NodeStatus::Failed);
                (status, end.started_ns, Some(end.ended_ns), end.message.clone())
            }
        };
        let nodes = match &self.body {
            _ if !with_nodes => Vec::new(),
            Body::Accepted(flow) | Body::Running(flow) => {
                let nodes = flow.nodes().iter().enumerate();
                nodes.map(|(n, node)| view::node(node, flow.node_status(n))).collect()
            }
            Body::Over(over) => over.nodes.iter().map(|node| view::node(node, node.status())).collect(),
        };
        WorkflowView {
            id: self.record.id,
            name: self.name.clone(),
            yaml: self.yaml.clone(),
            status,
            created_ns: self.record.created_ns,
            started_ns,
            ended_ns,
            message,
            counts: self.counts(),
            roster: self.roster.clone(),
            nodes,
        }
    }

    /// A sentence on a workflow that is not over.
    fn says(&self) -> String {
        if self.record.canceled {
            "it was canceled, and its last jobs are ending".to_owned()
        } else {
            String::new()
        }
    }

    /// Jobs of the file by status: COMPLETED; FAILED or STOPPED; CANCELED.
    pub(in crate::daemon) fn counts(&self) -> [usize; 3] {
        match &self.body {
            Body::Accepted(flow) | Body::Running(flow) => {
                COUNTED.map(|wanted| wanted.iter().map(|status| flow.count(*status)).sum())
            }
            Body::Over(over) => over.counts,
        }
    }
}
