//! `volumes:`, the files that outlive jobs.

use serde::{Deserialize, Serialize};

/// The section `volumes:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volumes {
    /// The bound of a new volume of type `filesystem`. Existing ones keep the bound that they were made with.
    pub backend: VolumeBackend,
}

/// The bound of a volume of type `filesystem`.
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
