//! Removing groups: a group with groups below it goes from the bottom up, and one with processes in it is busy.

use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::CgroupError;

/// Deepest tree of groups that is removed below a job's; jobs cannot make any.
const DEEPEST: usize = 16;

/// The result of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The group is gone.
    Done,
    /// The kernel has not let go of every process yet: try again in a moment.
    Busy,
}

/// Removes a group and the groups below it.
pub(super) fn remove(path: &Path) -> Result<Removal, CgroupError> {
    let first = rmdir(path);
    if !first.as_ref().is_err_and(is_busy) {
        return removal(path, first);
    }
    // Busy by processes, or by groups below.
    match remove_below(path, DEEPEST).and_then(|()| rmdir(path)) {
        Err(e) if is_busy(&e) => Ok(Removal::Busy),
        other => removal(path, other),
    }
}

fn remove_below(path: &Path, depth: usize) -> io::Result<()> {
    for name in names_of_groups(path)? {
        let child = path.join(name);
        if depth > 0 {
            remove_below(&child, depth - 1)?;
        }
        rmdir(&child)?;
    }
    Ok(())
}

pub(super) fn names_of_groups(path: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name());
        }
    }
    Ok(names)
}

/// rmdir(2); a missing directory counts as removed.
pub(super) fn rmdir(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

pub(super) fn removal(path: &Path, result: io::Result<()>) -> Result<Removal, CgroupError> {
    match result {
        Ok(()) => Ok(Removal::Done),
        Err(source) => Err(CgroupError::Remove { group: path.to_owned(), source }),
    }
}

/// The cgroup file system answers EBUSY for processes and children alike.
pub(super) fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::BUSY.raw_os_error())
}
