//! Taking a tree that a job has made: copied beneath descriptors, as files of root that every job may read.
//!
//! Everything in the tree is hostile. Nothing is opened through a link (openat2(2) with RESOLVE_NO_SYMLINKS and
//! RESOLVE_NO_XDEV); links are copied as links, which only jobs follow, in their own root. All but files,
//! directories and links is left out, so no pipe or device is ever waited for. A file's size counts before a byte of it is read:
//! a sparse one of terabytes ends the copy at once. Permissions become those of files that all may read; setuid, setgid and
//! extended attributes are not taken.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, fchmod, fstat, linkat, mkdirat, openat, openat2,
    readlinkat, statat, symlinkat,
};

/// Deepest nesting of directories.
const DEEPEST: usize = 128;
/// Most notes about what was left out.
const NOTES: usize = 20;
/// Most files with several names that keep them; the names of others become files of their own.
const MOST_LINKED: usize = 100_000;

/// The bounds of a copy, and the check before more of it is written.
#[derive(Debug, Clone, Copy)]
pub struct Taker {
    /// Bytes of all files.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// Refuses so many more bytes on the file system of this directory.
    pub has_room: fn(BorrowedFd<'_>, u64) -> io::Result<()>,
}

/// The outcome of a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Bytes of all files.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// The things that were left out, one sentence each.
    pub notes: Vec<String>,
}

impl Taker {
    /// Copies everything in the directory `from` into the directory `to`.
    ///
    /// # Errors
    /// A bound, as a sentence; the file system's refusal.
    pub fn copy(self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<Taken> {
        let mut copy = Copy { taker: self, root: to, taken: Taken::default(), linked: HashMap::new() };
        let from = openat(from, ".", DIRECTORY, Mode::empty())?;
        let to = openat(to, ".", DIRECTORY, Mode::empty())?;
        copy.tree(from, to)?;
        Ok(copy.taken)
    }
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// A directory that is being read.
struct Level {
    dir: Dir,
    from: OwnedFd,
    to: OwnedFd,
    path: Vec<u8>,
}

struct Copy<'t> {
    taker: Taker,
    /// Where the copy is.
    root: BorrowedFd<'t>,
    taken: Taken,
    /// Paths of files that have more names, by their device and inode.
    linked: HashMap<(u64, u64), CString>,
}

impl Copy<'_> {
    fn tree(&mut self, from: OwnedFd, to: OwnedFd) -> io::Result<()> {
        let mut open = vec![Level { dir: Dir::read_from(&from)?, from, to, path: Vec::new() }];
        while let Some(level) = open.last_mut() {
            let Some(next) = level.dir.read() else {
                open.pop();
                continue;
            };
            let next = next?;
            let name = next.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let above: &[u8] = if level.path.is_empty() { b"" } else { b"/" };
            let path = [&level.path, above, name.to_bytes()].concat();
            let deeper = self.one(level, name, &path).map_err(|why| at(&path, &why))?;
            if let Some((from, to)) = deeper {
                if open.len() >= DEEPEST {
                    return Err(at(&path, &format!("it is nested deeper than {DEEPEST} directories")));
                }
                open.push(Level { dir: Dir::read_from(&from)?, from, to, path });
            }
        }
        Ok(())
    }

