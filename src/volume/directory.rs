//! A volume on disk that is a directory of dataDir's own file system, bound by a project quota.
//!
//! Everything in it counts for a project that nothing else has, because each new file gets the project of its directory. Only
//! the initial user namespace may change the project of a file, and a job has one of its own; links and renames lead out of
//! no mount, and none out of a project. The limits stand in the file system, so they outlive the daemon and the host.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    CWD, Gid, Mode, OFlags, RenameFlags, StatVfsMountFlags, Uid, fchmod, fchown, fstatvfs, fsync, mkdirat,
    openat, renameat_with,
};
use rustix::mount::{OpenTreeFlags, open_tree};

use super::error::VolumeError;
use super::projects;
use super::usage::Usage;
use crate::job::VolumeName;
use crate::job::volume::OWNER;
use crate::sys::quota;
use crate::sys::removal::remove_tree;

/// Bytes for each file, as mke2fs has it for an image.
const BYTES_OF_A_FILE: u64 = 16_384;
/// The fewest files of a volume, its own directory included.
const FEWEST_FILES: u64 = 1024;
/// Where the probe is made, before and behind its rename; no volume has a name with a point.
const PROBE: [&str; 2] = [".probe.new", ".probe.dir"];

/// The directory of a volume, open.
#[derive(Debug)]
pub(super) struct Directory {
    dir: OwnedFd,
    project: u32,
}

impl Directory {
    /// Opens the directory of a volume, and sees to it that it is bound: the file system enforces quotas, it is in its project,
    /// and the limits are those of `bytes`, which an earlier daemon may not have come to set.
    pub(super) fn open(
        name: &VolumeName,
        path: &Path,
        project: u32,
        bytes: u64,
    ) -> Result<Directory, VolumeError> {
        let dir = open(CWD, path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => VolumeError::Missing { name: name.clone(), path: path.to_owned() },
            _ => VolumeError::Mount { name: name.clone(), doing: "open its directory", source },
        })?;
        let unbound = |why: String| VolumeError::Unbound { name: name.clone(), why };
        if !quota::is_enforced(dir.as_fd()).map_err(|why| unbound(why.to_string()))? {
            return Err(unbound("they are counted and not enforced".to_owned()));
        }
        let found = quota::project_of(dir.as_fd()).map_err(|why| unbound(why.to_string()))?;
        if found != project {
            return Err(unbound(format!("{} is in project {found} instead of {project}", path.display())));
        }
        let directory = Directory { dir, project };
        directory.bind(bytes).map_err(|why| unbound(why.to_string()))?;
        Ok(directory)
    }

    /// Makes the directory of a volume at `path`, which must not exist, in a project that nothing has.
    pub(super) fn make(path: &Path, project: u32, bytes: u64) -> Result<Directory, VolumeError> {
        let failed = |doing| move |source| VolumeError::Directory { doing, path: path.to_owned(), source };
        mkdirat(CWD, path, Mode::RWXU).map_err(|why| failed("make")(why.into()))?;
        let dir = open(CWD, path).map_err(failed("open"))?;
        quota::set_project(dir.as_fd(), project).map_err(failed("set the project of"))?;
        let directory = Directory { dir, project };
        directory.bind(bytes).map_err(failed("set the quota of"))?;
        let owned = || -> io::Result<()> {
            let dir = &directory.dir;
            fchown(dir, Some(Uid::from_raw(OWNER)), Some(Gid::from_raw(OWNER)))?;
            fchmod(dir, Mode::from_raw_mode(0o755))?;
            Ok(fsync(dir)?)
        };
        owned().map_err(failed("give away"))?;
        Ok(directory)
    }

    /// Sets its limits to those of so many bytes.
    fn bind(&self, bytes: u64) -> io::Result<()> {
        quota::set_limits(self.dir.as_fd(), self.project, bytes, files_of(bytes))
    }

    /// Gives it another size, also while jobs have it.
    pub(super) fn resize(&self, name: &VolumeName, bytes: u64) -> Result<(), VolumeError> {
        let doing = "set the quota";
        self.bind(bytes).map_err(|source| VolumeError::Resize { name: name.clone(), doing, source })
    }

    /// A detached mount of it.
    pub(super) fn mount(&self, name: &VolumeName) -> Result<OwnedFd, VolumeError> {
        mount_of(self.dir.as_fd()).map_err(|source| VolumeError::Mount {
            name: name.clone(),
            doing: "make a mount of its directory",
            source,
        })
    }

    /// The room that its files take, as the file system counts it.
    pub(super) fn usage(&self) -> io::Result<Usage> {
        let found = quota::usage(self.dir.as_fd(), self.project)?;
        Ok(Usage { bytes: found.bytes, files: found.inodes, most_files: found.inode_limit })
    }
}

