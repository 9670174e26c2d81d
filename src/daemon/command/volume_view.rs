//! Volumes as replies show them, and one whose files are copied.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::daemon::token::Token;
use crate::job::volume::OWNER;
use crate::job::{JobId, Status, VolumeKind, VolumeName};
use crate::sys::thread::{keep_quotas, unshare_fs};
/// The room that the files of a volume take, as replies show it.
pub use crate::volume::Usage as UsageView;
use crate::volume::Volume;

/// A volume, as replies show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeView {
    /// The name, which no other volume has.
    pub name: VolumeName,
    /// Where its files are.
    pub kind: VolumeKind,
    /// Its bound, in bytes.
    pub bytes: u64,
    /// The path of its image or directory on the host; empty for a volume in memory.
    pub path: String,
    /// Its bound: "quota", "image" or "tmpfs".
    pub backend: &'static str,
    /// The room that its files take, where the caller wants it and it is known.
    pub usage: Option<UsageView>,
    /// When it was made, ns since the epoch.
    pub created_ns: i64,
    /// Jobs that have it, or wait to have it.
    pub jobs: usize,
}

/// A job of a volume, as replies show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeJobView {
    /// The job's id.
    pub id: JobId,
    /// Its name; empty where it has none.
    pub name: String,
    /// The job's status.
    pub status: Status,
    /// Whether it may only read the volume.
    pub read_only: bool,
}

/// A volume whose files are copied. It is not removed as long as this lives.
#[derive(Debug)]
pub struct OpenVolume {
    volume: Arc<Volume>,
    _copy: Token,
}

impl OpenVolume {
    pub(in crate::daemon) fn new(volume: Arc<Volume>, copy: Token) -> OpenVolume {
        OpenVolume { volume, _copy: copy }
    }

    /// Mounts its files as they are on disk, on a thread that ends: it gets an own root, and loses the right to write beyond a
    /// quota.
    ///
    /// # Errors
    /// Why it cannot be mounted, in words.
    pub fn mount(&self) -> Result<OwnedFd, String> {
        unshare_fs().map_err(|why| format!("cannot give the thread an own root: {why}"))?;
        let mount = self.volume.mount().map_err(|why| why.to_string())?;
        // Behind the mount: an image may have to grow for it.
        keep_quotas().map_err(|why| format!("cannot hold the thread to quotas: {why}"))?;
        Ok(mount)
    }

    /// The owner of all its files on disk.
    pub fn owner(&self) -> u32 {
        OWNER
    }
}
