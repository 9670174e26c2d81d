//! A volume in memory: a tmpfs that is the root of a mount namespace of its own.
//!
//! A detached mount can be copied since Linux 6.15 only; a mount in the namespace that a thread stands in always could. So
//! the tmpfs has a namespace with nothing else in it, and a thread that needs a copy of the mount goes there for it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, open_tree, unmount,
};

use super::error::VolumeError;
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
        let namespace = thread.join().map_err(panicked).and_then(|built| built).map_err(refused)?;
        Ok(Memory { namespace, host })
    }

    /// A detached copy of the mount.
    pub(super) fn mount(&self, name: &VolumeName) -> Result<OwnedFd, VolumeError> {
        let copy = || -> io::Result<OwnedFd> {
            sys::thread::join_mounts(self.namespace.as_fd())?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let copied = open_tree(CWD, "/", flags);
            sys::thread::join_mounts(self.host.as_fd())?;
            Ok(copied?)
        };
        copy().map_err(|source| VolumeError::Mount { name: name.clone(), doing: "copy its mount", source })
    }
}

/// Leaves nothing but the tmpfs in the namespace, so that it keeps no file system of the host busy.
fn build(bytes: u64, anchor: &PathBuf) -> io::Result<OwnedFd> {
    sys::thread::unshare_mounts()?;
    let namespace = File::open("/proc/thread-self/ns/mnt")?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    let files = (bytes / BYTES_OF_A_FILE).max(16);
    let options = format!("size={bytes},nr_inodes={files},mode=755,uid={OWNER},gid={OWNER}");
    let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
    mount("joblet", anchor, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(options.as_c_str()))?;
    std::env::set_current_dir(anchor)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(namespace.into())
}
