//! The parts of a template: what is bound into it, and what a child mounts of it.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::error::SandboxError;
use crate::sys;

/// The files of every root, in the template's namespace: devices, links, the /sys tree.
pub(super) const BASE: &str = "base/root";
/// Files that a root has only if nothing else has them.
pub(super) const BOTTOM: &str = "bottom/root";
/// The files of the host's root alone: places of its paths, what is made of /etc.
pub(super) const ROOT: &str = "layer/root";
/// The places of the mounts of a runtime.
pub(super) const EXTRA: &str = "extra/root";
/// Where the child finds the parts of what its job may write ([`Backing`](super::work::Backing)).
pub(super) const WORK: &CStr = c"/own/work";
pub(super) const UPPER: &str = "/own/root";
pub(super) const SCRATCH: &str = "/own/scratch";
/// Where the child puts a root together. Paths of [`Part`] begin with it.
pub(super) const NEW: &str = "/new";

/// One mount of a job's root, for the child to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A read-only overlay.
    Overlay {
        /// The mount point, in the template's namespace.
        at: CString,
        /// Options of mount(2).
        options: CString,
    },
    /// A copy of a mount, with those below it.
    Bind {
        /// The mount, in the template's namespace.
        from: CString,
        /// The mount point there.
        at: CString,
    },
}

/// Names the step that ran when `result` failed.
pub(super) fn doing<T>(
    result: Result<T, impl Into<io::Error>>,
    what: impl FnOnce() -> String,
) -> Result<T, SandboxError> {
    result.map_err(|e| SandboxError::Template { doing: what(), source: e.into() })
}

/// Files to bind below `host`.
#[derive(Debug)]
pub(super) struct Bind {
    /// Path on the host.
    pub(super) from: PathBuf,
    /// Place in the template.
    pub(super) to: PathBuf,
    /// The file type when its place was made; it must be the same when it is opened.
    pub(super) kind: FileType,
    /// Whether mounts below it come too.
    pub(super) recursive: bool,
}

impl Bind {
    /// A directory with what is mounted below it.
    pub(super) fn directory(from: &Path, to: &str) -> Bind {
        Bind { from: from.to_owned(), to: to.into(), kind: FileType::Directory, recursive: true }
    }
}

/// Binds by descriptor: the file type is checked, and the attributes are set, on the detached copy that is then
/// mounted. A link that has taken its place meanwhile is not followed.
pub(super) fn bind(bind: &Bind) -> Result<(), SandboxError> {
    let from = bind.from.display();
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_NO_AUTOMOUNT
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    flags.set(OpenTreeFlags::AT_RECURSIVE, bind.recursive);
    let tree = open_tree(CWD, &bind.from, flags);
    let tree = doing(tree, || format!("open {from}"))?;
    let found = doing(rustix::fs::fstat(&tree), || format!("look at {from}"))?;
    let same = FileType::from_raw_mode(found.st_mode) == bind.kind;
    let other = || io::Error::new(io::ErrorKind::InvalidData, "it was replaced while the root was made");
    doing(same.then_some(()).ok_or_else(other), || format!("expose {from}"))?;
    doing(sys::mount::set_attributes(tree.as_fd(), c"", sys::mount::READ_ONLY, true), || {
        format!("make {from} read-only")
    })?;
    doing(move_mount(&tree, "", CWD, &bind.to, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH), || {
        format!("mount {from}")
    })
}

/// The place of a path of jobs below `top`, with the directories above it made. A link among these, there or in a layer
/// beneath, is refused: it would be hidden, or lead elsewhere.
pub(super) fn place_in(top: &str, beneath: &[&str], path: &Path) -> io::Result<PathBuf> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    let inside = path.strip_prefix("/").map_err(|_| wrong("it is not absolute".into()))?;
    let mut at = PathBuf::new();
    for name in inside.parent().into_iter().flat_map(Path::components) {
        at.push(name);
        let is_link = |layer: &str| {
            fs::symlink_metadata(Path::new(layer).join(&at)).is_ok_and(|meta| meta.is_symlink())
        };
        if is_link(top) || beneath.iter().any(|layer| is_link(layer)) {
            let link = Path::new("/").join(&at);
            return Err(wrong(format!("{} is a link; name the path without links", link.display())));
        }
        let place = Path::new(top).join(&at);
        if fs::symlink_metadata(&place).is_err() {
            fs::create_dir(&place)?;
        }
    }
    Ok(Path::new(top).join(inside))
}
