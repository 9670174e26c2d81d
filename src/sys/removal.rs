//! Removing a directory tree that a hostile job has built.
//!
//! Paths of any depth, names that look like anything, symbolic links to everywhere: so nothing is resolved but
//! single names beneath open descriptors, a link is unlinked and never followed, no mount is entered
//! (CVE-2021-20188 and its kin removed the host's files), and neither stack nor descriptors grow with the
//! tree. A directory in the top one that is not empty is emptied of its files, its own subdirectories are
//! moved up to the top, and then it can go; so each directory is moved at most once, and two are open at a
//! time.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

/// Removes the file or directory `name` in `parent`, with all that is below it. A missing one is fine.
///
/// # Errors
/// The kernel's refusal; the caller may try again with the rest.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    loop {
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTDIR) => return Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(why) => return Err(why.into()),
        }
        let top = enter(parent, name)?;
        let mut moved = 0;
        // A directory may list entries that were moved into it meanwhile, or not: look again until it is empty.
        while empty_top(top.as_fd(), &mut moved)? {}
    }
}

/// One pass over the top directory; whether anything was there.
fn empty_top(top: BorrowedFd<'_>, moved: &mut u64) -> io::Result<bool> {
    let mut found = false;
    for name in names(top)? {
        let name = name?;
        found = true;
        if remove_one(top, &name)? {
            continue;
        }
        let below = match enter(top, &name) {
            Err(Errno::NOENT) => continue,
            entered => entered?,
        };
        for inner in names(below.as_fd())? {
            let inner = inner?;
            if !remove_one(below.as_fd(), &inner)? {
                move_up(below.as_fd(), &inner, top, moved)?;
            }
        }
        // Not empty only if somebody still writes there: the next pass sees it again.
        remove_one(top, &name)?;
    }
    Ok(found)
}

/// Removes a file, or a directory that is empty; `false`: it is a directory that is not.
fn remove_one(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        // Linux says the first; POSIX, and some file systems, the second.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(why) => return Err(why.into()),
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(why) => Err(why.into()),
    }
}

/// Moves a directory into the top one, under a name that is free there.
fn move_up(from: BorrowedFd<'_>, name: &CStr, top: BorrowedFd<'_>, moved: &mut u64) -> io::Result<()> {
    loop {
        let free = CString::new(format!("moved-{moved}")).expect("letters and digits have no NUL");
        *moved += 1;
        match rustix::fs::renameat_with(from, name, top, &free, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // The job chose this very name.
            Err(Errno::EXIST) => {}
            Err(why) => return Err(why.into()),
        }
    }
}

/// Opens a directory for reading: one name, no link, on the same mount.
fn enter(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve)
}

/// The entries of a directory, from its beginning, without itself and its parent.
pub fn names(dir: BorrowedFd<'_>) -> io::Result<impl Iterator<Item = io::Result<CString>>> {
    let own = |name: &CStr| name == c"." || name == c"..";
    let entries = Dir::read_from(dir)?.map(|entry| Ok(entry?.file_name().to_owned()));
    Ok(entries.filter(move |name: &io::Result<CString>| !name.as_ref().is_ok_and(|name| own(name))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn remove(dir: &std::path::Path, name: &CStr) {
        remove_tree(File::open(dir).unwrap().as_fd(), name).unwrap();
    }

    /// A chain of directories, made one name at a time: its path is longer than PATH_MAX.
    fn chain(dir: &std::path::Path, depth: usize) {
        let mut at: OwnedFd = File::open(dir).unwrap().into();
        for _ in 0..depth {
            rustix::fs::mkdirat(&at, "deep", Mode::RWXU).unwrap();
            rustix::fs::openat(&at, "file", OFlags::CREATE | OFlags::WRONLY, Mode::empty()).unwrap();
            at = enter(at.as_fd(), c"deep").unwrap();
        }
    }

    #[test]
    fn a_tree_ten_thousand_deep_goes_with_two_open_directories() {
        // In memory: an ext4 takes a millisecond for each of these.
        let memory = std::path::Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let dir = tempfile::tempdir_in(place).unwrap();
        fs::create_dir(dir.path().join("job")).unwrap();
        chain(&dir.path().join("job"), 10_000);
        remove(dir.path(), c"job");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_are_removed_and_what_they_point_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (job, precious) = (dir.path().join("job"), dir.path().join("precious"));
        fs::create_dir_all(job.join("a/b")).unwrap();
        fs::create_dir(&precious).unwrap();
        fs::write(precious.join("kept"), "x").unwrap();
        for place in ["link", "a/link", "a/b/link"] {
            symlink(&precious, job.join(place)).unwrap();
        }
        symlink("..", job.join("a/b/up")).unwrap();
        symlink("/", job.join("moved-0")).unwrap();
        fs::hard_link(precious.join("kept"), job.join("a/hard")).unwrap();
        remove(dir.path(), c"job");
        assert!(!job.exists());
        assert_eq!(fs::read_to_string(precious.join("kept")).unwrap(), "x");
    }

    #[test]
    fn a_wide_tree_with_names_and_modes_of_all_kinds_goes() {
        let dir = tempfile::tempdir().unwrap();
        let job = dir.path().join("job");
        for i in 0..40 {
            let below = job.join(format!("moved-{i}")).join("moved-0").join("\n\u{1b}[2J");
            fs::create_dir_all(&below).unwrap();
            fs::write(below.join("-rf"), "").unwrap();
        }
        fs::set_permissions(job.join("moved-7"), fs::Permissions::from_mode(0o700)).unwrap();
        remove(dir.path(), c"job");
        assert!(!job.exists());
    }

    #[test]
    fn removal_accepts_an_absent_path_a_file_or_a_symlink() {
        let dir = tempfile::tempdir().unwrap();
        remove(dir.path(), c"absent");
        fs::write(dir.path().join("file"), "").unwrap();
        symlink("/", dir.path().join("link")).unwrap();
        remove(dir.path(), c"file");
        remove(dir.path(), c"link");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
