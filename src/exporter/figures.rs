//! The gauges at the moment of a request.

use crate::output::Totals;

/// The state of the node, as the loop knows it.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Jobs by status; every status that jobs can have.
    pub jobs: Vec<(&'static str, u64)>,
    /// Jobs that may run at the same time.
    pub slots: u64,
    /// Warm sandboxes: those that are ready, and those that are wanted.
    pub warm: (u64, u64),
    /// Workflows that are not over, and those that are.
    pub workflows: Vec<(&'static str, u64)>,
    /// Output of jobs.
    pub output: Totals,
    /// Running jobs, at most `metrics.perJobMax`; none unless `metrics.perJob`.
    pub running: Vec<JobFigures>,
}

/// A running job.
#[derive(Debug, Clone)]
pub struct JobFigures {
    /// The identity of the job.
    pub id: String,
    /// Its name; empty: it has none.
    pub name: String,
    /// Its start, seconds since the epoch.
    pub started: f64,
    /// Output so far, in rows of the spool.
    pub rows: u64,
}
