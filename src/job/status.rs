//! The status of a job as clients see it.

use serde::{Deserialize, Serialize};

/// Status words of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Accepted, and waiting for its time.
    Scheduled,
    /// Accepted, and waiting for a slot or for its sandbox.
    Initializing,
    /// The payload runs.
    Running,
    /// The payload returned exit code 0.
    Completed,
    /// Another exit code, a signal, or it could not be started.
    Failed,
    /// Ended by request or timeout.
    Stopped,
    /// Canceled before its time came.
    Canceled,
}

impl Status {
    /// All status words, in the order of a job's life.
    pub const ALL: [Status; 7] = [
        Status::Scheduled,
        Status::Initializing,
        Status::Running,
        Status::Completed,
        Status::Failed,
        Status::Stopped,
        Status::Canceled,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Scheduled => "SCHEDULED",
            Status::Initializing => "INITIALIZING",
            Status::Running => "RUNNING",
            Status::Completed => "COMPLETED",
            Status::Failed => "FAILED",
            Status::Stopped => "STOPPED",
            Status::Canceled => "CANCELED",
        }
    }
}
