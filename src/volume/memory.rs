//! A volume in memory: a tmpfs that is the root of a mount namespace of its own.
//!
//! A detached mount can be copied since Linux 6.15 only; a mount in the namespace that a thread stands in always could. So
//! the tmpfs has a namespace with nothing else in it, and a thread that needs a copy of the mount goes there for it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, mount_remount,
    open_tree, unmount,
};

use super::error::VolumeError;
use super::usage::Usage;
use crate::job::VolumeName;
use crate::job::volume::OWNER;
use crate::sys;

/// Bytes for each file: an inode costs the kernel about 1 KiB of memory that is not counted as the file system's.
const BYTES_OF_A_FILE: u64 = 4096;

/// A tmpfs in a namespace of its own.
#[derive(Debug)]
pub(super) struct Memory {
    namespace: OwnedFd,
    host: OwnedFd,
    root: OwnedFd,
}

impl Memory {
    /// Makes the tmpfs, on a thread that ends. `anchor` is any directory: the mount covers it where nobody else sees it.
    pub(super) fn make(name: &VolumeName, bytes: u64, anchor: &Path) -> Result<Memory, VolumeError> {
        let refused =
            |source| VolumeError::Mount { name: name.clone(), doing: "make its file system", source };
        let host = OwnedFd::from(File::open("/proc/thread-self/ns/mnt").map_err(refused)?);
        let anchor = anchor.to_owned();
        let work = move || build(bytes, &anchor);
        let thread = std::thread::Builder::new().name("tmpfs".into()).spawn(work).map_err(refused)?;
        let panicked = |_| io::Error::other("its thread panicked");
        let (namespace, root) = thread.join().map_err(panicked).and_then(|built| built).map_err(refused)?;
        Ok(Memory { namespace, host, root })
    }

    /// The room that its files take.
    pub(super) fn usage(&self) -> io::Result<Usage> {
        Usage::of_mount(self.root.as_fd())
    }

    /// A detached copy of the mount.
    pub(super) fn mount(&self, name: &VolumeName) -> Result<OwnedFd, VolumeError> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let copied = self.inside(|| Ok(open_tree(CWD, "/", flags)?));
        copied.map_err(|source| VolumeError::Mount { name: name.clone(), doing: "copy its mount", source })
    }

    /// Gives the tmpfs another size. The kernel refuses one that is smaller than its files.
    pub(super) fn resize(&self, name: &VolumeName, bytes: u64) -> Result<(), VolumeError> {
        let resized = self.inside(|| {
            let options = std::ffi::CString::new(size_options(bytes)).map_err(io::Error::other)?;
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            Ok(mount_remount("/", flags, &options)?)
        });
        resized.map_err(|source| match source.raw_os_error() {
            Some(libc::EINVAL) => VolumeError::InUse { name: name.clone(), bytes },
            _ => VolumeError::Resize { name: name.clone(), doing: "remount the tmpfs", source },
        })
    }

    /// Does something where `/` is the tmpfs, on the calling thread.
    fn inside<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        sys::thread::join_mounts(self.namespace.as_fd())?;
        let done = work();
        sys::thread::join_mounts(self.host.as_fd())?;
        done
    }
}

/// The options of a tmpfs of this size.
fn size_options(bytes: u64) -> String {
    format!("size={bytes},nr_inodes={}", (bytes / BYTES_OF_A_FILE).max(16))
}

/// Leaves nothing but the tmpfs in the namespace, so that it keeps no file system of the host busy. Returns the namespace, and the
/// root of the tmpfs.
fn build(bytes: u64, anchor: &PathBuf) -> io::Result<(OwnedFd, OwnedFd)> {
    sys::thread::unshare_mounts()?;
    let namespace = File::open("/proc/thread-self/ns/mnt")?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    let options = format!("{},mode=755,uid={OWNER},gid={OWNER}", size_options(bytes));
    let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
    mount("joblet", anchor, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(options.as_c_str()))?;
    std::env::set_current_dir(anchor)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok((namespace.into(), openat(CWD, "/", flags, Mode::empty())?))
}
