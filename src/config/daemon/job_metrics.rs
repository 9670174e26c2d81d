//! `job_metrics:`, the samples of jobs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::values;

/// The section `job_metrics:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobMetrics {
    /// Time from one sample of a job to the next, 1s..60s.
    #[serde(with = "values::duration")]
    pub default_sample_rate: Duration,
}

impl Default for JobMetrics {
    fn default() -> Self {
        Self { default_sample_rate: Duration::from_secs(5) }
    }
}