/// Files and directories that go with so many bytes.
fn files_of(bytes: u64) -> u64 {
    (bytes / BYTES_OF_A_FILE).max(FEWEST_FILES)
}

fn open(dir: BorrowedFd<'_>, path: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(dir, path, flags, Mode::empty())?)
}

fn mount_of(dir: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(dir, "", flags)?)
}

/// Removes the directory of a volume that is no more, with all that jobs made of it, and the limits of its project, so that the
/// number is free. May take seconds.
///
/// # Errors
/// The file system's refusal; files are left then.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let parent = File::open(parent)?;
    let name = CString::new(name.as_bytes()).map_err(io::Error::other)?;
    // The limits first: moving directories up may take a block more than there may be. Where there are no quotas any more,
    // there is nothing to lift.
    let dir = open(parent.as_fd(), &*name);
    let project = dir.as_ref().ok().and_then(|dir| quota::project_of(dir.as_fd()).ok());
    if let (Ok(dir), Some(project)) = (&dir, project.filter(|project| projects::is_of_volumes(*project))) {
        let _ = quota::set_limits(dir.as_fd(), project, 0, 0);
    }
    drop(dir);
    remove_tree(parent.as_fd(), &name)
}

/// Tries whether volumes can be directories in `dir`: one is put into a project with limits, which the file system must count,
/// report and enforce; it is renamed, and its ids are mapped by `ids`.
///
/// # Errors
/// Why not, in words.
pub(super) fn probe(dir: &Path, ids: BorrowedFd<'_>) -> Result<(), String> {
    let [aside, named] = PROBE.map(|name| dir.join(name));
    let cleared = || [&aside, &named].into_iter().try_for_each(|path| remove(path));
    cleared().map_err(|why| format!("cannot remove an earlier probe: {why}"))?;
    let tried = attempt(&aside, &named, ids);
    cleared().map_err(|why| format!("cannot remove the probe: {why}"))?;
    tried
}

fn attempt(aside: &Path, named: &Path, ids: BorrowedFd<'_>) -> Result<(), String> {
    fn cannot<E: std::fmt::Display>(doing: &'static str) -> impl Fn(E) -> String {
        move |why| format!("cannot {doing}: {why}")
    }
    let parent = File::open(aside.parent().unwrap_or(aside)).map_err(cannot("open its directory"))?;
    let stat = fstatvfs(&parent).map_err(cannot("look at the file system"))?;
    if stat.f_flag.contains(StatVfsMountFlags::NOEXEC) {
        return Err("it is mounted noexec, so jobs could not execute what is in a volume".to_owned());
    }
    match quota::is_enforced(parent.as_fd()) {
        Ok(true) => {}
        Ok(false) => return Err("it counts project quotas but does not enforce them".to_owned()),
        Err(why) => return Err(format!("it has no project quotas: {why}")),
    }
    let project = projects::free(parent.as_fd()).map_err(cannot("find a free project"))?;
    let made = Directory::make(aside, project, 1 << 20).map_err(|why| why.to_string())?;
    let usage = made.usage().map_err(cannot("read a project quota"))?;
    let reported = quota::project_of(made.dir.as_fd()).map_err(cannot("read the project of a directory"))?;
    if (reported, usage.most_files) != (project, FEWEST_FILES) || usage.files == 0 {
        return Err("it does not keep project quotas that are set".to_owned());
    }
    // It fails where dataDir itself has a project that its directories inherit.
    renameat_with(CWD, aside, CWD, named, RenameFlags::NOREPLACE)
        .map_err(cannot("rename a directory that has a project"))?;
    let mount = mount_of(made.dir.as_fd()).map_err(cannot("make a mount of a directory"))?;
    crate::sys::mount::map_ids(mount.as_fd(), 0, ids).map_err(cannot("map the ids of its files"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_go_with_bytes_as_in_an_image() {
        assert_eq!(files_of(16 << 20), 1024);
        assert_eq!(files_of(1 << 30), 65_536);
    }

    #[test]
    fn probe_detects_missing_quotas_and_leaves_nothing() {
        let shared = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let dir = tempfile::tempdir_in(shared).unwrap();
        let null = File::open("/dev/null").unwrap();
        // A tmpfs has no projects, whatever the kernel.
        let why = probe(dir.path(), null.as_fd()).unwrap_err();
        assert!(why.contains("quotas") || why.contains("noexec"), "{why}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn directory_without_quotas_is_opened_for_no_job() {
        let dir =
            tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" }).unwrap();
        let path = dir.path().join("data.dir");
        let name = "data".parse().unwrap();
        let refusal = || Directory::open(&name, &path, OWNER + 1, 1 << 24).unwrap_err().to_string();
        assert!(refusal().contains("is missing"));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("file"), "kept").unwrap();
        let why = refusal();
        assert!(why.contains("prjquota"), "{why}");
        remove(&path).unwrap();
        assert!(!path.exists());
    }
}
