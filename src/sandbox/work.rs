//! /work, the directory where a job finds its uploads and leaves its files. Two kinds:
//!
//! * a tmpfs of the job's own: the job's files there are its memory; gone with its last process;
//! * a directory `<dataDir>/work/<uuid>` with a project quota, where the file system enforces those. The
//!   project's number is the job's host id, which no other job has until the directory is gone. Only the
//!   initial user namespace may change a project, so the job cannot leave its quota.
//!
//! Both reach the job as a detached mount, filled beneath its descriptor before the job's first process exists.
//!
//! A job that may write its root has the layer over it in the same file system: [`Backing::divide`] makes one directory for /work
//! and two for the kernel's overlay, so that one bound in bytes and files holds for all that the job leaves, and one removal
//! takes it away. The job reaches the latter through its root alone.
//!
//! ```text
//! work      /work, of the job's user
//! root      the upper layer of the root
//! scratch   where overlayfs makes what it moves there (its workdir), closed to jobs
//! ```

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen, open_tree,
};

use super::create::Sandbox;
use super::error::{SandboxError, preparing};
use super::plan::inodes_for;
use crate::sys::removal::{names, remove_tree};
use crate::sys::{self, quota};

/// Mount attributes of a /work on disk: jobs cannot bring setuid programs or devices there.
const ATTRIBUTES: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
/// Where the probe is made; job directories are named by UUIDs.
const PROBE: &CStr = c"probe";

impl Sandbox {
    /// A detached tmpfs for /work, owned by the job's host id. Files put beneath its descriptor before the
    /// start are the daemon's memory, not the job's.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn work_tmpfs(&self, bytes: u64, owner: u32) -> Result<OwnedFd, SandboxError> {
        let make = || -> io::Result<OwnedFd> {
            let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
            let inodes = inodes_for(bytes).to_string();
            let (bytes, owner) = (bytes.to_string(), owner.to_string());
            let options = [
                ("size", &*bytes),
                ("nr_inodes", &*inodes),
                ("uid", &*owner),
                ("gid", &*owner),
                ("mode", "755"),
            ];
            for (key, value) in options {
                fsconfig_set_string(fs.as_fd(), key, value)?;
            }
            fsconfig_create(fs.as_fd())?;
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
            Ok(fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
        };
        preparing(make(), "mount the work directory")
    }
}

/// The place that a job may write, as a detached mount, and its /work in there.
#[derive(Debug)]
pub struct Backing {
    /// The mount, for the sandbox.
    pub mount: OwnedFd,
    /// The directory that is /work, to be filled.
    pub work: OwnedFd,
}

impl Backing {
    /// A tmpfs or directory that is /work itself.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn whole(mount: OwnedFd) -> Result<Backing, SandboxError> {
        let work = preparing(mount.try_clone(), "keep the work directory")?;
        Ok(Backing { mount, work })
    }

    /// Makes room for /work and for a layer over the job's root in a new tmpfs or directory. /work belongs to `owner`, the root
    /// and the directories `shared` in it to `root`, both ids of the host.
    ///
    /// # Errors
    /// The file system's refusal.
    pub fn divide(
        mount: OwnedFd,
        owner: u32,
        root: u32,
        shared: &[CString],
    ) -> Result<Backing, SandboxError> {
        let open = |name: &CStr| -> io::Result<OwnedFd> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(rustix::fs::openat(&mount, name, flags, Mode::empty())?)
        };
        let make = |dir: &OwnedFd, name: &CStr, owner: u32| -> io::Result<()> {
            rustix::fs::mkdirat(dir, name, Mode::RWXU)?;
            rustix::fs::chownat(
                dir,
                name,
                Some(Uid::from_raw(owner)),
                Some(Gid::from_raw(owner)),
                AtFlags::empty(),
            )?;
            // The mask of the daemon does not count.
            Ok(rustix::fs::chmodat(dir, name, Mode::from_raw_mode(0o755), AtFlags::empty())?)
        };
        let divide = || -> io::Result<OwnedFd> {
            let top = open(c".")?;
            rustix::fs::fchown(&top, Some(Uid::ROOT), Some(Gid::ROOT))?;
            rustix::fs::fchmod(&top, Mode::RWXU)?;
            make(&top, c"work", owner)?;
            make(&top, c"root", root)?;
            rustix::fs::mkdirat(&top, c"scratch", Mode::RWXU)?;
            let upper = open(c"root")?;
            shared.iter().try_for_each(|dir| make(&upper, dir, root))?;
            open(c"work")
        };
        let work = preparing(divide(), "make the layer over the root")?;
        Ok(Backing { mount, work })
    }
}

