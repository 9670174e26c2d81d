//! One workflow that the daemon knows.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::flow::Flow;
use super::node::Node;
use super::view::{self, WorkflowView};
use crate::daemon::command::request::Answer;
use crate::daemon::jobs::Share;
use crate::state::WorkflowRecord;
use crate::state::workflow::{NodeRecord, WorkflowEnd};
use crate::upload::Claim;
use crate::workflow::{NodeStatus, Workflow, WorkflowJob};

/// A workflow with everything that exists because of it.
#[derive(Debug)]
pub(in crate::daemon) struct Entry {
    /// Its record, as it is stored next.
    pub(in crate::daemon) record: WorkflowRecord,
    /// The number of records that were sent to the disk.
    pub(in crate::daemon) version: u64,
    /// Texts that replies share.
    name: Arc<str>,
    yaml: Arc<str>,
    /// The jobs as the file has them.
    roster: Arc<Vec<NodeRecord>>,
    /// The graph, or the record alone.
    pub(in crate::daemon) body: Body,
    /// The files that its jobs name.
    pub(in crate::daemon) claims: Arc<Vec<Claim>>,
    /// Bytes of the files that its jobs have left for others.
    pub(in crate::daemon) output_bytes: u64,
    /// Bytes that they may still leave; taken by the threads that keep them.
    pub(in crate::daemon) room: Arc<AtomicU64>,
    /// Its share of the bytes of jobs that wait.
    pub(in crate::daemon) share: Option<Share>,
    /// Calls that wait for it.
    pub(in crate::daemon) waiting: Waiting,
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
    /// Its end, as it is stored.
    pub(in crate::daemon) end: WorkflowEnd,
    nodes: Vec<Node>,
    counts: [usize; 3],
}

impl Over {
    /// Stands in a place for the moment in which its workflow is elsewhere.
    pub(in crate::daemon) fn none() -> Over {
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
pub(in crate::daemon) struct Waiting {
    /// RunWorkflow calls, which wait for its record.
    pub(in crate::daemon) starters: Vec<Answer<WorkflowView>>,
    /// CancelWorkflow calls, which wait for its end.
    pub(in crate::daemon) cancelers: Vec<Answer<WorkflowView>>,
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

/// The jobs of a file, as they are remembered.
pub(in crate::daemon) fn roster(plan: &Workflow) -> Vec<NodeRecord> {
    let nodes = plan.jobs.iter().enumerate();
    let node = |(n, job): (usize, &WorkflowJob)| NodeRecord {
        name: job.name.clone(),
        dependencies: plan.graph.dependencies(n).iter().map(|at| *at as u32).collect(),
        elements: job.elements() as u32,
        is_array: job.array.is_some(),
    };
    nodes.map(node).collect()
}
