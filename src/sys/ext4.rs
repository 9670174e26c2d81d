//! `EXT4_IOC_RESIZE_FS` (Documentation/filesystems/ext4): an ext4 grows while it is mounted.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::raw::{errno, syscall};

/// `_IOW('f', 16, __u64)` of linux/ext4.h.
const EXT4_IOC_RESIZE_FS: usize = 0x4008_6610;

/// Makes the file system of an open directory so many of its blocks large. The kernel does it in small transactions: where the host
/// loses its power the file system has the old size, the new one, or one in between.
///
/// # Errors
/// EINVAL: it is larger already, or its device is smaller. Any error of the disk.
pub fn grow(dir: BorrowedFd<'_>, blocks: u64) -> io::Result<()> {
    let args = [dir.as_raw_fd() as usize, EXT4_IOC_RESIZE_FS, &raw const blocks as usize, 0, 0, 0];
    // SAFETY: the request reads eight bytes, the number of blocks, which lives until the call returns.
    let result = unsafe { syscall(libc::SYS_ioctl, args) };
    errno(result).map(drop).map_err(io::Error::from_raw_os_error)
}
