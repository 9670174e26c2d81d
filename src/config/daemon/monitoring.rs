//! `monitoring:`, looks at the host itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::values;

/// The section `monitoring:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Monitoring {
    /// Lets clients see the host; `false`: they learn the version of the daemon alone.
    pub enabled: bool,
    /// The interval of a stream that names none, 1s..1h in whole seconds.
    #[serde(with = "values::duration")]
    pub system_interval: Duration,
    /// Has the firmware asked for the cloud, and the cloud's metadata service for the machine's place in it.
    pub cloud_detection: bool,
}

impl Default for Monitoring {
    fn default() -> Self {
        Self { enabled: true, system_interval: Duration::from_secs(10), cloud_detection: true }
    }
}
