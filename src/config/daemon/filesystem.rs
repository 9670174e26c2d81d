//! `filesystem:`, the files that a job sees.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::values::{self, section};

/// The section `filesystem:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Filesystem {
    /// The part of /proc that a job sees.
    pub proc: ProcMode,
    /// Host paths that jobs see read-only, absolute; absent: the built-in list.
    pub allowed_mounts: Option<Vec<PathBuf>>,
    /// Host paths that jobs see beside those, read-only, absolute.
    #[serde(deserialize_with = "section")]
    pub extra_mounts: Vec<PathBuf>,
    /// Bytes of /work, at least 1 MiB.
    #[serde(with = "values::size")]
    pub work_quota: u64,
    /// The storage behind a job's /work.
    pub work_backend: WorkBackend,
}

/// The part of /proc that a job sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcMode {
    /// All of its own pid namespace's, with the files that lead to the host masked.
    Masked,
    /// Only the directories of processes (`subset=pid`, proc(5)).
    Pid,
}

/// The storage behind a job's /work.
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
            extra_mounts: Vec::new(),
            work_quota: 1 << 30,
            work_backend: WorkBackend::Auto,
        }
    }
}
