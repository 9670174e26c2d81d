//! The store that keeps output and samples of jobs when the spool lets them go.

use std::fmt;

use crate::job::JobId;
use crate::metrics::{JobSamples, OpenSamples};
use crate::output::{JobHistory, OpenHistory};

/// Opens what the store has of a job. A node without such a store keeps everything in the spool.
#[derive(Clone, Default)]
pub(super) struct Stores {
    /// Opens rows of output.
    rows: Option<OpenHistory>,
    /// Opens the samples of a job.
    samples: Option<OpenSamples>,
}

impl Stores {
    /// The ways to open rows of output and samples of a job.
    pub(super) fn new(rows: Option<OpenHistory>, samples: Option<OpenSamples>) -> Self {
        Stores { rows, samples }
    }

    /// Whether rows of output are kept elsewhere.
    pub(super) fn has_rows(&self) -> bool {
        self.rows.is_some()
    }

    /// Whether samples are.
    pub(super) fn has_samples(&self) -> bool {
        self.samples.is_some()
    }

    /// The history of a job's output.
    pub(super) fn rows_of(&self, id: JobId) -> Option<JobHistory> {
        self.rows.as_ref().map(|open| JobHistory { id, open: open.clone() })
    }

    /// The history of a job's samples.
    pub(super) fn samples_of(&self, id: JobId) -> Option<JobSamples> {
        self.samples.as_ref().map(|open| JobSamples { id, open: open.clone() })
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stores({}, {})", self.rows.is_some(), self.samples.is_some())
    }
}
