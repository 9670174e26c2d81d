//! The parts of a template: what is bound into it, and what a child mounts of it.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::error::SandboxError;
use crate::sys;

/// The files of the root, in the template's namespace.
pub(super) const ROOT: &str = "layer/root";
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
    /// The same, opened in the template's namespace, where a path alone could lead elsewhere.
    pub(super) opened: Option<OwnedFd>,
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
        Bind {
            from: from.to_owned(),
            opened: None,
            to: to.into(),
            kind: FileType::Directory,
            recursive: true,
        }
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
    let tree = match &bind.opened {
        Some(opened) => open_tree(opened, "", flags | OpenTreeFlags::AT_EMPTY_PATH),
        None => open_tree(CWD, &bind.from, flags),
    };
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

/// The place of a path of jobs below [`ROOT`], with the directories above it made. A link among these is refused: an
/// absolute one would lead to the host.
pub(super) fn place_in_root(path: &Path) -> io::Result<PathBuf> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    let inside = path.strip_prefix("/").map_err(|_| wrong("it is not absolute".into()))?;
    let mut at = PathBuf::from(ROOT);
    for name in inside.parent().into_iter().flat_map(Path::components) {
        at.push(name);
        match fs::symlink_metadata(&at) {
            Ok(meta) if meta.is_symlink() => {
                let link = Path::new("/").join(at.strip_prefix(ROOT).unwrap_or(&at));
                return Err(wrong(format!("{} is a link; name the path without links", link.display())));
            }
            Ok(_) => {}
            Err(_) => fs::create_dir(&at)?,
        }
    }
    Ok(at.join(inside.file_name().unwrap_or_default()))
}
