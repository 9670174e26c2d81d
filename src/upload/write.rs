//! Writing beneath a descriptor, without trust in the files there.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use super::{Store, Stored, Upload, UploadError, Wanted, Written, printable};

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
        let result = match &upload.target {
            Some(target) => into.link(upload, target),
            None if upload.is_directory => into.directory(upload),
            None => into.file(upload, |file| file.write_all(&upload.content)),
        };
        let bytes = || uploads.iter().map(|upload| upload.content.len() as u64).sum();
        result.map_err(|source| explain(dir, bytes(), uploads.len(), upload, source))?;
        if !upload.is_directory && upload.target.is_none() {
            written.files += 1;
            written.bytes += upload.content.len() as u64;
        }
    }
    Ok(written)
}

/// Writes the wanted entries of an upload of the store in the same way, their contents from file to file.
///
/// # Errors
/// As for [`write_beneath`]; or the store cannot be read.
pub fn write_stored(
    dir: BorrowedFd<'_>,
    stored: &Stored,
    wanted: &Wanted<'_>,
    uid: u32,
    gid: u32,
) -> Result<Written, UploadError> {
    let into = Into { dir, uid: Uid::from_raw(uid), gid: Gid::from_raw(gid) };
    let lost = |source| UploadError::TakeBack { path: Store::data(stored), source };
    let (entries, data) = stored.open().map_err(lost)?;
    let mut written = Written::default();
    let mut at = 0;
    for entry in entries {
        let bytes = entry.bytes;
        let from = at;
        at += bytes;
        let upload = entry.into_upload(Vec::new());
        if !wanted.has(&upload.path) {
            continue;
        }
        let result = match &upload.target {
            Some(target) => into.link(&upload, target),
            None if upload.is_directory => into.directory(&upload),
            None => into.file(&upload, |file| copy(file, &data, from, bytes)),
        };
        result.map_err(|source| explain(dir, stored.size(), stored.entries(), &upload, source))?;
        written.bytes += bytes;
        written.files += usize::from(!upload.is_directory && upload.target.is_none());
    }
    Ok(written)
}

/// A directory to write into, the owner of new files, and the size of all that is to be written, for errors.
pub(super) struct Place<'a> {
    pub(super) dir: BorrowedFd<'a>,
    pub(super) owner: u32,
    pub(super) bytes: u64,
    pub(super) entries: usize,
}

/// Writes one file or directory; `fill` writes the contents.
pub(super) fn put(
    place: &Place<'_>,
    upload: &Upload,
    fill: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> Result<(), UploadError> {
    let into = Into { dir: place.dir, uid: Uid::from_raw(place.owner), gid: Gid::from_raw(place.owner) };
    let result = if upload.is_directory { into.directory(upload) } else { into.file(upload, fill) };
    result.map_err(|source| explain(place.dir, place.bytes, place.entries, upload, source))
}

/// Copies bytes from one file to another, within the kernel; no block is copied that the file system can share.
pub(super) fn copy(to: &File, from: &File, offset: u64, bytes: u64) -> std::io::Result<()> {
    let (mut at, end) = (offset, offset + bytes);
    while at < end {
        let part = usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut at), to, None, part) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            // Between file systems, or with one that cannot.
            Err(_) => break,
        }
    }
    while at < end {
        // sendfile(2) moves at most 2 GiB less a page.
        let part = usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::sendfile(to, from, Some(&mut at), part) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// The directory to write into and the owner of the new files.
struct Into<'a> {
    dir: BorrowedFd<'a>,
    uid: Uid,
    gid: Gid,
}

impl Into<'_> {
    fn file(
        &self,
        upload: &Upload,
        fill: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let (parent, name) = self.parent_of(&upload.path)?;
        let file = create(parent.as_fd(), name)?;
        rustix::fs::fchown(&file, Some(self.uid), Some(self.gid))?;
        let mut file = File::from(file);
        fill(&mut file)?;
        Ok(rustix::fs::fchmod(&file, permissions(upload.mode, FILE_MODE))?)
    }

    fn directory(&self, upload: &Upload) -> std::io::Result<()> {
        let (parent, name) = self.parent_of(&upload.path)?;
        let (made, _) = self.subdirectory(parent.as_fd(), name)?;
        rustix::fs::fchown(&made, Some(self.uid), Some(self.gid))?;
        Ok(rustix::fs::fchmod(&made, permissions(upload.mode, DIRECTORY_MODE))?)
    }

    /// A symbolic link as it was sent. It replaces an earlier link of the same path.
    fn link(&self, upload: &Upload, target: &str) -> std::io::Result<()> {
        let (parent, name) = self.parent_of(&upload.path)?;
        for _ in 0..TRIES {
            match rustix::fs::symlinkat(target, &parent, name) {
                Ok(()) => {
                    let flags = AtFlags::SYMLINK_NOFOLLOW;
                    return Ok(rustix::fs::chownat(&parent, name, Some(self.uid), Some(self.gid), flags)?);
                }
                Err(Errno::EXIST) => clear(parent.as_fd(), name, FileType::Symlink)?,
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Errno::BUSY.into())
    }

    /// The directory that a path's last component is to be in, made where it is missing.
    fn parent_of<'p>(&self, path: &'p [u8]) -> std::io::Result<(OwnedFd, &'p [u8])> {
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b"."[..], path),
        };
        match beneath(self.dir, parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => Ok((self.make_directories(parent)?, name)),
            found => Ok((found?, name)),
        }
    }

    fn make_directories(&self, path: &[u8]) -> std::io::Result<OwnedFd> {
        let mut at = beneath(self.dir, b".", OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        for name in path.split(|byte| *byte == b'/') {
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
    fn subdirectory(&self, parent: BorrowedFd<'_>, name: &[u8]) -> std::io::Result<(OwnedFd, bool)> {
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
fn create(parent: BorrowedFd<'_>, name: &[u8]) -> std::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    for _ in 0..TRIES {
        match beneath(parent, name, flags, Mode::RUSR | Mode::WUSR) {
            Err(Errno::EXIST) => {}
            created => return Ok(created?),
        }
        clear(parent, name, FileType::RegularFile)?;
    }
    Err(Errno::BUSY.into())
}

/// Unlinks what is in the way, if it is of this kind.
fn clear(parent: BorrowedFd<'_>, name: &[u8], kind: FileType) -> std::io::Result<()> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => match FileType::from_raw_mode(there.st_mode) {
            found if found == kind => {}
            FileType::Directory => return Err(Errno::ISDIR.into()),
            FileType::Symlink => return Err(Errno::LOOP.into()),
            _ => return Err(Errno::EXIST.into()),
        },
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// openat2 that never leaves `dir`. The kernel answers EAGAIN when it cannot be sure because something was
/// renamed meanwhile.
pub(super) fn beneath(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
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
fn explain(
    dir: BorrowedFd<'_>,
    bytes: u64,
    entries: usize,
    at: &Upload,
    source: std::io::Error,
) -> UploadError {
    let errno = Errno::from_io_error(&source);
    if let (Some(Errno::NOSPC | Errno::DQUOT), Ok(room)) = (errno, rustix::fs::fstatvfs(dir)) {
        if room.f_files > 0 && room.f_ffree == 0 && room.f_bavail > 0 {
            return UploadError::FillInodes { entries, inodes: room.f_files };
        }
        return UploadError::Fill { bytes, quota: room.f_blocks * room.f_frsize };
    }
    UploadError::Write { entry: printable(&at.path), source }
}

#[cfg(test)]
mod tests;
