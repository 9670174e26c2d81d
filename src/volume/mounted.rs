//! One volume, and its file system as soon as a job needs it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::VolumeError;
use super::image::Image;
use super::memory::Memory;
use crate::job::{VolumeKind, VolumeName};
use crate::sys;

/// Attributes of a volume's mounts: jobs cannot bring setuid programs or devices there.
const ATTRIBUTES: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// One volume. Any thread may use it.
#[derive(Debug)]
pub struct Volume {
    /// The name of the volume.
    pub name: VolumeName,
    /// Where its files are.
    pub kind: VolumeKind,
    /// Its bound, in bytes.
    pub bytes: u64,
    /// The image, of a `filesystem`.
    pub(super) path: PathBuf,
    /// Its file system, once it is mounted. The lock is held while it is being mounted, so that it never is twice.
    mounted: Mutex<Option<Mounted>>,
    is_mounted: AtomicBool,
}

#[derive(Debug)]
pub(super) enum Mounted {
    Image(Image),
    Memory(Memory),
}

impl Volume {
    /// A volume with its image, if it has one, at `path`. Nothing is opened yet.
    pub(super) fn new(name: VolumeName, kind: VolumeKind, bytes: u64, path: PathBuf) -> Volume {
        Volume { name, kind, bytes, path, mounted: Mutex::default(), is_mounted: AtomicBool::new(false) }
    }

    /// The path of its image on the host; empty for a volume in memory.
    pub fn path(&self) -> String {
        match self.kind {
            VolumeKind::Filesystem => self.path.display().to_string(),
            VolumeKind::Memory => String::new(),
        }
    }

    /// Whether [`Volume::mount_for`] has nothing to mount first, which may take as long as a journal is long.
    pub fn is_mounted(&self) -> bool {
        self.is_mounted.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Mounted>> {
        self.mounted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keep(&self, mounted: Mounted) {
        *self.lock() = Some(mounted);
        self.is_mounted.store(true, Ordering::Release);
    }

    /// A detached mount of its files for one job. `ids` maps the owner of the files to the job's host id. The calling thread must
    /// have an own root ([`sys::thread::unshare_fs`]).
    ///
    /// # Errors
    /// Its image is missing or damaged, or the kernel refuses; each by name.
    pub fn mount_for(&self, ids: BorrowedFd<'_>, read_only: bool) -> Result<OwnedFd, VolumeError> {
        let mut place = self.lock();
        let mounted = match &mut *place {
            Some(mounted) => mounted,
            empty => {
                let mounted = match self.kind {
                    VolumeKind::Filesystem => Mounted::Image(Image::open(&self.name, &self.path)?),
                    VolumeKind::Memory => {
                        let anchor = self.path.parent().unwrap_or(&self.path);
                        Mounted::Memory(Memory::make(&self.name, self.bytes, anchor)?)
                    }
                };
                self.is_mounted.store(true, Ordering::Release);
                empty.insert(mounted)
            }
        };
        let mount = match mounted {
            Mounted::Image(image) => image.mount(&self.name)?,
            Mounted::Memory(memory) => memory.mount(&self.name)?,
        };
        let read_only = if read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
        sys::mount::map_ids(mount.as_fd(), ATTRIBUTES | read_only, ids)
            .map_err(|source| VolumeError::MapIds { name: self.name.clone(), kind: self.kind, source })?;
        Ok(mount)
    }

    /// Lets go of its file system. The kernel takes it apart when no job has it.
    pub fn release(&self) {
        self.is_mounted.store(false, Ordering::Release);
        drop(self.lock().take());
    }
}
