//! The calls that change the disk, in one place: tests let each of them fail, or let the process die at it.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;

use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;

use crate::sys::writeback;

/// Writes all bytes at an offset.
pub(super) fn write(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    #[cfg(test)]
    if let Err(why) = fault::point() {
        // A disk that is full, and a process that dies, may have written a part.
        if fault::is_partial() {
            let _ = file.write_all_at(&bytes[..bytes.len() / 2], at);
        }
        return Err(why);
    }
    file.write_all_at(bytes, at)
}

/// Starts writing a file's dirty pages to the disk, without waiting for them. A failure shows in [`sync`].
pub(super) fn start_sync(file: &File) {
    let _ = writeback::start(file);
}

/// Makes a file's bytes durable. A file system that the kernel has made read-only takes writes into memory and answers
/// fdatasync(2) with success (ext4 of Linux 6.18), so that is checked too.
pub(super) fn sync(file: &File) -> io::Result<()> {
    #[cfg(test)]
    fault::point()?;
    file.sync_data()?;
    let read_only = rustix::fs::fstatvfs(file)?.f_flag.contains(StatVfsMountFlags::RDONLY);
    if read_only { Err(Errno::ROFS.into()) } else { Ok(()) }
}

/// Cuts a file to a length.
pub(super) fn cut(file: &File, length: u64) -> io::Result<()> {
    #[cfg(test)]
    fault::point()?;
    file.set_len(length)
}

/// Makes the names in a directory durable.
pub(super) fn sync_names(dir: &Path) -> io::Result<()> {
    #[cfg(test)]
    fault::point()?;
    File::open(dir)?.sync_all()
}

/// Makes a directory (0700) and those above it, and makes their names durable.
pub(super) fn make_directory(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    #[cfg(test)]
    fault::point()?;
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    dir.parent().map_or(Ok(()), sync_names)
}

/// Renames a file or directory.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(test)]
    fault::point()?;
    fs::rename(from, to)
}

/// Removes a file, if it exists.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    fault::point()?;
    match fs::remove_file(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Faults of the disk and deaths of the process, for tests of this thread.
#[cfg(test)]
pub(super) mod fault {
    use super::{Errno, io};
    use std::cell::Cell;

    /// The event at a call.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(in super::super) enum Fault {
        /// This call fails, the next ones do not.
        Once(Errno),
        /// This call and all later ones fail.
        Lasting(Errno),
        /// The process dies at this call: nothing happens on the disk any more. `true`: half of a write is done.
        Death(bool),
    }

    thread_local! {
        static PLAN: Cell<Option<(u32, Fault)>> = const { Cell::new(None) };
        static PARTIAL: Cell<bool> = const { Cell::new(false) };
    }

    /// Lets the call behind `calls` more ones fail.
    pub(in super::super) fn after(calls: u32, fault: Fault) {
        PLAN.set(Some((calls, fault)));
    }

    /// Ends all faults, and returns whether the planned one has happened.
    pub(in super::super) fn end() -> bool {
        PARTIAL.set(false);
        PLAN.take().is_none_or(|(calls, _)| calls == 0)
    }

    pub(super) fn is_partial() -> bool {
        PARTIAL.replace(false)
    }

    pub(super) fn point() -> io::Result<()> {
        match PLAN.get() {
            None => Ok(()),
            Some((0, Fault::Once(errno))) => {
                PARTIAL.set(errno == Errno::NOSPC);
                PLAN.set(None);
                Err(errno.into())
            }
            Some((0, Fault::Lasting(errno))) => {
                PARTIAL.set(errno == Errno::NOSPC);
                Err(errno.into())
            }
            Some((0, Fault::Death(half))) => {
                PARTIAL.set(half);
                PLAN.set(Some((0, Fault::Death(false))));
                Err(io::Error::other("the process is dead"))
            }
            Some((calls, fault)) => {
                PLAN.set(Some((calls - 1, fault)));
                Ok(())
            }
        }
    }
}
