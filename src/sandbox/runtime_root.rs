//! The root of a runtime: layers of an image, parts of a directory, or those over the host's paths.
//!
//! **Where mounts go.** The files of an image are hostile: its /dev may be a link to /etc, its /etc/hosts one to `..`. So no mount
//! goes to a place that an image has. The top layer of every root is ours, and has a directory or file for each mount point;
//! a directory of ours hides a link or file of that name below, and those that are the job's own (/dev, /proc and the like)
//! are opaque, so that nothing of the image shows in them (Documentation/filesystems/overlayfs, "whiteouts and opaque
//! directories"). A mount whose place is within another one must find it there, reached without links.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, XattrFlags, fstat, openat, openat2, setxattr};

use super::error::SandboxError;
use super::parts::{Bind, NEW, Part, ROOT, doing, place_in_root};

/// A root other than the host's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RuntimeRoot {
    /// The name of the runtime, with its version, for errors and for people.
    pub name: String,
    /// Tells one installation of that version from another.
    pub generation: u64,
    /// Whether the host's paths lie beneath.
    pub over_host: bool,
    /// Layers of the root, top to bottom. They do not change.
    pub layers: Vec<PathBuf>,
    /// Parts of a directory, each with its place.
    pub mounts: Vec<RuntimeMount>,
}

/// A part of a runtime's directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RuntimeMount {
    /// The directory of the runtime.
    pub dir: PathBuf,
    /// The part, relative to that. No link on the way is followed.
    pub source: PathBuf,
    /// Its place in the job, absolute.
    pub target: PathBuf,
}

/// Directories that are the job's own, whatever the layers below have there.
const OPAQUE: &[&str] = &["proc", "dev", "tmp", "work", "volumes", "run", "sys", "var/empty"];
/// Directory of the template with the files that are in a root only if nothing else has them.
pub(super) const BOTTOM: &str = "bottom";

/// What a runtime adds to a template.
#[derive(Debug, Default)]
pub(super) struct Added {
    /// Mounts in the template's namespace.
    pub(super) binds: Vec<Bind>,
    /// Mounts of each child.
    pub(super) parts: Vec<Part>,
    /// The layers of the root, top to bottom, as paths of the template.
    lowers: Vec<String>,
}

impl Added {
    /// The layers that the runtime brings, as paths of the template.
    ///
    /// # Errors
    /// As [`Added::root_options`].
    pub(super) fn layers(&self) -> Result<Vec<CString>, SandboxError> {
        let paths = self.lowers.iter().map(|path| CString::new(path.as_str()).map_err(io::Error::other));
        doing(paths.collect::<Result<_, _>>(), || "name the layers".into())
    }

    /// Options of the overlay that is the root.
    ///
    /// # Errors
    /// A NUL, which none of our paths has.
    pub(super) fn root_options(&self) -> Result<CString, SandboxError> {
        let lowers = [&["/layer/root".to_owned()], &*self.lowers, &[format!("/{BOTTOM}")]].concat();
        let text = format!("lowerdir={},redirect_dir=nofollow", lowers.join(":"));
        doing(CString::new(text).map_err(io::Error::other), || "name the layers".into())
    }
}

/// Makes the directories of the job's own opaque.
pub(super) fn close_own_directories() -> Result<(), SandboxError> {
    for dir in OPAQUE {
        let at = Path::new(ROOT).join(dir);
        doing(setxattr(&at, "trusted.overlay.opaque", b"y", XattrFlags::empty()), || {
            format!("close /{dir}")
        })?;
    }
    Ok(())
}

