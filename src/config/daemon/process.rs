//! `process:`, the ids that jobs run as.

use serde::{Deserialize, Serialize};

use crate::job::User;

/// The section `process:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Process {
    /// First host uid and gid that jobs run as.
    pub subid_base: u32,
    /// Number of these ids.
    pub subid_count: u32,
    /// How many of them each running job has: 1, or 65536.
    pub ids_per_job: u32,
    /// Whether jobs may have the profile `container`.
    pub allow_container_profile: bool,
    /// The user that a job is inside when it names none.
    pub default_user: User,
}

impl Default for Process {
    fn default() -> Self {
        // 0x70000000: the start of a range that systemd leaves unused (its UIDS-GIDS document).
        Self {
            subid_base: 1_879_048_192,
            subid_count: 65_536,
            ids_per_job: 1,
            allow_container_profile: false,
            default_user: User::Root,
        }
    }
}
