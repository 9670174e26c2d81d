//! The nodes and files that a job with GPUs sees beside others, put into a sandbox that is created already: another /dev, the files of the driver
//! ([`gpu_tree`](super::gpu_tree)), and its own GPUs in /proc.

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, move_mount, open_tree, unmount,
};

use super::create::{Sandbox, text};
use super::error::{SandboxError, preparing};
use super::gpu_tree::{Copies, GpuTree, PLACE, directory};
use crate::job::{DeviceNode, DriverFiles, DriverParts};
use crate::sys;

/// File systems of the job's own below /dev, which move over.
const BELOW: [&str; 2] = ["/dev/pts", "/dev/shm"];
/// The vendor's files in procfs, which every job has covered, and those of each GPU.
const PROC: &str = "/proc/driver/nvidia";
pub(super) const LISTED: &str = "proc/driver/nvidia/gpus";

impl Sandbox {
    /// Prepares what jobs with GPUs see, with sentences about files of the driver that they do not.
    ///
    /// # Errors
    /// The step that the host refused; no job can have GPUs then.
    pub fn prepare_gpus(&mut self, files: &DriverFiles) -> Result<Vec<String>, SandboxError> {
        let (tree, notes) = GpuTree::build(&self.template, files)?;
        self.gpu_tree = Some(tree);
        Ok(notes)
    }

    /// The files of the driver that jobs with GPUs see.
    pub fn driver_parts(&self) -> DriverParts {
        self.gpu_tree.as_ref().map(GpuTree::parts).unwrap_or_default()
    }

    /// Gives a created sandbox GPUs: these nodes in its /dev, the files of the driver, and in /proc the GPUs at these PCI
    /// addresses alone. Its /dev is a directory of the root, which all jobs share and none can write, so it gets another one
    /// over it, with the same in it. Call it as [`Sandbox::resize`].
    ///
    /// # Errors
    /// The kernel's refusal, or [`Sandbox::prepare_gpus`] has not been called.
    pub fn show_gpus(
        &self,
        mounts: BorrowedFd<'_>,
        nodes: &[DeviceNode],
        addresses: &[String],
    ) -> Result<(), SandboxError> {
        let absent = || io::Error::other("the daemon has started without them");
        let tree = preparing(self.gpu_tree.as_ref().ok_or_else(absent), "show GPUs")?;
        let copies = self.inside(tree.namespace(), || tree.copy(nodes))??;
        // With `filesystem.proc: pid` there is nothing to cover.
        let covered = !self.config.proc_pids_only
            && self.masks.directories.iter().any(|at| at.to_bytes() == PROC.as_bytes());
        self.inside(mounts, || {
            place(copies)?;
            narrow(covered.then_some(PROC), &format!("/{LISTED}"), addresses)
        })?
    }

    /// Has a directory of /proc in a created sandbox show only some of its entries, which are directories; those that are not there
    /// are none. A cover over a directory above it is taken away. Nothing happens where there is no such directory. Call it as
    /// [`Sandbox::resize`].
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn narrow(
        &self,
        mounts: BorrowedFd<'_>,
        covered: Option<&str>,
        directory: &str,
        keep: &[String],
    ) -> Result<(), SandboxError> {
        self.inside(mounts, || narrow(covered, directory, keep))?
    }
}

/// Puts the copies into their places.
fn place(copies: Copies) -> Result<(), SandboxError> {
    let Copies { dev, files, cuda } = copies;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut below = Vec::new();
    for at in BELOW {
        below.push((at, preparing(open(at, flags, Mode::empty()), &format!("open {at}"))?));
    }
    shift(&dev, "/dev")?;
    for (at, mount) in below {
        shift(&mount, at)?;
    }
    let Some(files) = files else { return Ok(()) };
    // The root of /run is sticky and not the job's, and nothing of the job has run yet.
    let above = Path::new(PLACE).parent().unwrap_or(Path::new("/run"));
    preparing(directory(above).and_then(|()| directory(Path::new(PLACE))), &format!("make {PLACE}"))?;
    shift(&files, PLACE)?;
    cuda.map_or(Ok(()), |cuda| shift(&cuda, &format!("{PLACE}/cuda")))
}

fn shift(mount: &OwnedFd, at: &str) -> Result<(), SandboxError> {
    let moved = move_mount(mount, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
    preparing(moved, &format!("move {at}"))
}

fn narrow(covered: Option<&str>, directory: &str, keep: &[String]) -> Result<(), SandboxError> {
    if let Some(covered) = covered {
        preparing(unmount(covered, UnmountFlags::DETACH), &format!("uncover {covered}"))?;
    }
    if !Path::new(directory).is_dir() {
        return Ok(());
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mut kept = Vec::new();
    // They come from a driver, and become paths.
    for name in keep.iter().filter(|name| !name.contains('/') && !name.starts_with('.')) {
        let at = Path::new(directory).join(name);
        match open_tree(CWD, &at, flags | OpenTreeFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(tree) => kept.push((at, tree)),
            Err(rustix::io::Errno::NOENT) => {}
            Err(why) => preparing(Err(why), &format!("open {}", at.display()))?,
        }
    }
    let bare = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = text(&format!("mode=755,size=64k,nr_inodes={}", kept.len() + 1))?;
    preparing(
        mount("tmpfs", directory, "tmpfs", bare, Some(options.as_c_str())),
        &format!("cover {directory}"),
    )?;
    for (at, tree) in kept {
        preparing(fs::create_dir(&at), &format!("make {}", at.display()))?;
        let moved = move_mount(&tree, "", CWD, &at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
        preparing(moved, &format!("show {}", at.display()))?;
    }
    let path = text(directory)?;
    let closed = sys::mount::set_attributes(CWD, &path, sys::mount::READ_ONLY, true);
    preparing(closed, &format!("make {directory} read-only"))
}
