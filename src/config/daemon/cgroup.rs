//! `cgroup:`, limits through the kernel.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::job::{Controller, Enforcement};

/// The section `cgroup:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Cgroup {
    /// The group below which jobs get theirs, absolute; absent: found from mountinfo.
    pub base_dir: Option<PathBuf>,
    /// The policy for jobs whose limits need a missing controller.
    pub enforcement: Enforcement,
    /// The controllers that the daemon uses.
    pub enable_controllers: Vec<Controller>,
}

impl Default for Cgroup {
    fn default() -> Self {
        use Controller::*;
        Self {
            base_dir: None,
            enforcement: Enforcement::Strict,
            enable_controllers: vec![Cpu, Memory, Io, Pids, Cpuset],
        }
    }
}
