//! The room that the files of a volume take.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::fstatvfs;

use super::superblock::Superblock;

/// The room that the files of a volume take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all files and directories.
    pub bytes: u64,
    /// Files, directories and links.
    pub files: u64,
    /// The most of these.
    pub most_files: u64,
}

impl Usage {
    /// The usage of a file system that is the volume's alone, by a descriptor of a mount of it.
    pub(super) fn of_mount(mount: BorrowedFd<'_>) -> io::Result<Usage> {
        let found = fstatvfs(mount)?;
        Ok(Usage {
            bytes: found.f_blocks.saturating_sub(found.f_bfree).saturating_mul(found.f_frsize),
            files: found.f_files.saturating_sub(found.f_ffree),
            most_files: found.f_files,
        })
    }

    /// The usage of an image that is not mounted; `None`: its superblock cannot tell, because a journal is to be replayed.
    pub(super) fn of_superblock(found: &Superblock) -> Option<Usage> {
        let bytes = found.bytes.saturating_sub(found.overhead).saturating_sub(found.free_bytes);
        let files = found.files.saturating_sub(found.free_files);
        (!found.has_to_recover).then_some(Usage { bytes, files, most_files: found.files })
    }
}
