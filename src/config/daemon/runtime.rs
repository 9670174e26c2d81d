//! `runtime:`, the roots of jobs other than the host's.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The section `runtime:`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Runtime {
    /// The directory of all runtimes, absolute; empty: `<dataDir>/runtimes`.
    pub base_path: PathBuf,
}
