//! The entries of a tree, in one order: each name after those with smaller bytes, a directory around its entries.

use std::os::fd::BorrowedFd;

use rustix::fs::{Dir, FileType, Mode, OFlags, Stat, fstat, readlinkat};
use rustix::io::Errno;

use super::beneath::{self, join};
use super::error::FilesError;
use super::piece::{Entry, Kind};
use super::{LONGEST_PATH, NAMES, PARTS};

/// Why entries are left out that are nothing to copy.
const FIFO: &str = "it is a FIFO";
const SOCKET: &str = "it is a socket";
const DEVICE: &str = "it is a device";

/// Whether an entry is left out for this reason because it is nothing to copy; any other reason is a failure.
pub fn is_special(why: &str) -> bool {
    [FIFO, SOCKET, DEVICE].contains(&why)
}

/// The next entry.
#[derive(Debug)]
pub(super) enum Step {
    /// An entry, and its path beneath the root; a directory's entries follow.
    Entry(Entry, Vec<u8>),
    /// A directory, of this path, has no more entries.
    Leave(Vec<u8>),
    /// An entry that is not copied, by its path, and why.
    Skip(Vec<u8>, String),
}

/// An open directory: its path as it is copied and beneath the root, and the names to come, the last one first.
#[derive(Debug)]
struct Open {
    path: Vec<u8>,
    place: Vec<u8>,
    names: Vec<Vec<u8>>,
}

/// A walk through a tree.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    root: BorrowedFd<'a>,
    after: Option<Vec<u8>>,
    first: Option<(Vec<u8>, Vec<u8>)>,
    open: Vec<Open>,
    held: usize,
}

impl<'a> Walk<'a> {
    /// The entry at `place` beneath the root and all below it, as `path`; an empty path leaves that directory itself out. `after`
    /// leaves out what is before a path in the order, that path, and what is below it.
    pub(super) fn new(root: BorrowedFd<'a>, place: &[u8], path: &[u8], after: Option<Vec<u8>>) -> Walk<'a> {
        Walk { root, after, first: Some((path.to_vec(), place.to_vec())), open: Vec::new(), held: 0 }
    }

    /// The next step; `None` at the end.
    ///
    /// # Errors
    /// The first entry is not there, or the names take too much memory.
    pub(super) fn next(&mut self) -> Result<Option<Step>, FilesError> {
        if let Some((path, place)) = self.first.take() {
            if path.is_empty() {
                self.enter(path, &place)?;
                return self.next();
            }
            if self.is_done(&path) {
                return Ok(None);
            }
            let shown = beneath::look(self.root, &place).map_err(FilesError::file("open", &place))?;
            drop(shown);
            return self.step(path, place).map(Some);
        }
        loop {
            let Some(open) = self.open.last_mut() else { return Ok(None) };
            let Some(name) = open.names.pop() else {
                let done = self.open.pop().map(|open| open.path).unwrap_or_default();
                if done.is_empty() {
                    continue;
                }
                return Ok(Some(Step::Leave(done)));
            };
            self.held = self.held.saturating_sub(cost(&name));
            let (path, place) = (join(&open.path, &name), join(&open.place, &name));
            if place == PARTS.as_bytes() || self.is_done(&path) {
                continue;
            }
            return self.step(path, place).map(Some);
        }
    }

    /// Whether an earlier call has brought this entry.
    fn is_done(&self, path: &[u8]) -> bool {
        let Some(after) = &self.after else { return false };
        let mut done = after.split(|byte| *byte == b'/');
        for name in path.split(|byte| *byte == b'/') {
            match done.next() {
                // It is below the last one that came whole.
                None => return true,
                Some(last) if last != name => return name < last,
                Some(_) => {}
            }
        }
        // The last one itself, or a directory around it.
        done.next().is_none()
    }

    fn step(&mut self, path: Vec<u8>, place: Vec<u8>) -> Result<Step, FilesError> {
        if place.len() > LONGEST_PATH || path.len() > LONGEST_PATH {
            return Ok(Step::Skip(path, "its path has more than 4095 bytes".to_owned()));
        }
        let entry = match self.look(path.clone(), &place) {
            Ok(Ok(entry)) => entry,
            Ok(Err(why)) => return Ok(Step::Skip(path, why.to_owned())),
            Err(why) => return Ok(Step::Skip(path, cannot_open(why))),
        };
        if entry.kind == Kind::Directory
            && let Err(why) = self.enter(path.clone(), &place)
        {
            return match why {
                FilesError::File { source, .. } => {
                    Ok(Step::Skip(path, format!("it cannot be read: {source}")))
                }
                why => Err(why),
            };
        }
        Ok(Step::Entry(entry, place))
    }

    /// The kind of an entry; or why it is not copied.
    fn look(&self, path: Vec<u8>, place: &[u8]) -> Result<Result<Entry, &'static str>, Errno> {
        let shown = beneath::look(self.root, place)?;
        let stat = fstat(&shown)?;
        let (kind, link) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => (Kind::File, Vec::new()),
            FileType::Directory => (Kind::Directory, Vec::new()),
            FileType::Symlink => (Kind::Link, readlinkat(&shown, "", Vec::new())?.into_bytes()),
            FileType::Fifo => return Ok(Err(FIFO)),
            FileType::Socket => return Ok(Err(SOCKET)),
            FileType::CharacterDevice | FileType::BlockDevice => return Ok(Err(DEVICE)),
            FileType::Unknown => return Ok(Err("it is no file, directory or link")),
        };
        let size = if kind == Kind::File { stat.st_size.cast_unsigned() } else { 0 };
        Ok(Ok(Entry { path, kind, size, mode: stat.st_mode & 0o777, mtime_ns: mtime(&stat), link }))
    }

    /// Reads the names of a directory.
    fn enter(&mut self, path: Vec<u8>, place: &[u8]) -> Result<(), FilesError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
        let opened = beneath::open(self.root, place, flags, Mode::empty());
        let opened = opened.map_err(FilesError::file("read the directory", place))?;
        let mut names = Vec::new();
        for entry in Dir::new(opened).map_err(FilesError::file("read the directory", place))? {
            let entry = entry.map_err(FilesError::file("read the directory", place))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            self.held += cost(name);
            if self.held > NAMES {
                return Err(FilesError::Names(place.to_vec()));
            }
            names.push(name.to_vec());
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        self.open.push(Open { path, place: place.to_vec(), names });
        Ok(())
    }
}

