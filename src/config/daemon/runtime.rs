//! `runtime:`, the roots of jobs other than the host's.

use std::path::PathBuf;
use std::time::Duration;

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
    /// Jobs that build runtimes.
    pub build: Build,
}

/// The part `runtime.build`: what a job may have that builds a runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Build {
    /// Its network: `bridge`, `isolated`, `none`, or the name of one.
    pub network: String,
    /// MiB of memory, at most what any job may ask for; 0: that of a job which asks for none.
    pub memory: u32,
    /// Longest run, at most `joblet.jobTimeout`, and not zero.
    #[serde(with = "values::duration")]
    pub timeout: Duration,
}

impl Default for Build {
    fn default() -> Self {
        Build { network: "bridge".to_owned(), memory: 2048, timeout: Duration::from_secs(3600) }
    }
}

impl Default for Runtime {
    fn default() -> Self {
        Runtime {
            base_path: PathBuf::new(),
            registry_url: "https://github.com/ehsaniara/joblet-runtimes".to_owned(),
            max_image_bytes: 10 << 30,
            max_image_entries: 1_000_000,
            build: Build::default(),
        }
    }
}