/// Makes the places of a runtime's layers and mounts. The thread stands in the template, which has `first` binds already.
pub(super) fn make_places(root: &RuntimeRoot, first: usize) -> Result<Added, SandboxError> {
    let mut added = Added::default();
    let mut number = first;
    let mut next = |is_dir: bool| -> Result<String, SandboxError> {
        let to = format!("host/{number}");
        number += 1;
        let made = if is_dir { fs::create_dir(&to) } else { File::create(&to).map(drop) };
        doing(made, || format!("make /{to}")).map(|()| to)
    };
    for layer in &root.layers {
        let to = next(true)?;
        added.lowers.push(format!("/{to}"));
        added.binds.push(Bind { recursive: false, ..Bind::directory(layer, &to) });
    }
    let mut mounts: Vec<&RuntimeMount> = root.mounts.iter().collect();
    mounts.sort_by(|a, b| a.target.cmp(&b.target));
    for mount in &mounts {
        let shown = || {
            format!("show {} of runtime {} at {}", mount.source.display(), root.name, mount.target.display())
        };
        let opened = doing(open_source(mount), shown)?;
        let kind = FileType::from_raw_mode(doing(fstat(&opened), shown)?.st_mode);
        let is_dir = kind == FileType::Directory;
        if !is_dir && kind != FileType::RegularFile {
            doing(Err(io::Error::other("it is neither a file nor a directory")), shown)?;
        }
        for outer in mounts.iter().filter(|outer| is_within(mount, outer)) {
            doing(has_place(outer, mount), shown)?;
        }
        let to = next(is_dir)?;
        let from = mount.dir.join(&mount.source);
        added.binds.push(Bind { from, opened: Some(opened), to: to.clone().into(), kind, recursive: false });
        if mount.target == Path::new("/") {
            added.lowers.push(format!("/{to}"));
            continue;
        }
        let at = doing(place_in_root(&mount.target), shown)?;
        let made = if is_dir { fs::create_dir_all(&at) } else { File::create(&at).map(drop) };
        doing(made, shown)?;
        added.parts.push(doing(part(mount, &to, is_dir), shown)?);
    }
    Ok(added)
}

/// The mount of a child. /etc keeps the files of ours over those of the runtime.
fn part(mount: &RuntimeMount, to: &str, is_dir: bool) -> io::Result<Part> {
    let text = |bytes: Vec<u8>| CString::new(bytes).map_err(io::Error::other);
    let at = text([NEW.as_bytes(), mount.target.as_os_str().as_bytes()].concat())?;
    if !is_dir {
        return Ok(Part::Bind { from: text(format!("/{to}").into_bytes())?, at });
    }
    let lowers = if mount.target == Path::new("/etc") {
        format!("/layer/root/etc:/{to}:/{BOTTOM}/etc")
    } else {
        format!("/host/empty:/{to}")
    };
    let options = text(format!("lowerdir={lowers},redirect_dir=nofollow").into_bytes())?;
    Ok(Part::Overlay { at, options })
}

fn is_within(inner: &RuntimeMount, outer: &RuntimeMount) -> bool {
    outer.target != Path::new("/") && outer.target != inner.target && inner.target.starts_with(&outer.target)
}

/// Whether the place of one mount is within the files of another: the child mounts by path.
fn has_place(outer: &RuntimeMount, inner: &RuntimeMount) -> io::Result<()> {
    let below = inner.target.strip_prefix(&outer.target).unwrap_or(&inner.target);
    let dir = open_source(outer)?;
    open_beneath(&dir, below).map(drop).map_err(|why| {
        let place = inner.target.display();
        let text =
            format!("{} has no {place} to mount over, reached without links: {why}", outer.source.display());
        io::Error::new(why.kind(), text)
    })
}

fn open_source(mount: &RuntimeMount) -> io::Result<OwnedFd> {
    let dir = openat(CWD, &mount.dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    open_beneath(&dir, &mount.source)
}

fn open_beneath(dir: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(dir.as_fd(), path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// Whether a mount of a runtime finds its place within one of the host's paths.
pub(super) fn has_host_place(path: &Path, root: &RuntimeRoot) -> Result<(), SandboxError> {
    for mount in root.mounts.iter().filter(|mount| mount.target != path && mount.target.starts_with(path)) {
        let outer =
            RuntimeMount { dir: path.to_owned(), source: PathBuf::from("."), target: path.to_owned() };
        let shown = || {
            format!(
                "show {} of runtime {} within the host's {}",
                mount.source.display(),
                root.name,
                path.display()
            )
        };
        doing(has_place(&outer, mount), shown)?;
    }
    Ok(())
}