/// Bytes that a name takes in memory.
fn cost(name: &[u8]) -> usize {
    name.len() + size_of::<Vec<u8>>()
}

fn mtime(stat: &Stat) -> i64 {
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
    stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// Why an entry that a directory names cannot be had.
fn cannot_open(why: Errno) -> String {
    match why {
        Errno::XDEV => "another file system is mounted there".to_owned(),
        why => format!("it cannot be opened: {}", std::io::Error::from(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, OwnedFd};

    fn tree() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        for path in ["b/a", "b/c/d", "b-", ".joblet-parts/x"] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        std::os::unix::fs::symlink("/etc", dir.path().join("b/l")).unwrap();
        let root = super::super::open_directory(dir.path()).unwrap();
        (dir, root)
    }

    fn walked(root: &OwnedFd, place: &str, path: &str, after: Option<&str>) -> Vec<String> {
        let after = after.map(|after| after.as_bytes().to_vec());
        let mut walk = Walk::new(root.as_fd(), place.as_bytes(), path.as_bytes(), after);
        let mut seen = Vec::new();
        while let Some(step) = walk.next().unwrap() {
            let text = |path: Vec<u8>| String::from_utf8(path).unwrap();
            seen.push(match step {
                Step::Entry(entry, _) => text(entry.path),
                Step::Leave(path) => format!("/{}", text(path)),
                Step::Skip(path, why) => format!("{}: {why}", text(path)),
            });
        }
        seen
    }

    #[test]
    fn tree_is_walked_in_order_and_goes_on_behind_an_entry() {
        let (_dir, root) = tree();
        assert_eq!(walked(&root, "", "", None), ["b", "b/a", "b/c", "b/c/d", "/b/c", "b/l", "/b", "b-"]);
        assert_eq!(walked(&root, "b/c", "x", None), ["x", "x/d", "/x"]);
        assert_eq!(walked(&root, "b-", "y", None), ["y"]);
        assert_eq!(walked(&root, "", "", Some("b/a")), ["b", "b/c", "b/c/d", "/b/c", "b/l", "/b", "b-"]);
        assert_eq!(walked(&root, "", "", Some("b/c/d")), ["b", "b/c", "/b/c", "b/l", "/b", "b-"]);
        assert_eq!(walked(&root, "", "", Some("b/c")), ["b", "b/l", "/b", "b-"]);
        assert_eq!(walked(&root, "", "", Some("b")), ["b-"]);
        assert_eq!(walked(&root, "b-", "y", Some("y")), [""; 0]);
        assert!(Walk::new(root.as_fd(), b"gone", b"x", None).next().is_err());
    }
}
