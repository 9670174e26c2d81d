//! A /dev with more in it than every job has: the nodes of GPUs.

use std::ffi::{CStr, OsString};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat, open};
use rustix::mount::{MountFlags, MoveMountFlags, mount, move_mount};

use super::create::{Sandbox, text};
use super::error::{SandboxError, preparing};
use crate::job::DeviceNode;
use crate::sys;

const DEV: &CStr = c"/dev";
/// File systems of the job's own below /dev, which move over.
const BELOW: [&str; 2] = ["/dev/pts", "/dev/shm"];

impl Sandbox {
    /// Adds nodes to the /dev of a created sandbox. That is a directory of the root, which all jobs share and none can
    /// write, so the job gets another /dev over it, with the same in it. Call it as [`Sandbox::resize`].
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn add_devices(&self, mounts: BorrowedFd<'_>, nodes: &[DeviceNode]) -> Result<(), SandboxError> {
        self.inside(mounts, || add(nodes))?
    }
}

/// An entry of /dev.
enum Entry {
    Directory,
    Link(PathBuf),
    Device(u64),
}

fn add(nodes: &[DeviceNode]) -> Result<(), SandboxError> {
    let own = preparing(entries(), "list /dev")?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut below = Vec::new();
    for at in BELOW {
        below.push((at, preparing(open(at, flags, Mode::empty()), &format!("open {at}"))?));
    }
    let bare = MountFlags::NOSUID | MountFlags::NOEXEC;
    let options = text(&format!("mode=755,size=64k,nr_inodes={}", own.len() + nodes.len() + 1))?;
    preparing(mount("tmpfs", DEV, "tmpfs", bare, Some(options.as_c_str())), "mount another /dev")?;
    let added =
        nodes.iter().map(|node| (OsString::from(&node.name), Entry::Device(makedev(node.major, node.minor))));
    for (name, entry) in own.into_iter().chain(added) {
        let at = Path::new("/dev").join(name);
        preparing(make(&at, entry), &format!("make {}", at.display()))?;
    }
    for (at, mount) in below {
        let moved = move_mount(mount, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
        preparing(moved, &format!("move {at}"))?;
    }
    let closed = sys::mount::set_attributes(CWD, DEV, libc::MOUNT_ATTR_RDONLY, false);
    preparing(closed, "make /dev read-only")
}

/// All that a job has there: links, directories for mounts, devices.
fn entries() -> io::Result<Vec<(OsString, Entry)>> {
    let entry = |found: io::Result<fs::DirEntry>| {
        let found = found?;
        // The mode belongs to the directory itself, not to the mount there.
        let kind = found.file_type()?;
        let entry = if kind.is_symlink() {
            Entry::Link(fs::read_link(found.path())?)
        } else if kind.is_dir() {
            Entry::Directory
        } else {
            Entry::Device(found.metadata()?.rdev())
        };
        Ok((found.file_name(), entry))
    };
    fs::read_dir("/dev")?.map(entry).collect()
}

/// The daemon's mask takes bits away from a mode, so that is set.
fn make(at: &Path, entry: Entry) -> io::Result<()> {
    let mode = match entry {
        Entry::Link(to) => return symlink(to, at),
        Entry::Directory => {
            fs::create_dir(at)?;
            0o755
        }
        Entry::Device(device) => {
            mknodat(CWD, at, FileType::CharacterDevice, Mode::from_raw_mode(0o666), device)?;
            0o666
        }
    };
    fs::set_permissions(at, Permissions::from_mode(mode))
}
