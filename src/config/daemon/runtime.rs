//! `runtime:`, the roots of jobs other than the host's.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::values;

/// The section `runtime:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Runtime {
    /// The directory of all runtimes, absolute; empty: `<dataDir>/runtimes`.
    pub base_path: PathBuf,
    /// The registry of installations that name none: `OWNER/REPOSITORY` of GitHub, or the URL of a directory with a
    /// `registry.json`.
    pub registry_url: String,
    /// Bytes of an image: of its archive, and of all its layers when they are unpacked.
    #[serde(with = "values::size")]
    pub max_image_bytes: u64,
    /// Files, directories and links of all layers of an image.
    pub max_image_entries: u64,
}

impl Default for Runtime {
    fn default() -> Self {
        Runtime {
            base_path: PathBuf::new(),
            registry_url: "https://github.com/ehsaniara/joblet-runtimes".to_owned(),
            max_image_bytes: 10 << 30,
            max_image_entries: 1_000_000,
        }
    }
}
