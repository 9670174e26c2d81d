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
    /// Lines of the audit trail that were written, and that were lost; `None`: there is no trail.
    pub audit: Option<(u64, u64)>,
    /// Bytes that are bounded: a word, those that are used, and the limit.
    pub budgets: Vec<(&'static str, u64, u64)>,
    /// Whether names are answered, and the jobs that may ask.
    pub resolver: (bool, u64),
    /// The history process; `None`: none is kept.
    pub history: Option<HistoryFigures>,
    /// Running jobs, at most `metrics.perJobMax`; none unless `metrics.perJob`.
    pub running: Vec<JobFigures>,
    /// The GPUs that jobs can have.
    pub gpus: Vec<GpuFigures>,
}

/// The numbers of the history process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HistoryFigures {
    /// Whether it answered, and can store output. Without an answer the others are 0.
    pub up: bool,
    /// Bytes of output that it knows of and has not stored yet.
    pub waiting: u64,
    /// Rows and samples that it has stored.
    pub records: u64,
    /// Bytes of its files.
    pub stored: u64,
    /// Places where output is missing, and the bytes that are.
    pub gaps: (u64, u64),
    /// Commits and reads that failed.
    pub failures: u64,
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

/// A GPU of the node. A number that the driver does not tell is absent.
#[derive(Debug, Clone, Default)]
pub struct GpuFigures {
    /// The number that the node shows.
    pub index: String,
    /// The vendor's identity, its UUID.
    pub uuid: String,
    /// The name of its model.
    pub name: String,
    /// Whether a job can have it.
    pub state: &'static str,
    /// The job that has it; empty: none.
    pub job: String,
    /// Its use, percent.
    pub utilization: Option<f64>,
    /// Bytes of its memory: in use, and all.
    pub memory: [Option<u64>; 2],
    /// Temperature in degrees Celsius.
    pub temperature: Option<f64>,
    /// Power that it draws, watts.
    pub power: Option<f64>,
    /// Errors that the driver has reported.
    pub xids: Option<u64>,
}
