//! The small files of a group, beneath its directory descriptor.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::CgroupError;

/// Longest file that is read. `cgroup.procs` of a group with thousands of processes fits.
const LONGEST: u64 = 1 << 20;

/// A group's directory: the descriptor that acts, and the path that errors name.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) path: PathBuf,
    pub(super) dir: OwnedFd,
}

impl Group {
    /// Opens an existing group.
    pub(super) fn open(path: &Path) -> io::Result<Group> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Group { path: path.to_owned(), dir: rustix::fs::open(path, flags, Mode::empty())? })
    }

    /// A second descriptor of the same directory.
    pub(super) fn try_clone(&self) -> io::Result<Group> {
        Ok(Group { path: self.path.clone(), dir: self.dir.try_clone()? })
    }

    /// Opens a group, and makes it first where it does not exist.
    pub(super) fn make(path: &Path) -> Result<Group, CgroupError> {
        let made = match std::fs::create_dir(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => Group::open(path),
        };
        made.map_err(|source| CgroupError::MakeGroup { path: path.to_owned(), source })
    }

    /// Writes a value in one call, as these files want it. A file that is not there is not made.
    pub(super) fn write(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        self.try_write(file, value).map_err(|source| CgroupError::Write {
            file: self.path.join(file),
            value: value.to_owned(),
            source,
        })
    }

    /// As [`Group::write`], with the bare errno.
    pub(super) fn try_write(&self, file: &str, value: &str) -> io::Result<()> {
        let fd = openat(self.dir.as_fd(), file, OFlags::WRONLY)?;
        File::from(fd).write_all(value.as_bytes())
    }

    /// The text of a file.
    pub(super) fn read(&self, file: &str) -> Result<String, CgroupError> {
        self.try_read(file).map_err(|source| CgroupError::Read { file: self.path.join(file), source })
    }

    /// The text of a file, `None` where this kernel or this group has no such file.
    pub(super) fn read_optional(&self, file: &str) -> Result<Option<String>, CgroupError> {
        match self.try_read(file) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CgroupError::Read { file: self.path.join(file), source }),
        }
    }

    /// Whether the group has such a file.
    pub(super) fn has(&self, file: &str) -> bool {
        rustix::fs::accessat(&self.dir, file, rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty())
            .is_ok()
    }

    fn try_read(&self, file: &str) -> io::Result<String> {
        let fd = openat(self.dir.as_fd(), file, OFlags::RDONLY)?;
        let mut text = String::new();
        File::from(fd).take(LONGEST).read_to_string(&mut text)?;
        Ok(text)
    }
}

fn openat(dir: BorrowedFd<'_>, file: &str, access: OFlags) -> io::Result<OwnedFd> {
    let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, file, flags, Mode::empty())?)
}
