//! Changes to a sandbox between its creation and the start of the payload.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, mount, mount_bind, mount_remount, move_mount};

use super::create::{Sandbox, text};
use super::error::{SandboxError, preparing};
use super::plan::{HOSTS, hosts_of_wired, run_bytes, scratch, size};
use crate::sys;

impl Sandbox {
    /// Changes the size limits of file systems in the mount namespace of a created sandbox: `scratch_bytes` for each
    /// of /tmp and /dev/shm, and /run at most, `work_bytes` for a /work in memory. Call it on a thread of [`Sandbox::adopt_thread`],
    /// before the payload starts.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn resize(
        &self,
        mounts: BorrowedFd<'_>,
        scratch_bytes: u64,
        work_bytes: Option<u64>,
    ) -> Result<(), SandboxError> {
        let resize = || -> io::Result<()> {
            let safe = MountFlags::NOSUID | MountFlags::NODEV;
            let shared = scratch(scratch_bytes);
            mount_remount("/tmp", safe, shared.as_c_str())?;
            mount_remount("/dev/shm", safe | MountFlags::NOEXEC, shared.as_c_str())?;
            mount_remount("/run", safe, scratch(run_bytes(scratch_bytes)).as_c_str())?;
            if let Some(bytes) = work_bytes {
                mount_remount("/work", safe, size(bytes))?;
            }
            Ok(())
        };
        preparing(self.inside(mounts, resize)?, "set the size of /tmp, /dev/shm, /run and /work")
    }

    /// Gives the host name of a created sandbox another address in its /etc/hosts. Call it as [`Sandbox::resize`].
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn rename_address(
        &self,
        mounts: BorrowedFd<'_>,
        hostname: &str,
        address: Ipv4Addr,
    ) -> Result<(), SandboxError> {
        let path = OsStr::from_bytes(HOSTS.to_bytes());
        let write = || std::fs::write(path, hosts_of_wired(hostname, address));
        preparing(self.inside(mounts, write)?, "write the address of the job into /etc/hosts")
    }

    /// The texts of /etc/passwd and /etc/group in the root of a created sandbox; empty where there is none. The root may be that of
    /// a hostile image: links are followed within it alone, and nothing but a file of at most 1 MiB is read. Call it as
    /// [`Sandbox::resize`], before the payload starts.
    ///
    /// # Errors
    /// Something else is there, or the kernel's refusal.
    pub fn users(&self, mounts: BorrowedFd<'_>) -> Result<[Vec<u8>; 2], SandboxError> {
        let read = || -> Result<[Vec<u8>; 2], SandboxError> {
            let read = |path| preparing(read_within(path), &format!("read /{path} of the job's root"));
            Ok([read("etc/passwd")?, read("etc/group")?])
        };
        self.inside(mounts, read)?
    }

    /// Runs `act` among the mounts of a sandbox.
    pub(super) fn inside<T>(
        &self,
        mounts: BorrowedFd<'_>,
        act: impl FnOnce() -> T,
    ) -> Result<T, SandboxError> {
        preparing(sys::thread::join_mounts(mounts), "enter the job's mounts")?;
        let done = act();
        preparing(sys::thread::join_mounts(self.host_mounts.as_fd()), "leave the job's mounts")?;
        Ok(done)
    }

    /// Shows a directory of /work at other places too, which are there. Call it as [`Sandbox::resize`].
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn show_at(
        &self,
        mounts: BorrowedFd<'_>,
        directory: &str,
        places: &[&str],
    ) -> Result<(), SandboxError> {
        let bind = || places.iter().try_for_each(|place| mount_bind(directory, *place));
        preparing(self.inside(mounts, bind)?, &format!("mount {directory} at {}", places.join(" and ")))
    }

    /// Attaches volumes, each a detached mount with the place where the job finds it, which is `/volumes/` and a name. The
    /// directory /volumes itself has them and nothing else, and the job cannot write it. Call it as [`Sandbox::resize`].
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn attach(&self, mounts: BorrowedFd<'_>, volumes: &[(String, OwnedFd)]) -> Result<(), SandboxError> {
        self.inside(mounts, || attach(volumes))?
    }
}

/// Most bytes of a file with users or groups: that of ten thousand users.
const USERS: u64 = 1 << 20;

/// Reads a file of the root that this thread is in.
fn read_within(path: &str) -> io::Result<Vec<u8>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, "/", flags, Mode::empty())?;
    // Neither a FIFO nor a terminal of an image may hold us up.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let file = match openat2(&root, path, flags, Mode::empty(), resolve) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(why) => return Err(why.into()),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = Vec::new();
    file.take(USERS + 1).read_to_end(&mut text)?;
    if text.len() as u64 > USERS {
        return Err(io::Error::other(format!("it has more than {USERS} bytes")));
    }
    Ok(text)
}

const VOLUMES: &CStr = c"/volumes";

/// The mount points need a file system of the job's own: its root is shared by all jobs, and read-only.
fn attach(volumes: &[(String, OwnedFd)]) -> Result<(), SandboxError> {
    let bare = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = text(&format!("mode=755,size=64k,nr_inodes={}", volumes.len() + 1))?;
    preparing(mount("tmpfs", VOLUMES, "tmpfs", bare, Some(options.as_c_str())), "mount /volumes")?;
    for (place, volume) in volumes {
        let mode = Mode::from_raw_mode(0o755);
        preparing(rustix::fs::mkdir(place, mode), &format!("make the directory {place}"))?;
        let moved = move_mount(volume, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
        preparing(moved, &format!("attach a volume at {place}"))?;
    }
    let closed = sys::mount::set_attributes(CWD, VOLUMES, libc::MOUNT_ATTR_RDONLY, false);
    preparing(closed, "make /volumes read-only")
}
