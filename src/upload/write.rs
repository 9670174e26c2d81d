//! Writing beneath a descriptor, without trust in the files there.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use super::{Upload, UploadError, Written, printable};

/// Permission bits that a client may give: no setuid, setgid, sticky.
const PERMISSIONS: u32 = 0o777;
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;
/// The number of tries for a name that others change under us.
const TRIES: usize = 16;

/// Writes the uploads, in order, beneath `dir`, owned by `uid` and `gid`; missing parents are made with
/// mode 0755. A later entry of the same path replaces an earlier file.
///
/// # Errors
/// The first entry that could not be written; entries written before it stay. "Full" names the size of the
/// request and the size of the directory.
pub fn write_beneath(
    dir: BorrowedFd<'_>,
    uploads: &[Upload],
    uid: u32,
    gid: u32,
) -> Result<Written, UploadError> {
    let into = Into { dir, uid: Uid::from_raw(uid), gid: Gid::from_raw(gid) };
    let mut written = Written::default();
    for upload in uploads {
        let result = if upload.is_directory { into.directory(upload) } else { into.file(upload) };
        result.map_err(|source| explain(dir, uploads, upload, source))?;
        if !upload.is_directory {
            written.files += 1;
            written.bytes += upload.content.len() as u64;
        }
    }
    Ok(written)
}

/// The directory to write into and the owner of the new files.
struct Into<'a> {
    dir: BorrowedFd<'a>,
    uid: Uid,
    gid: Gid,
}

impl Into<'_> {
    fn file(&self, upload: &Upload) -> std::io::Result<()> {
        let (parent, name) = self.parent_of(&upload.path)?;
        let file = create(parent.as_fd(), name)?;
        rustix::fs::fchown(&file, Some(self.uid), Some(self.gid))?;
        let mut file = File::from(file);
        file.write_all(&upload.content)?;
        Ok(rustix::fs::fchmod(&file, permissions(upload.mode, FILE_MODE))?)
    }

    fn directory(&self, upload: &Upload) -> std::io::Result<()> {
        let (parent, name) = self.parent_of(&upload.path)?;
        let (made, _) = self.subdirectory(parent.as_fd(), name)?;
        rustix::fs::fchown(&made, Some(self.uid), Some(self.gid))?;
        Ok(rustix::fs::fchmod(&made, permissions(upload.mode, DIRECTORY_MODE))?)
    }

    /// The directory that a path's last component is to be in, made where it is missing.
    fn parent_of<'p>(&self, path: &'p str) -> std::io::Result<(OwnedFd, &'p str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        match beneath(self.dir, parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => Ok((self.make_directories(parent)?, name)),
            found => Ok((found?, name)),
        }
    }

    fn make_directories(&self, path: &str) -> std::io::Result<OwnedFd> {
        let mut at = beneath(self.dir, ".", OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        for name in path.split('/') {
            let (next, is_new) = self.subdirectory(at.as_fd(), name)?;
            if is_new {
                rustix::fs::fchown(&next, Some(self.uid), Some(self.gid))?;
                rustix::fs::fchmod(&next, Mode::from_raw_mode(DIRECTORY_MODE))?;
            }
            at = next;
        }
        Ok(at)
    }

    /// A directory of this name, and whether it was made just now.
    fn subdirectory(&self, parent: BorrowedFd<'_>, name: &str) -> std::io::Result<(OwnedFd, bool)> {
        let is_new = match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(errno.into()),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        Ok((beneath(parent, name, flags, Mode::empty())?, is_new))
    }
}

/// A new file, open for writing. A regular file that is in the way is unlinked; anything else is refused.
fn create(parent: BorrowedFd<'_>, name: &str) -> std::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    for _ in 0..TRIES {
        match beneath(parent, name, flags, Mode::RUSR | Mode::WUSR) {
            Err(Errno::EXIST) => {}
            created => return Ok(created?),
        }
        match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => match FileType::from_raw_mode(there.st_mode) {
                FileType::RegularFile => {}
                FileType::Directory => return Err(Errno::ISDIR.into()),
                FileType::Symlink => return Err(Errno::LOOP.into()),
                _ => return Err(Errno::EXIST.into()),
            },
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno.into()),
        }
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Errno::BUSY.into())
}

/// openat2 that never leaves `dir`. The kernel answers EAGAIN when it cannot be sure because something was
/// renamed meanwhile.
fn beneath(dir: BorrowedFd<'_>, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN) if tries < TRIES => tries += 1,
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

fn permissions(asked: u32, default: u32) -> Mode {
    Mode::from_raw_mode(if asked & PERMISSIONS == 0 { default } else { asked & PERMISSIONS })
}

/// The error for one entry. "No space" speaks of the whole request, since it is its size that matters.
fn explain(dir: BorrowedFd<'_>, uploads: &[Upload], at: &Upload, source: std::io::Error) -> UploadError {
    let errno = Errno::from_io_error(&source);
    if let (Some(Errno::NOSPC | Errno::DQUOT), Ok(room)) = (errno, rustix::fs::fstatvfs(dir)) {
        if room.f_files > 0 && room.f_ffree == 0 && room.f_bavail > 0 {
            return UploadError::FillInodes { entries: uploads.len(), inodes: room.f_files };
        }
        let bytes = uploads.iter().map(|upload| upload.content.len() as u64).sum();
        return UploadError::Fill { bytes, quota: room.f_blocks * room.f_frsize };
    }
    UploadError::Write { entry: printable(&at.path), source }
}

#[cfg(test)]
mod tests;
