//! Directory trees of runtimes: their size, and what lies beneath them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat};

/// Opens `path` beneath the directory `dir`, as a place only (O_PATH). No link on the way is followed, and none is at the end.
///
/// # Errors
/// It is not there, or a link is on the way.
pub(super) fn open_beneath(dir: &Path, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let base = openat(CWD, dir, flags | OFlags::DIRECTORY, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(&base, path, flags, Mode::empty(), resolve)?)
}

/// Bytes on disk of a tree, each of its files once. A part that cannot be read counts nothing.
pub(super) fn bytes(dir: &Path) -> u64 {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut seen = std::collections::HashSet::new();
    let mut sum = 0;
    // Names are looked up beneath open directories: a path of a deep tree is longer than the kernel takes.
    let mut open: Vec<OwnedFd> = openat(CWD, dir, flags, Mode::empty()).into_iter().collect();
    while let Some(dir) = open.pop() {
        let Ok(entries) = Dir::read_from(&dir) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let Ok(meta) = statat(dir.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if meta.st_nlink == 1 || seen.insert(meta.st_ino) {
                sum += meta.st_blocks.unsigned_abs() * 512;
            }
            if FileType::from_raw_mode(meta.st_mode) == FileType::Directory && open.len() < MOST_OPEN {
                open.extend(openat(dir.as_fd(), name, flags, Mode::empty()));
            }
        }
    }
    sum
}

/// Most directories that wait to be looked into; the files below others count nothing.
const MOST_OPEN: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn file_with_two_names_counts_once_and_links_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("file"), vec![1; 100_000]).unwrap();
        fs::hard_link(below.join("file"), dir.path().join("again")).unwrap();
        symlink("/usr", dir.path().join("usr")).unwrap();
        let sum = bytes(dir.path());
        assert!((100_000..150_000).contains(&sum), "{sum}");
    }

    #[test]
    fn what_lies_behind_a_link_is_not_beneath() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("in")).unwrap();
        symlink("/etc", dir.path().join("out")).unwrap();
        symlink("in", dir.path().join("same")).unwrap();
        let open = |path: &str| open_beneath(dir.path(), Path::new(path));
        assert!(open("in").is_ok());
        for path in ["out", "out/passwd", "same", "..", "/etc", "in/../../x", "missing"] {
            assert!(open(path).is_err(), "{path}");
        }
    }
}