/// `<dataDir>/work`, which holds a directory for each job whose /work is on disk.
#[derive(Debug)]
pub struct WorkDisk {
    root: OwnedFd,
    path: PathBuf,
}

/// The host ids of a job's /work.
#[derive(Debug, Clone, Copy)]
pub struct WorkIds {
    /// The uid and gid of the directory itself.
    pub owner: u32,
    /// The project that its files count for: the first id of the job's lease.
    pub project: u32,
}

/// A directory that an earlier daemon left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Its name in `<dataDir>/work`.
    pub name: CString,
    /// The project that its files count for; 0: none.
    pub project: u32,
}

impl WorkDisk {
    /// Opens `<data_dir>/work`, made (mode 0700) where it is missing.
    ///
    /// # Errors
    /// The file system's refusal.
    pub fn open(data_dir: &Path) -> Result<Self, SandboxError> {
        let path = data_dir.join("work");
        let open = || -> io::Result<OwnedFd> {
            match rustix::fs::mkdir(&path, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(why) => return Err(why.into()),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(rustix::fs::openat(CWD, &path, flags, Mode::empty())?)
        };
        let root = preparing(open(), &format!("open {}", path.display()))?;
        Ok(WorkDisk { root, path })
    }

    /// Path of the directory `<dataDir>/work`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tries whether quotas work there: a directory is put into `project` with limits, which the file
    /// system must count, report and enforce.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn probe(&self, project: u32) -> Result<(), String> {
        let refused = |doing: &'static str| move |why: io::Error| format!("cannot {doing}: {why}");
        let mount = rustix::fs::fstatvfs(&self.root).map_err(io::Error::from);
        if mount
            .map_err(refused("look at the file system"))?
            .f_flag
            .contains(rustix::fs::StatVfsMountFlags::NOEXEC)
        {
            return Err("it is mounted noexec, so jobs could not execute their uploads".to_owned());
        }
        self.remove(PROBE, Some(project)).map_err(refused("remove an earlier probe"))?;
        let result = self.try_quota(project);
        self.remove(PROBE, Some(project)).map_err(refused("remove the probe"))?;
        result
    }

    fn try_quota(&self, project: u32) -> Result<(), String> {
        let refused = |doing: &'static str| move |why: io::Error| format!("cannot {doing}: {why}");
        let (bytes, inodes) = (1 << 20, 16);
        let dir = self.make_directory(PROBE).map_err(refused("make a directory"))?;
        quota::set_project(dir.as_fd(), project).map_err(refused("give a directory a project id"))?;
        quota::set_limits(self.root.as_fd(), project, bytes, inodes)
            .map_err(refused("set a project quota"))?;
        let usage = quota::usage(self.root.as_fd(), project).map_err(refused("read a project quota"))?;
        let reported = quota::project_of(dir.as_fd()).map_err(refused("read a project id"))?;
        if (reported, usage.byte_limit, usage.inode_limit) != (project, bytes, inodes) || usage.inodes == 0 {
            return Err("it does not keep project quotas that are set".to_owned());
        }
        match quota::is_enforced(self.root.as_fd()) {
            Ok(true) => Ok(()),
            Ok(false) => Err("it counts project quotas but does not enforce them".to_owned()),
            Err(why) => Err(format!("cannot tell whether it enforces project quotas: {why}")),
        }
    }

