//! One directory tree that an archive fills, beneath a descriptor.
//!
//! Paths are looked up with openat2(2) beneath the root and through no link, so neither `..` nor a link that the archive
//! made before leads out of the tree, or anywhere else within it. Existing files are never written into: a later entry of the
//! same name replaces the file, and its bytes stay where another name leads to them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::sys::writeback;

/// Permission bits that an archive may give: no setuid, no setgid.
const PERMISSIONS: u32 = 0o1777;
const DIRECTORY_MODE: u32 = 0o755;
/// Bytes of the paths of directories whose times are set at the end. The directories beyond keep the time of unpacking.
const REMEMBERED: usize = 16 * 1024 * 1024;
/// Bytes of a file that are sent to the disk at once: a flood of dirty pages would hold up the next fsync of others.
const LARGE: u64 = 1024 * 1024;
const COPY: usize = 128 * 1024;
/// The mark of a directory that hides the one of the layer below (overlayfs.rst, "whiteouts and opaque directories").
const OPAQUE: &str = "trusted.overlay.opaque";

/// Owner, permissions and time of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Permissions; other bits are not taken.
    pub(super) mode: u32,
    /// Seconds since 1970.
    pub(super) modified: i64,
}

impl Attributes {
    fn owner(&self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }

    fn permissions(&self) -> Mode {
        Mode::from_raw_mode(self.mode & PERMISSIONS)
    }

    fn times(&self) -> Timestamps {
        let time = Timespec { tv_sec: self.modified, tv_nsec: 0 };
        Timestamps { last_access: time, last_modification: time }
    }
}

/// A tree that is being filled.
pub(super) struct Tree {
    root: OwnedFd,
    /// The directory of the entry before: entries come directory by directory.
    last: Option<(Vec<u8>, OwnedFd)>,
    times: Vec<(Vec<u8>, Attributes)>,
    remembered: usize,
}

impl Tree {
    /// `root` is an open directory that nobody else changes.
    pub(super) fn new(root: OwnedFd) -> Tree {
        Tree { root, last: None, times: Vec::new(), remembered: 0 }
    }

    /// A directory; one that is there gets these attributes. The empty path is the root.
    pub(super) fn directory(&mut self, path: &[u8], attributes: Attributes) -> io::Result<()> {
        let made = self.open_directory(path, true)?;
        let (uid, gid) = attributes.owner();
        rustix::fs::fchown(&made, uid, gid)?;
        rustix::fs::fchmod(&made, attributes.permissions())?;
        if self.remembered + path.len() <= REMEMBERED {
            self.remembered += path.len();
            self.times.push((path.to_vec(), attributes));
        }
        Ok(())
    }

