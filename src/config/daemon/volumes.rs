//! `volumes:`, the files that outlive jobs.

use serde::{Deserialize, Serialize};

/// The section `volumes:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volumes {
    /// What bounds a new volume of type `filesystem`. Those that are there keep what they were made with.
    pub backend: VolumeBackend,
}

/// What bounds a volume of type `filesystem`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeBackend {
    /// A project quota where the file system of dataDir enforces those, else an image.
    Auto,
    /// A directory below dataDir with a project quota; without quotas the daemon does not start.
    Quota,
    /// An ext4 in a file, behind a loop device.
    Image,
}

impl Default for Volumes {
    fn default() -> Self {
        Volumes { backend: VolumeBackend::Auto }
    }
}
