//! One volume as it is stored.

use serde::{Deserialize, Serialize};

use crate::job::{VolumeKind, VolumeName};

/// A volume of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredVolume {
    /// Its name, which no other volume has.
    pub name: VolumeName,
    /// Where its files are.
    pub kind: VolumeKind,
    /// Its bound, in bytes.
    pub bytes: u64,
    /// When it was made, ns since the epoch.
    pub created_ns: i64,
}

/// A change of the volumes that are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeChange {
    /// The volume, as it is or was.
    pub volume: StoredVolume,
    /// Whether it is there from now on.
    pub is_there: bool,
}

impl VolumeChange {
    /// The change that undoes this one.
    pub(super) fn undone(self) -> Self {
        VolumeChange { is_there: !self.is_there, ..self }
    }
}