    /// A file with the bytes of `content`, as many as `bytes`.
    pub(super) fn file(
        &mut self,
        path: &[u8],
        attributes: Attributes,
        bytes: u64,
        content: impl Read,
    ) -> io::Result<()> {
        let name = self.enter(path)?;
        let parent = self.parent();
        clear(parent, name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mut file = File::from(beneath(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
        if copy(content.take(bytes), &mut file)? != bytes {
            return Err(io::Error::other("the archive ends within it"));
        }
        let (uid, gid) = attributes.owner();
        rustix::fs::fchown(&file, uid, gid)?;
        rustix::fs::fchmod(&file, attributes.permissions())?;
        if bytes >= LARGE {
            writeback::start(&file)?;
        }
        Ok(rustix::fs::futimens(&file, &attributes.times())?)
    }

    /// A symbolic link, as it was written. It is followed in jobs only.
    pub(super) fn link(&mut self, path: &[u8], target: &[u8], attributes: Attributes) -> io::Result<()> {
        let name = self.enter(path)?;
        let parent = self.parent();
        clear(parent, name)?;
        rustix::fs::symlinkat(target, parent, name)?;
        let (uid, gid) = attributes.owner();
        rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(rustix::fs::utimensat(parent, name, &attributes.times(), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Another name of a file or link that this archive made.
    pub(super) fn hard_link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        let (above, old) = split(target);
        let from = beneath(self.root.as_fd(), dot(above), OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
            .map_err(|errno| match errno {
                Errno::NOENT | Errno::NOTDIR => io::Error::other("its target is not in the layer"),
                Errno::LOOP => io::Error::other("its target lies behind a symbolic link"),
                errno => errno.into(),
            })?;
        match kind_of(from.as_fd(), old)? {
            Some(FileType::RegularFile | FileType::Symlink | FileType::Fifo) => {}
            Some(_) => return Err(io::Error::other("its target is no file")),
            None => return Err(io::Error::other("its target is not in the layer")),
        }
        if path == target {
            return Err(io::Error::other("it is a hard link to itself"));
        }
        let name = self.enter(path)?;
        let parent = self.parent();
        clear(parent, name)?;
        Ok(rustix::fs::linkat(&from, old, parent, name, AtFlags::empty())?)
    }

    /// A named pipe.
    pub(super) fn fifo(&mut self, path: &[u8], attributes: Attributes) -> io::Result<()> {
        let name = self.enter(path)?;
        let parent = self.parent();
        clear(parent, name)?;
        rustix::fs::mknodat(parent, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        let (uid, gid) = attributes.owner();
        rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(rustix::fs::chmodat(parent, name, attributes.permissions(), AtFlags::empty())?)
    }

    /// Hides a name of the layers below. A directory of this layer stays and hides the one below it.
    pub(super) fn whiteout(&mut self, path: &[u8]) -> io::Result<()> {
        let name = self.enter(path)?;
        let parent = self.parent();
        match kind_of(parent, name)? {
            None => Ok(rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)?),
            Some(FileType::Directory) => self.opaque(path),
            // A file hides what is below by being there.
            Some(_) => Ok(()),
        }
    }

    /// Makes a directory hide the one of the layers below.
    pub(super) fn opaque(&mut self, path: &[u8]) -> io::Result<()> {
        let directory = self.open_directory(path, false)?;
        set_opaque(&directory)
    }

    /// Sets the times of directories, which filling them has changed; the tree is complete.
    pub(super) fn finish(self) -> io::Result<()> {
        for (path, attributes) in self.times {
            match beneath(self.root.as_fd(), dot(&path), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
                Ok(directory) => rustix::fs::futimens(&directory, &attributes.times())?,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Opens the directory that a path lies in, and makes what is missing of it; the path's last name.
    fn enter<'p>(&mut self, path: &'p [u8]) -> io::Result<&'p [u8]> {
        let (above, name) = split(path);
        if name.is_empty() {
            return Err(io::Error::other("it would replace the root of the layer"));
        }
        if self.last.as_ref().is_none_or(|(path, _)| path != above) {
            let parent = self.open_directory(above, false)?;
            self.last = Some((above.to_vec(), parent));
        }
        Ok(name)
    }

    /// The directory that was entered.
    fn parent(&self) -> BorrowedFd<'_> {
        self.last.as_ref().map_or(self.root.as_fd(), |(_, parent)| parent.as_fd())
    }

    /// Opens a directory, and makes it and the ones above where they are missing. A directory that the archive names itself
    /// replaces a file or link of its name.
    fn open_directory(&self, path: &[u8], is_named: bool) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        match beneath(self.root.as_fd(), dot(path), flags, Mode::empty()) {
            Ok(found) => return Ok(found),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut at = beneath(self.root.as_fd(), b".", flags, Mode::empty())?;
        let mut names = path.split(|byte| *byte == b'/').peekable();
        while let Some(name) = names.next() {
            at = subdirectory(at.as_fd(), name, is_named && names.peek().is_none())?;
        }
        Ok(at)
    }
}

/// Opens the directory of this name, and makes it where it is missing, or where it may replace what is no directory.
fn subdirectory(parent: BorrowedFd<'_>, name: &[u8], replaces: bool) -> io::Result<OwnedFd> {
    let mut hides = false;
    match kind_of(parent, name)? {
        Some(FileType::Directory) => {}
        Some(FileType::Symlink) if !replaces => {
            return Err(io::Error::other("its path leads through a symbolic link"));
        }
        Some(FileType::CharacterDevice) => {
            // A whiteout of this layer: the directory takes over what it hides.
            rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
            hides = true;
            make(parent, name)?;
        }
        Some(_) if replaces => {
            rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
            make(parent, name)?;
        }
        Some(_) => return Err(io::Error::other("its path leads through a file")),
        None => make(parent, name)?,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let directory = beneath(parent, name, flags, Mode::empty())?;
    if hides {
        set_opaque(&directory)?;
    }
    Ok(directory)
}

fn make(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
    // The umask has no say.
    Ok(rustix::fs::chmodat(parent, name, Mode::from_raw_mode(DIRECTORY_MODE), AtFlags::empty())?)
}

fn set_opaque(directory: &OwnedFd) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(directory, OPAQUE, b"y", rustix::fs::XattrFlags::empty())?)
}

/// Unlinks what is in the way. A directory is not: what lies in it was to stay.
fn clear(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match kind_of(parent, name)? {
        None => Ok(()),
        Some(FileType::Directory) => Err(io::Error::other("the archive has a directory of the same name")),
        Some(_) => Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?),
    }
}

fn kind_of(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<FileType>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => Ok(Some(FileType::from_raw_mode(there.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn copy(mut from: impl Read, to: &mut File) -> io::Result<u64> {
    let mut buffer = vec![0; COPY];
    let mut copied = 0;
    loop {
        let got = from.read(&mut buffer)?;
        if got == 0 {
            return Ok(copied);
        }
        to.write_all(&buffer[..got])?;
        copied += got as u64;
    }
}

/// openat2 that never leaves `dir` and follows no link.
fn beneath(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::io::retry_on_intr(|| rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, mode, resolve))
}

/// The directory and the last name of a path.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

fn dot(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}
