//! A new workflow before the loop has it.

use std::sync::Arc;

use super::flow::Flow;
use crate::state::workflow::NodeRecord;
use crate::workflow::{Workflow, WorkflowJob};

/// The parts of a new workflow that take as long as its file is long, made on the thread that reads the file: the loop takes
/// them over as they are.
#[derive(Debug)]
pub struct Draft {
    roster: Vec<NodeRecord>,
    flow: Box<Flow>,
}

impl Draft {
    /// A workflow of which nothing has been submitted. The conditions of its first jobs are true from `now_ns` on, ns since
    /// the epoch.
    pub fn new(plan: Arc<Workflow>, now_ns: i64) -> Self {
        Draft { roster: roster(&plan), flow: Box::new(Flow::new(plan, now_ns)) }
    }

    /// The jobs as the file has them, and the graph.
    pub(super) fn into_parts(self) -> (Vec<NodeRecord>, Box<Flow>) {
        (self.roster, self.flow)
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
