//! `filesystem:`, the files that a job sees.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::values;

/// `filesystem:`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Filesystem {
    /// What of /proc a job sees.
    pub proc: ProcMode,
    /// Host paths that jobs see read-only, absolute; absent: the built-in list.
    pub allowed_mounts: Option<Vec<PathBuf>>,
    /// Bytes of /work, at least 1 MiB.
    #[serde(with = "values::size")]
    pub work_quota: u64,
    /// What /work is made of.
    pub work_backend: WorkBackend,
}

/// What of /proc a job sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcMode {
    /// All of its own pid namespace's, with the host's doors masked.
    Masked,
    /// Processes only.
    Pid,
}

/// What /work is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkBackend {
    /// Disk where the file system of dataDir enforces project quotas, else tmpfs.
    Auto,
    /// A directory below dataDir with a project quota; without quotas the daemon does not start.
    Disk,
    /// Memory: what a job writes counts for its memory limit, and at most half of that.
    Tmpfs,
}

impl Default for Filesystem {
    fn default() -> Self {
        Self {
            proc: ProcMode::Masked,
            allowed_mounts: None,
            work_quota: 1 << 30,
            work_backend: WorkBackend::Auto,
        }
    }
}
