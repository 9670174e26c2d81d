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
    /// The project whose quota bounds its directory; `None`: it has an image, or is in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<u32>,
}

/// A change of the volumes that are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeChange {
    /// The volume, as it is or was.
    pub volume: StoredVolume,
    /// Whether it is there from now on.
    pub is_there: bool,
    /// The size that it had, where the change is another one.
    pub old_bytes: Option<u64>,
}

impl VolumeChange {
    /// The change that undoes this one.
    pub(super) fn undone(self) -> Self {
        let VolumeChange { mut volume, is_there, old_bytes } = self;
        let Some(old) = old_bytes else { return VolumeChange { volume, is_there: !is_there, old_bytes } };
        let old_bytes = Some(std::mem::replace(&mut volume.bytes, old));
        VolumeChange { volume, is_there, old_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undone_change_gives_the_old_size_or_the_old_absence() {
        let volume = StoredVolume {
            name: "data".parse().unwrap(),
            kind: VolumeKind::Filesystem,
            bytes: 1,
            created_ns: 2,
            project: None,
        };
        let made = VolumeChange { volume: volume.clone(), is_there: true, old_bytes: None };
        assert!(!made.clone().undone().is_there);
        let resized = VolumeChange {
            volume: StoredVolume { bytes: 5, ..volume.clone() },
            is_there: true,
            old_bytes: Some(1),
        };
        let undone = resized.clone().undone();
        assert_eq!((&undone.volume, undone.is_there), (&volume, true));
        assert_eq!(undone.undone(), resized);
    }
}
