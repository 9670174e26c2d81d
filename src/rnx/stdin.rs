//! Whether standard input has something, of which a job gets nothing unasked: rnx says so where somebody meant to give it.

use std::io;

use rustix::fs::{FileType, fstat, tell};
use rustix::io::ioctl_fionread;

/// Whether standard input is a pipe or a file in which something is left to read.
pub(crate) fn has_data() -> bool {
    let stdin = io::stdin();
    let Ok(stat) = fstat(&stdin) else { return false };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let size = u64::try_from(stat.st_size).unwrap_or_default();
            tell(&stdin).is_ok_and(|at| at < size)
        }
        FileType::Fifo | FileType::Socket => ioctl_fionread(&stdin).is_ok_and(|bytes| bytes > 0),
        _ => false,
    }
}
