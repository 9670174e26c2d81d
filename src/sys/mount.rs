//! `mount_setattr(2)`, which rustix does not have.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The kernel's `struct mount_attr` (mount_setattr(2)).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MountAttr {
    /// Attributes to set (`MOUNT_ATTR_*`).
    pub set: u64,
    /// Attributes to clear.
    pub clear: u64,
    /// Propagation type (`MS_PRIVATE` …), 0 for none.
    pub propagation: u64,
    /// User namespace for idmapped mounts.
    pub userns_fd: u64,
}

/// Attributes of everything a job sees of the host: read-only, no setuid, no devices.
pub const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// Sets attributes on the mount that `path` names beneath `dir` (empty: `dir` itself), with `recursive` on
/// every mount below it too.
pub fn set_attributes(dir: BorrowedFd<'_>, path: &CStr, set: u64, recursive: bool) -> io::Result<()> {
    set_all(dir, path, &MountAttr { set, clear: 0, propagation: 0, userns_fd: 0 }, recursive)
}

/// Like [`set_attributes`] for one detached mount, which nothing propagates to or from afterwards. A copy of a
/// mount is in the same peer group (mount_namespaces(7)), and systemd makes all of a host's mounts shared.
pub fn set_attributes_privately(mount: BorrowedFd<'_>, set: u64) -> io::Result<()> {
    set_all(mount, c"", &MountAttr { set, clear: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 }, false)
}

/// Like [`set_attributes_privately`], and the ids on disk are those of `ids`: what belongs there to the id inside of that user
/// namespace belongs here to the one outside (mount_setattr(2), MOUNT_ATTR_IDMAP).
///
/// # Errors
/// EINVAL: this kernel cannot map ids of that file system.
pub fn map_ids(mount: BorrowedFd<'_>, set: u64, ids: BorrowedFd<'_>) -> io::Result<()> {
    let set = set | libc::MOUNT_ATTR_IDMAP;
    let userns_fd = u64::from(ids.as_raw_fd().cast_unsigned());
    set_all(mount, c"", &MountAttr { set, clear: 0, propagation: libc::MS_PRIVATE, userns_fd }, false)
}

fn set_all(dir: BorrowedFd<'_>, path: &CStr, attr: &MountAttr, recursive: bool) -> io::Result<()> {
    let mut flags = libc::AT_EMPTY_PATH as usize;
    if recursive {
        flags |= libc::AT_RECURSIVE as usize;
    }
    let args = [
        dir.as_raw_fd() as usize,
        path.as_ptr() as usize,
        flags,
        std::ptr::from_ref(attr) as usize,
        size_of::<MountAttr>(),
        0,
    ];
    // SAFETY: `path` is NUL-terminated and `attr` lives until the call returns; the size is its own.
    let result = unsafe { super::raw::syscall(libc::SYS_mount_setattr, args) };
    super::raw::errno(result).map(drop).map_err(io::Error::from_raw_os_error)
}
