//! Project quotas: `FS_IOC_FSSETXATTR` (ioctl_xfs_fsgetxattr(2)) and `quotactl_fd` (Linux 5.14), which neither
//! rustix nor nix has. Both work on ext4, XFS and f2fs alike.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The kernel's `struct fsxattr` (linux/fs.h).
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
struct FsXattr {
    xflags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// The kernel's `struct if_dqblk` (linux/quota.h).
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
struct DiskQuota {
    // Limits in blocks of 1024 bytes.
    block_hard: u64,
    block_soft: u64,
    // Space in use, in bytes.
    space: u64,
    inode_hard: u64,
    inode_soft: u64,
    inodes: u64,
    block_grace: u64,
    inode_grace: u64,
    valid: u32,
}

/// `_IOR('X', 31, struct fsxattr)` and `_IOW('X', 32, struct fsxattr)`.
const FS_IOC_FSGETXATTR: usize = 0x801c_581f;
const FS_IOC_FSSETXATTR: usize = 0x401c_5820;
/// New files and directories get their directory's project.
const FS_XFLAG_PROJINHERIT: u32 = 0x200;

const SYS_QUOTACTL_FD: i64 = 443;
const PROJECT_QUOTA: usize = 2;
const Q_GETQUOTA: usize = 0x80_0007;
const Q_SETQUOTA: usize = 0x80_0008;
/// `XQM_CMD(5)` of linux/dqblk_xfs.h.
const Q_XGETQSTAT: usize = 0x5805;
const QIF_LIMITS: u32 = 1 | 4;
const FS_QUOTA_PDQ_ENFORCED: u16 = 1 << 5;
const BLOCK: u64 = 1024;

/// The usage and the limits of a project.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes taken, delayed ones included.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
    /// Hard limit of bytes, 0 for none.
    pub byte_limit: u64,
    /// Hard limit of files and directories, 0 for none.
    pub inode_limit: u64,
}

/// The project of a file or directory.
///
/// # Errors
/// ENOTTY or EOPNOTSUPP: the file system has no projects.
pub fn project_of(file: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(attributes_of(file)?.project)
}

/// Puts a directory, and everything made in it from now on, into a project. Only the initial user namespace may
/// do so: a job cannot undo it.
///
/// # Errors
/// ENOTTY or EOPNOTSUPP: the file system has no projects.
pub fn set_project(dir: BorrowedFd<'_>, project: u32) -> io::Result<()> {
    let mut attributes = attributes_of(dir)?;
    attributes.project = project;
    attributes.xflags |= FS_XFLAG_PROJINHERIT;
    let args = [dir.as_raw_fd() as usize, FS_IOC_FSSETXATTR, &raw const attributes as usize, 0, 0, 0];
    // SAFETY: the request reads one `struct fsxattr`, which lives until the call returns.
    let result = unsafe { super::raw::syscall(libc::SYS_ioctl, args) };
    super::raw::errno(result).map(drop).map_err(io::Error::from_raw_os_error)
}

/// Sets a project's hard limits on the file system of `on`: bytes, rounded down to KiB, and files; 0 lifts a
/// limit. Holders of CAP_SYS_RESOURCE in the initial user namespace may exceed them: the daemon, never a job.
///
/// # Errors
/// ENOSYS, ESRCH: no project quota there. EPERM.
pub fn set_limits(on: BorrowedFd<'_>, project: u32, bytes: u64, inodes: u64) -> io::Result<()> {
    let mut quota = DiskQuota {
        block_hard: bytes / BLOCK,
        inode_hard: inodes,
        valid: QIF_LIMITS,
        ..DiskQuota::default()
    };
    control(on, Q_SETQUOTA, project, &raw mut quota as usize)
}

/// The usage of a project on the file system of `on`.
///
/// # Errors
/// As [`set_limits`].
pub fn usage(on: BorrowedFd<'_>, project: u32) -> io::Result<Usage> {
    let mut quota = DiskQuota::default();
    match control(on, Q_GETQUOTA, project, &raw mut quota as usize) {
        // XFS: nothing has ever counted for that project.
        Err(why) if why.raw_os_error() == Some(libc::ENOENT) => return Ok(Usage::default()),
        got => got?,
    }
    Ok(Usage {
        bytes: quota.space,
        inodes: quota.inodes,
        byte_limit: quota.block_hard.saturating_mul(BLOCK),
        inode_limit: quota.inode_hard,
    })
}

/// Whether the file system of `on` enforces project limits, and does not only count.
///
/// # Errors
/// ENOSYS: no quotas there at all.
pub fn is_enforced(on: BorrowedFd<'_>) -> io::Result<bool> {
    // `struct fs_quota_stat` (80 bytes) with room to spare; its second 16 bits are the flags.
    let mut state = [0u16; 64];
    control(on, Q_XGETQSTAT, 0, &raw mut state as usize)?;
    Ok(state[1] & FS_QUOTA_PDQ_ENFORCED != 0)
}

fn attributes_of(file: BorrowedFd<'_>) -> io::Result<FsXattr> {
    let mut attributes = FsXattr::default();
    let args = [file.as_raw_fd() as usize, FS_IOC_FSGETXATTR, &raw mut attributes as usize, 0, 0, 0];
    // SAFETY: the request writes one `struct fsxattr`, which lives until the call returns.
    let result = unsafe { super::raw::syscall(libc::SYS_ioctl, args) };
    super::raw::errno(result).map_err(io::Error::from_raw_os_error)?;
    Ok(attributes)
}

/// `argument`: address of the structure that `command` reads or fills, alive until this returns.
fn control(on: BorrowedFd<'_>, command: usize, project: u32, argument: usize) -> io::Result<()> {
    let args = [on.as_raw_fd() as usize, command << 8 | PROJECT_QUOTA, project as usize, argument, 0, 0];
    // SAFETY: the three callers above give the structure of their command, exclusively borrowed and larger
    // than or as large as the kernel's own.
    let result = unsafe { super::raw::syscall(SYS_QUOTACTL_FD, args) };
    super::raw::errno(result).map(drop).map_err(io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<FsXattr>(), 28);
        assert_eq!(FS_IOC_FSGETXATTR >> 16 & 0x3fff, size_of::<FsXattr>());
        assert_eq!(size_of::<DiskQuota>(), 72);
    }
}
