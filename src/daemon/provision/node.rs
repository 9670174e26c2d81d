//! The part of the node that all jobs share, and the reason why a job could not be started.

use std::path::PathBuf;
use std::sync::Arc;

use crate::cgroup::{CgroupTree, Disk};
use crate::sandbox::work::WorkDisk;
use crate::sandbox::{Sandbox, SandboxError};

/// The part of the node that all jobs share.
#[derive(Debug)]
pub(in crate::daemon) struct Node {
    /// Template root, joblet-init and policy of every sandbox.
    pub(in crate::daemon) sandbox: Sandbox,
    /// The cgroups of all jobs.
    pub(in crate::daemon) tree: Arc<CgroupTree>,
    /// Disks that `io.max` is written for.
    pub(in crate::daemon) disks: Vec<Disk>,
    /// `<dataDir>/spool`, with a directory for each job's output.
    pub(in crate::daemon) spool: PathBuf,
    /// `<dataDir>/run`, with the exit files.
    pub(in crate::daemon) run_dir: PathBuf,
    /// Holds each job's /work; `None` where that is a tmpfs.
    pub(in crate::daemon) disk: Option<Arc<WorkDisk>>,
    /// `filesystem.workQuota`: bound of a job's /work, bytes.
    pub(in crate::daemon) work_quota: u64,
    /// `network.reuseNamespaces`: whether clean network namespaces are kept.
    pub(in crate::daemon) reuse_networks: bool,
}

/// Why a job could not be started.
#[derive(Debug, Default)]
pub(in crate::daemon) struct StartError {
    /// The sentence for the client.
    pub(in crate::daemon) why: String,
    /// Whether the node has too little of something now (RESOURCE_EXHAUSTED).
    pub(in crate::daemon) is_shortage: bool,
}

impl From<String> for StartError {
    fn from(why: String) -> Self {
        StartError { why, is_shortage: false }
    }
}

impl From<&SandboxError> for StartError {
    fn from(error: &SandboxError) -> Self {
        StartError { why: error.to_string(), is_shortage: error.is_shortage() }
    }
}