    /// The directory of one job as a detached mount. The daemon's
    /// own writes there count for the quota but are not held back by it: see [`WorkDisk::usage`].
    ///
    /// # Errors
    /// The step that the kernel refused. [`WorkDisk::remove`] then removes the rest.
    pub fn create(&self, name: &CStr, bytes: u64, ids: WorkIds) -> Result<OwnedFd, SandboxError> {
        let WorkIds { owner, project } = ids;
        let doing =
            |what: &str| format!("{what} {}", self.path.join(OsStr::from_bytes(name.to_bytes())).display());
        let dir = preparing(self.make_directory(name), &doing("make"))?;
        let root = self.root.as_fd();
        preparing(quota::set_project(dir.as_fd(), project), &doing("set the project of"))?;
        preparing(quota::set_limits(root, project, bytes, inodes_for(bytes)), &doing("set the quota of"))?;
        let owned = || -> io::Result<()> {
            rustix::fs::fchown(&dir, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))?;
            Ok(rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o755))?)
        };
        preparing(owned(), &doing("give away"))?;
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let mount = preparing(open_tree(&dir, "", flags), &doing("make a mount of"))?;
        let restricted = sys::mount::set_attributes_privately(mount.as_fd(), ATTRIBUTES);
        preparing(restricted, &doing("restrict the mount of"))?;
        Ok(mount)
    }

    /// The quota usage of a job's files.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn usage(&self, project: u32) -> io::Result<quota::Usage> {
        quota::usage(self.root.as_fd(), project)
    }

    /// Removes a directory with all that a job made of it, and the limits of `project`. May take seconds.
    ///
    /// # Errors
    /// The kernel's refusal; files are left then.
    pub fn remove(&self, name: &CStr, project: Option<u32>) -> io::Result<()> {
        // The limits first: moving directories up may take a block more than the job was allowed. Where there
        // are no quotas, there is nothing to lift.
        if let Some(project) = project {
            let _ = quota::set_limits(self.root.as_fd(), project, 0, 0);
        }
        remove_tree(self.root.as_fd(), name)
    }

    /// The directories that exist already: at the daemon's start, before any job, an earlier daemon left all of them.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn leftovers(&self) -> io::Result<Vec<Leftover>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let leftover = |name: CString| {
            let dir = rustix::fs::openat(&self.root, &name, flags, Mode::empty()).ok();
            let project = dir.and_then(|dir| quota::project_of(dir.as_fd()).ok()).unwrap_or(0);
            Leftover { name, project }
        };
        names(self.root.as_fd())?.map(|name| name.map(leftover)).collect()
    }

    fn make_directory(&self, name: &CStr) -> io::Result<OwnedFd> {
        rustix::fs::mkdirat(&self.root, name, Mode::RWXU)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.root, name, flags, Mode::empty())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn quota_probe_detects_missing_quotas_and_leaves_nothing() {
        let shared = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let dir = tempfile::tempdir_in(shared).unwrap();
        let disk = WorkDisk::open(dir.path()).unwrap();
        // A tmpfs has no projects, whatever the kernel.
        let why = disk.probe(1_879_048_192).unwrap_err();
        assert!(why.contains("cannot") || why.contains("noexec"), "{why}");
        assert_eq!(disk.leftovers().unwrap(), []);
    }

    #[test]
    fn leftovers_of_an_earlier_daemon_are_found_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let disk = WorkDisk::open(dir.path()).unwrap();
        fs::create_dir_all(dir.path().join("work/left/a/b")).unwrap();
        let left = disk.leftovers().unwrap();
        assert_eq!(left, [Leftover { name: c"left".to_owned(), project: 0 }]);
        disk.remove(&left[0].name, None).unwrap();
        assert_eq!(disk.leftovers().unwrap(), []);
    }

    #[test]
    fn the_directory_of_jobs_is_the_daemons_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let disk = WorkDisk::open(dir.path()).unwrap();
        assert_eq!(fs::metadata(disk.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
