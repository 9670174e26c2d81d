//! One volume, and its file system as soon as a job needs it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::directory::Directory;
use super::error::VolumeError;
use super::image::{Image, usage_unmounted};
use super::memory::Memory;
use super::usage::Usage;
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
    bytes: AtomicU64,
    /// The image or the directory, of a `filesystem`.
    pub(super) path: PathBuf,
    /// The project of its directory; `None`: it has an image, or is in memory.
    pub(super) project: Option<u32>,
    /// Its file system, once it is mounted. The lock is held while it is being mounted, so that it never is twice.
    mounted: Mutex<Option<Mounted>>,
    is_mounted: AtomicBool,
}

#[derive(Debug)]
pub(super) enum Mounted {
    Directory(Directory),
    Image(Image),
    Memory(Memory),
}

impl Volume {
    /// A volume with its image or directory, if it has one, at `path`. Nothing is opened yet.
    pub(super) fn new(
        name: VolumeName,
        kind: VolumeKind,
        bytes: u64,
        path: PathBuf,
        project: Option<u32>,
    ) -> Volume {
        Volume {
            name,
            kind,
            bytes: AtomicU64::new(bytes),
            path,
            project,
            mounted: Mutex::default(),
            is_mounted: AtomicBool::new(false),
        }
    }

    /// Its bound, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Its bound, in one word: "quota", "image" or "tmpfs".
    pub fn backend(&self) -> &'static str {
        match (self.kind, self.project) {
            (VolumeKind::Memory, _) => "tmpfs",
            (VolumeKind::Filesystem, Some(_)) => "quota",
            (VolumeKind::Filesystem, None) => "image",
        }
    }

    /// The room that its files take; `None`: it is not known just now. Waits for nothing but the disk.
    pub fn usage(&self) -> Option<Usage> {
        let place = match self.mounted.try_lock() {
            Ok(place) => place,
            Err(TryLockError::Poisoned(place)) => place.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        match (&*place, self.kind, self.project) {
            (Some(Mounted::Directory(directory)), ..) => directory.usage().ok(),
            (Some(Mounted::Image(image)), ..) => image.usage().ok(),
            (Some(Mounted::Memory(memory)), ..) => memory.usage().ok(),
            (None, VolumeKind::Filesystem, None) => usage_unmounted(&self.path),
            (None, VolumeKind::Filesystem, Some(project)) => {
                Directory::open(&self.name, &self.path, project, self.bytes()).ok()?.usage().ok()
            }
            (None, VolumeKind::Memory, _) => None,
        }
    }

    /// The path of its image or directory on the host; empty for a volume in memory.
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
        let mount = self.mount()?;
        let read_only = if read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
        sys::mount::map_ids(mount.as_fd(), ATTRIBUTES | read_only, ids)
            .map_err(|source| VolumeError::MapIds { name: self.name.clone(), kind: self.kind, source })?;
        Ok(mount)
    }

    /// A detached mount of its files as they are on disk, where all belong to one owner. The calling thread must have an own root.
    ///
    /// # Errors
    /// As [`Volume::mount_for`].
    pub fn mount(&self) -> Result<OwnedFd, VolumeError> {
        let mut place = self.lock();
        match self.mounted_in(&mut place)? {
            Mounted::Directory(directory) => directory.mount(&self.name),
            Mounted::Image(image) => image.mount(&self.name),
            Mounted::Memory(memory) => memory.mount(&self.name),
        }
    }

    /// The mount in the place, made now where there is none.
    fn mounted_in<'a>(&self, place: &'a mut Option<Mounted>) -> Result<&'a Mounted, VolumeError> {
        if place.is_none() {
            let bytes = self.bytes();
            *place = Some(match (self.kind, self.project) {
                (VolumeKind::Filesystem, None) => Mounted::Image(Image::open(&self.name, &self.path, bytes)?),
                (VolumeKind::Filesystem, Some(project)) => {
                    Mounted::Directory(Directory::open(&self.name, &self.path, project, bytes)?)
                }
                (VolumeKind::Memory, _) => {
                    let anchor = self.path.parent().unwrap_or(&self.path);
                    Mounted::Memory(Memory::make(&self.name, bytes, anchor)?)
                }
            });
            self.is_mounted.store(true, Ordering::Release);
        }
        Ok(place.as_ref().expect("the place was filled right above"))
    }

    /// Gives it another size, also while jobs have it; one on disk only grows. The calling thread must have an own root. Meanwhile
    /// [`Volume::is_mounted`] denies, because whoever wants a mount has to wait.
    ///
    /// # Errors
    /// The step that failed. It has its old size then.
    pub fn resize(&self, bytes: u64) -> Result<(), VolumeError> {
        let mut place = self.lock();
        let old = self.bytes();
        if !self.kind.can_shrink() && bytes < old {
            return Err(VolumeError::Shrink { name: self.name.clone(), bytes: old });
        }
        self.is_mounted.store(false, Ordering::Release);
        let resized = match (self.kind, &*place) {
            // An empty one is made with its new size.
            (VolumeKind::Memory, None) => Ok(()),
            (VolumeKind::Memory, Some(_)) | (VolumeKind::Filesystem, _) => {
                let resized = self.mounted_in(&mut place).and_then(|mounted| match mounted {
                    Mounted::Directory(directory) => directory.resize(&self.name, bytes),
                    Mounted::Image(image) => image.grow(&self.name, bytes),
                    Mounted::Memory(memory) => memory.resize(&self.name, bytes),
                });
                match resized {
                    Err(why) if why.wants_capability() && self.project.is_none() => {
                        *place = None;
                        Image::grow_unmounted(&self.name, &self.path, bytes)
                    }
                    resized => resized,
                }
            }
        };
        if resized.is_ok() {
            self.bytes.store(bytes, Ordering::Release);
        }
        self.is_mounted.store(place.is_some(), Ordering::Release);
        resized
    }

    /// Lets go of its file system. The kernel takes it apart when no job has it.
    pub fn release(&self) {
        self.is_mounted.store(false, Ordering::Release);
        drop(self.lock().take());
    }
}
