//! `uploads:`, the files that come ahead of jobs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::values;

/// The section `uploads:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Uploads {
    /// Bytes of all uploads that no job has used up.
    #[serde(with = "values::size")]
    pub limit: u64,
    /// Bytes of those of one client.
    #[serde(with = "values::size")]
    pub client_limit: u64,
    /// How long an upload is kept that nobody uses, at least 1s.
    #[serde(with = "values::duration")]
    pub lifetime: Duration,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { limit: 4 << 30, client_limit: 2 << 30, lifetime: Duration::from_secs(3600) }
    }
}
