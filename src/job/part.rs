//! The workflow that a job belongs to.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::JobId;

/// The identity of one workflow: a random UUID (version 4), like that of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkflowId(JobId);

impl WorkflowId {
    /// A fresh id from the kernel's randomness.
    pub fn random() -> Self {
        WorkflowId(JobId::random())
    }

    /// The workflow with this UUID.
    pub fn new(id: JobId) -> Self {
        WorkflowId(id)
    }

    /// The UUID itself.
    pub fn uuid(self) -> JobId {
        self.0
    }
}

impl fmt::Display for WorkflowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The place of a job in its workflow. It stands in the job's record, which is written before the payload runs: so a
/// daemon that starts knows which places have had their job, and none has it twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Part {
    /// The workflow it belongs to.
    pub workflow: WorkflowId,
    /// The number of the job in the file, from 0.
    pub node: u32,
    /// The number of the element of an array or matrix; 0 for a job that stands for itself.
    pub element: u32,
    /// The attempt, from 1.
    pub attempt: u32,
}
