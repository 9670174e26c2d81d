//! `process:`, the ids that jobs run as.

use serde::{Deserialize, Serialize};

use crate::job::User;

/// The section `process:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Process {
    /// First host uid and gid that jobs run as; one for each running job.
    pub subid_base: u32,
    /// Number of these ids.
    pub subid_count: u32,
    /// The user that a job is inside when it names none.
    pub default_user: User,
}

impl Default for Process {
    fn default() -> Self {
        // 0x70000000: the start of a range that systemd leaves unused (its UIDS-GIDS document).
        Self { subid_base: 1_879_048_192, subid_count: 65_536, default_user: User::Root }
    }
}