    /// Copies one thing; a directory is to be gone into.
    fn one(&mut self, level: &Level, name: &CStr, path: &[u8]) -> io::Result<Option<(OwnedFd, OwnedFd)>> {
        self.taken.entries += 1;
        if self.taken.entries > self.taker.entries {
            let most = self.taker.entries;
            return Err(io::Error::other(format!("there are more than {most} files, directories and links")));
        }
        let stat = statat(&level.from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let from = openat2(&level.from, name, DIRECTORY, Mode::empty(), BENEATH)?;
                mkdirat(&level.to, name, Mode::from_raw_mode(0o755))?;
                let to = openat(&level.to, name, DIRECTORY, Mode::empty())?;
                // The umask has no say.
                fchmod(&to, Mode::from_raw_mode(0o755))?;
                return Ok(Some((from, to)));
            }
            FileType::RegularFile => self.file(level, name, path)?,
            FileType::Symlink => {
                let target = readlinkat(&level.from, name, Vec::new())?;
                symlinkat(target, &level.to, name)?;
            }
            _ => {
                self.taken.entries -= 1;
                if self.taken.notes.len() < NOTES {
                    let shown = String::from_utf8_lossy(path).escape_debug().to_string();
                    self.taken.notes.push(format!("{shown} is no file, directory or link, and left out"));
                }
            }
        }
        Ok(None)
    }

    fn file(&mut self, level: &Level, name: &CStr, path: &[u8]) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let from = openat2(&level.from, name, flags, Mode::empty(), BENEATH)?;
        let stat = fstat(&from)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is another thing than it was a moment before"));
        }
        let inode = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.linked.get(&inode) {
            return Ok(linkat(self.root, first, &level.to, name, AtFlags::empty())?);
        }
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if self.taken.bytes.saturating_add(size) > self.taker.bytes {
            let most = self.taker.bytes;
            return Err(io::Error::other(format!("with it the files have more than {most} bytes")));
        }
        (self.taker.has_room)(self.root, size)?;
        self.taken.bytes += size;
        let mode = if stat.st_mode & 0o100 == 0 { 0o644 } else { 0o755 };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = openat(&level.to, name, flags, Mode::from_raw_mode(mode))?;
        fchmod(&to, Mode::from_raw_mode(mode))?;
        // One that grows meanwhile has no more than was counted.
        io::copy(&mut File::from(from).take(size), &mut File::from(to))?;
        if stat.st_nlink > 1 && self.linked.len() < MOST_LINKED {
            self.linked.insert(inode, CString::new(path).map_err(io::Error::other)?);
        }
        Ok(())
    }
}

fn at(path: &[u8], why: &dyn std::fmt::Display) -> io::Error {
    let shown: String = String::from_utf8_lossy(path).chars().take(200).collect();
    io::Error::other(format!("{}: {why}", shown.escape_debug()))
}

/// Opens a directory beneath another one, following no link and entering no mount.
///
/// # Errors
/// It is not there, is none, or is behind a link.
pub fn directory_beneath(dir: impl AsFd, path: &str) -> io::Result<OwnedFd> {
    Ok(openat2(dir, path, DIRECTORY, Mode::empty(), BENEATH)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    const TAKER: Taker = Taker { bytes: 1 << 20, entries: 100, has_room: |_, _| Ok(()) };

    fn take(taker: Taker, from: &Path, to: &Path) -> io::Result<Taken> {
        taker.copy(File::open(from).unwrap().as_fd(), File::open(to).unwrap().as_fd())
    }

    #[test]
    fn tree_is_copied_readable_with_links_and_without_setuid() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (a, b) = (from.path(), to.path());
        fs::create_dir(a.join("d")).unwrap();
        fs::write(a.join("d/program"), "p").unwrap();
        fs::set_permissions(a.join("d/program"), fs::Permissions::from_mode(0o4700)).unwrap();
        fs::write(a.join("data"), "d").unwrap();
        fs::set_permissions(a.join("data"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::hard_link(a.join("data"), a.join("d/again")).unwrap();
        symlink("/etc/shadow", a.join("out")).unwrap();
        symlink("..", a.join("d/up")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, a.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let taken = take(TAKER, a, b).unwrap();
        assert_eq!((taken.bytes, taken.entries), (2, 6));
        assert_eq!(taken.notes, ["pipe is no file, directory or link, and left out"]);
        let mode = |path: &str| fs::metadata(b.join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("d"), mode("d/program"), mode("data")), (0o755, 0o755, 0o644));
        assert_eq!(fs::read_link(b.join("out")).unwrap(), Path::new("/etc/shadow"));
        let inode = |path: &str| fs::metadata(b.join(path)).unwrap().ino();
        assert_eq!(inode("data"), inode("d/again"));
    }

    #[test]
    fn bounds_and_the_disk_end_a_copy_before_it_is_too_large() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let sparse = File::create(from.path().join("sparse")).unwrap();
        sparse.set_len(4 << 40).unwrap();
        let why = |taker: Taker| take(taker, from.path(), to.path()).unwrap_err().to_string();
        assert!(why(TAKER).contains("sparse: with it the files have more than 1048576 bytes"));
        assert!(why(Taker { entries: 0, ..TAKER }).contains("more than 0 files"));
        let full = Taker { bytes: u64::MAX, has_room: |_, _| Err(rustix::io::Errno::NOSPC.into()), ..TAKER };
        assert!(why(full).contains("No space left"));
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
    }
}
