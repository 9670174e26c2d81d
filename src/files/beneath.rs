//! Opening beneath a descriptor: no link is followed, no mount is entered, nothing leads out.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use super::LONGEST_PATH;
use super::error::FilesError;

/// How often a path is tried that a rename elsewhere disturbs (openat2(2), EAGAIN).
const TRIES: usize = 16;

/// The last name of a path, and the path before it. Both are checked: names that are not empty, not `.` and not `..`.
///
/// # Errors
/// The rule that the path breaks.
pub fn split_path(path: &[u8]) -> Result<(&[u8], &[u8]), FilesError> {
    check_path(path)?;
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => Ok((&path[..at], &path[at + 1..])),
        None if path.is_empty() => Err(wrong(path, "it is empty")),
        None => Ok((b"", path)),
    }
}

/// Checks a path beneath a root; the empty one is the root.
pub(super) fn check_path(path: &[u8]) -> Result<(), FilesError> {
    if path.is_empty() {
        return Ok(());
    }
    if path.len() > LONGEST_PATH {
        let start = path.get(..64).unwrap_or(path);
        return Err(wrong(start, "it has more than 4095 bytes"));
    }
    if path.contains(&0) {
        return Err(wrong(path, "it has a byte 0"));
    }
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" => return Err(wrong(path, "it begins or ends with / or has an empty name")),
            b"." | b".." => return Err(wrong(path, "it has a name . or ..")),
            _ => {}
        }
    }
    Ok(())
}

fn wrong(path: &[u8], why: &'static str) -> FilesError {
    FilesError::Path { path: path.to_vec(), why }
}

/// Joins two paths, of which either may be empty.
pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    match (dir, name) {
        (b"", only) | (only, b"") => only.to_vec(),
        _ => [dir, b"/", name].concat(),
    }
}

/// Opens a path beneath a root; the empty one is the root itself.
pub(super) fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    for _ in 1..TRIES {
        match openat2(root, path, flags, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    openat2(root, path, flags, mode, resolve)
}

/// A descriptor of an entry that opens nothing of it, also of a symbolic link itself.
pub(super) fn look(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    open(root, path, OFlags::PATH, Mode::empty())
}

/// A directory as a place for names.
pub(super) fn directory(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    open(root, path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
}

/// Opens, to read, exactly what a descriptor of [`look`] shows.
pub(super) fn read(shown: BorrowedFd<'_>) -> Result<File, Errno> {
    let path = format!("/proc/self/fd/{}", shown.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map(File::from)
}

/// Opens a directory as a root, links in its own path included.
///
/// # Errors
/// It cannot be opened, or is none.
pub fn open_directory(path: &std::path::Path) -> Result<OwnedFd, FilesError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
    openat(CWD, path, flags, Mode::empty()).map_err(FilesError::file("open the directory", bytes))
}

/// Opens the root again, to read.
pub(super) fn root_file(root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    openat(root.as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn paths_that_lead_out_or_name_nothing_are_refused() {
        for path in [&b"a"[..], b"a/b", b"\xff\n/-", b"...", &[b'x'; 4095]] {
            assert!(split_path(path).is_ok(), "{}", path.escape_ascii());
        }
        for path in [&b""[..], b"/a", b"a/", b"a//b", b"..", b"a/../b", b"./a", b"a\0b", &[b'x'; 4096]] {
            assert!(split_path(path).is_err(), "{}", path.escape_ascii());
        }
        assert_eq!(split_path(b"a/b/c").unwrap(), (&b"a/b"[..], &b"c"[..]));
    }

    #[test]
    fn links_within_a_path_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/f"), "x").unwrap();
        symlink("d", dir.path().join("l")).unwrap();
        symlink("/etc/passwd", dir.path().join("out")).unwrap();
        let root = open_directory(dir.path()).unwrap();
        assert!(look(root.as_fd(), b"d/f").is_ok());
        assert_eq!(look(root.as_fd(), b"l/f").unwrap_err(), Errno::LOOP);
        assert_eq!(directory(root.as_fd(), b"l").unwrap_err(), Errno::NOTDIR);
        let link = look(root.as_fd(), b"out").unwrap();
        assert_eq!(rustix::fs::readlinkat(&link, "", Vec::new()).unwrap().as_bytes(), b"/etc/passwd");
        assert_eq!(look(root.as_fd(), b"d/../../x").unwrap_err(), Errno::XDEV);
    }

    proptest! {
        #[test]
        fn split_paths_join_to_the_same(path in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok((dir, name)) = split_path(&path) {
                prop_assert_eq!(join(dir, name), path);
            }
        }
    }
}
