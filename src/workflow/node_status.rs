//! The status of one job of a workflow, and the statuses that it can still reach.

use std::fmt;

/// The status of a job in its graph. Names are those of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeStatus {
    /// It waits for other jobs.
    Pending,
    /// Its condition holds and it waits for its time: of its schedule, or of the next attempt.
    Scheduled,
    /// The daemon has it and prepares it.
    Initializing,
    /// Its program runs.
    Running,
    /// It ended with exit code 0.
    Completed,
    /// It ended otherwise, by itself or by a limit.
    Failed,
    /// A user ended it.
    Stopped,
    /// It never runs.
    Canceled,
}

/// A set of statuses, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusSet(u8);

impl NodeStatus {
    /// Every status, in the order of a life.
    pub const ALL: [NodeStatus; 8] = [
        NodeStatus::Pending,
        NodeStatus::Scheduled,
        NodeStatus::Initializing,
        NodeStatus::Running,
        NodeStatus::Completed,
        NodeStatus::Failed,
        NodeStatus::Stopped,
        NodeStatus::Canceled,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            NodeStatus::Pending => "PENDING",
            NodeStatus::Scheduled => "SCHEDULED",
            NodeStatus::Initializing => "INITIALIZING",
            NodeStatus::Running => "RUNNING",
            NodeStatus::Completed => "COMPLETED",
            NodeStatus::Failed => "FAILED",
            NodeStatus::Stopped => "STOPPED",
            NodeStatus::Canceled => "CANCELED",
        }
    }

    /// Whether the status never changes again.
    pub fn is_terminal(self) -> bool {
        StatusSet::TERMINAL.contains(self)
    }

    /// The statuses that the job has or can still reach. A running job may go back to SCHEDULED for another attempt.
    pub fn futures(self) -> StatusSet {
        match self {
            NodeStatus::Pending => StatusSet::ALL,
            _ if self.is_terminal() => StatusSet::of(self),
            _ => StatusSet(StatusSet::ALL.0 & !StatusSet::of(NodeStatus::Pending).0),
        }
    }
}

impl fmt::Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl StatusSet {
    /// Every status in order.
    pub(super) const ALL: StatusSet = StatusSet(u8::MAX);
    const TERMINAL: StatusSet = StatusSet(0b1111_0000);
    /// FINISHED: the job ran to an end of its own or of a user's, well or badly.
    const FINISHED: StatusSet = StatusSet(0b0111_0000);

    pub(super) fn of(status: NodeStatus) -> StatusSet {
        StatusSet(1 << status as u8)
    }

    pub(super) fn contains(self, status: NodeStatus) -> bool {
        self.meets(StatusSet::of(status))
    }

    pub(super) fn meets(self, other: StatusSet) -> bool {
        self.0 & other.0 != 0
    }

    #[cfg(test)]
    pub(super) fn is_within(self, other: StatusSet) -> bool {
        self.0 & !other.0 == 0
    }

    pub(super) fn with(self, other: StatusSet) -> StatusSet {
        StatusSet(self.0 | other.0)
    }

    pub(super) fn complement(self) -> StatusSet {
        StatusSet(!self.0)
    }
}

/// The words that a condition can compare with.
pub(super) const WORDS: [&str; 8] =
    ["COMPLETED", "FAILED", "CANCELED", "STOPPED", "RUNNING", "PENDING", "SCHEDULED", "FINISHED"];

/// The statuses that a word of a condition stands for; words are upper case, as on the wire.
pub(super) fn named(word: &str) -> Option<StatusSet> {
    if word == "FINISHED" {
        return Some(StatusSet::FINISHED);
    }
    let status = NodeStatus::ALL.into_iter().find(|status| status.as_str() == word)?;
    // INITIALIZING lasts too little to wait for.
    (status != NodeStatus::Initializing).then(|| StatusSet::of(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finished_means_every_end_of_a_job_that_ran() {
        let finished = named("FINISHED").unwrap();
        let inside: Vec<_> = NodeStatus::ALL.into_iter().filter(|s| finished.contains(*s)).collect();
        assert_eq!(inside, [NodeStatus::Completed, NodeStatus::Failed, NodeStatus::Stopped]);
        assert!(WORDS.iter().all(|word| named(word).is_some()));
        assert!(named("INITIALIZING").is_none() && named("completed").is_none());
    }

    #[test]
    fn terminal_statuses_have_no_other_future() {
        for status in NodeStatus::ALL {
            let alone = status.futures() == StatusSet::of(status);
            assert_eq!(alone, status.is_terminal(), "{status}");
            assert!(status.futures().contains(status));
        }
    }
}
