//! The root of a runtime: layers of an image, parts of a directory, or those over the host's paths.
//!
//! **Where mounts go.** The files of an image are hostile: its /dev may be a link to /etc, its /etc/hosts one to `..`. So no mount
//! goes to a place that an image has. The top layer of every root is ours, and has a directory or file for each mount point;
//! a directory of ours hides a link or file of that name below, and those that are the job's own (/dev, /proc and the like)
//! are opaque, so that nothing of the image shows in them (Documentation/filesystems/overlayfs, "whiteouts and opaque
//! directories"). A mount whose place is within another one must find it there, reached without links.
//!
//! In a template of a runtime the layers are, top to bottom:
//!
//! ```text
//! /extra/root     places of the runtime's mounts
//! /base/root      what every root has
//! /extra/host/N   layers of the image, or a whole directory
//! /bottom/root    /etc/passwd and /etc/group, if nothing else has them
//! ```
//!
//! **A root that a job may write** has one layer more, above all of these, which is that job's alone and lies beside its /work
//! ([`work`](super::work)): it counts for the same bound and is gone with the job. The kernel copies a file there before it is
//! changed. Three things keep the layers below what they are: they are read-only mounts; the attributes by which overlayfs
//! leads from layer to layer (`trusted.overlay.*`) take a capability in the host's own user namespace; and renamed directories
//! and copied attributes alone (redirect_dir, metacopy) are off, so that a file of the upper layer never names one below. Its
//! fsync(2) does nothing (`volatile`): it is gone before the host could lose it, and no job makes the host flush a disk there.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, move_mount, open_tree};

use super::error::SandboxError;
use super::parts::{BASE, BOTTOM, EXTRA, NEW, Part, ROOT, SCRATCH, UPPER, doing, place_in};
use super::rootfs::{RootOverlay, Template, on_a_thread, stand_in, try_overlays};
use crate::sys;

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

/// Builds the template of a runtime from that of the host, in a copy of its namespace. It shares what that has, and
/// adds the files of the runtime alone.
pub(super) fn build(host: &Template, root: &RuntimeRoot) -> Result<Template, SandboxError> {
    on_a_thread(|| build_here(host, root))
}

fn build_here(host: &Template, root: &RuntimeRoot) -> Result<Template, SandboxError> {
    // Opened where they have paths; beyond, only these descriptors lead to them.
    let layers = root.layers.iter().map(|layer| open_layer(layer, root));
    let layers: Vec<OwnedFd> = layers.collect::<Result<_, _>>()?;
    let mut mounts: Vec<&RuntimeMount> = root.mounts.iter().collect();
    mounts.sort_by(|a, b| a.target.cmp(&b.target));
    let sources = open_sources(&mounts, host, root)?;
    let namespace = copy_namespace(host)?;
    let mut lowers = Vec::new();
    for layer in &layers {
        lowers.push(put(layer, true, lowers.len())?);
    }
    let is_taken = |part: &Part| mounts.iter().any(|mount| mount.target == target_of(part));
    let of_host = host.parts.iter().filter(|part| root.over_host && !is_taken(part)).cloned();
    let (mut parts, mut own, mut notes): (Vec<Part>, _, _) = (of_host.collect(), Vec::new(), Vec::new());
    for (number, (mount, (source, is_dir))) in mounts.iter().zip(&sources).enumerate() {
        let at = put(source, *is_dir, layers.len() + number)?;
        if mount.target == Path::new("/") {
            lowers.push(at);
            continue;
        }
        let beneath: &[&str] = if root.over_host { &[ROOT, BASE] } else { &[BASE] };
        let place = doing(place_in(EXTRA, beneath, &mount.target), || shown(mount, root))?;
        let made = if *is_dir { fs::create_dir_all(&place) } else { File::create(&place).map(drop) };
        doing(made, || shown(mount, root))?;
        own.push(doing(part(mount, &at, *is_dir), || shown(mount, root))?);
    }
    let targets = mounts.iter().map(|mount| mount.target.as_path());
    let shared = doing(shared(targets), || "name the directories of the root".into())?;
    let overlay = doing(overlay_of(root.over_host, &lowers, shared), || "name the layers".into())?;
    // A look at the root itself would cost a start more than all of this, because to unmount it is to wait for RCU. Where
    // overlayfs refuses it, the child says so.
    try_overlays(None, &mut own, &mut notes)?;
    parts.append(&mut own);
    Ok(Template { namespace, root: overlay, parts, notes })
}

/// Moves the thread into a copy of the host's template that has room for more in /extra, and stands in its root.
pub(super) fn copy_namespace(host: &Template) -> Result<OwnedFd, SandboxError> {
    let own = doing(File::open("/proc/thread-self"), || "open /proc/thread-self".into())?;
    doing(sys::thread::unshare_fs(), || "take a root of its own".into())?;
    doing(sys::thread::join_mounts(host.namespace.as_fd()), || "enter the template root".into())?;
    doing(sys::thread::unshare_mounts(), || "copy the template root".into())?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let namespace = openat(&own, "ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let namespace = doing(namespace, || "open the new mount namespace".into())?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let room = mount("tmpfs", "/extra", "tmpfs", flags, Some(c"mode=755,size=1m,nr_inodes=4096"));
    doing(room, || "mount /extra".into())?;
    stand_in(Path::new("/"))?;
    for dir in [EXTRA, "extra/host"] {
        doing(fs::create_dir(dir), || format!("make directory /{dir}"))?;
    }
    Ok(namespace)
}

/// Directories that have files of ours, mount points among them, and of the layers. As those of ours they belong to no id of
/// a job; so a layer of its own begins with them.
fn shared<'a>(targets: impl Iterator<Item = &'a Path>) -> io::Result<Vec<CString>> {
    let mut all = BTreeSet::from(["etc".into(), "var".into()]);
    for target in targets {
        let inside = target.strip_prefix("/").unwrap_or(target);
        all.extend(inside.ancestors().skip(1).filter(|dir| *dir != Path::new("")).map(PathBuf::from));
    }
    // In their order each comes behind the one that it is in.
    let text = |dir: PathBuf| CString::new(dir.into_os_string().into_vec()).map_err(io::Error::other);
    all.into_iter().map(text).collect()
}

fn overlay_of(over_host: bool, lowers: &[String], shared: Vec<CString>) -> io::Result<RootOverlay> {
    let text = |text: String| CString::new(text).map_err(io::Error::other);
    if over_host {
        let options = "lowerdir=/extra:/layer:/base:/bottom:/host/etc,redirect_dir=follow";
        return text(options.to_owned()).map(RootOverlay::Below);
    }
    let layers = lowers.iter().map(|lower| text(lower.clone()));
    let lowers: String = lowers.iter().map(|lower| format!("{lower}:")).collect();
    let options = format!("lowerdir=/{EXTRA}:/{BASE}:{lowers}/{BOTTOM},redirect_dir=nofollow");
    let written = format!("{options},metacopy=off,index=off,volatile,upperdir={UPPER},workdir={SCRATCH}");
    let layers = layers.collect::<io::Result<_>>()?;
    Ok(RootOverlay::Whole { options: text(options)?, written: text(written)?, layers, shared })
}

fn shown(mount: &RuntimeMount, root: &RuntimeRoot) -> String {
    format!("show {} of runtime {} at {}", mount.source.display(), root.name, mount.target.display())
}

/// The place of a part in a job.
fn target_of(part: &Part) -> &Path {
    let (Part::Overlay { at, .. } | Part::Bind { at, .. }) = part;
    let at = at.to_bytes();
    Path::new(OsStr::from_bytes(at.strip_prefix(NEW.as_bytes()).unwrap_or(at)))
}

/// A detached, read-only mount of a layer.
fn open_layer(layer: &Path, root: &RuntimeRoot) -> Result<OwnedFd, SandboxError> {
    let what = || format!("open the layer {} of runtime {}", layer.display(), root.name);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = doing(openat(CWD, layer, flags, Mode::empty()), what)?;
    doing(detached(&dir), what)
}

/// Detached, read-only mounts of the sources, and whether each is a directory. A mount that lies within another one, or within one
/// of the host's paths, must find its place there.
fn open_sources(
    mounts: &[&RuntimeMount],
    host: &Template,
    root: &RuntimeRoot,
) -> Result<Vec<(OwnedFd, bool)>, SandboxError> {
    let mut sources = Vec::new();
    for mount in mounts {
        let what = || shown(mount, root);
        let source = doing(open_source(mount), what)?;
        let kind = FileType::from_raw_mode(doing(fstat(&source), what)?.st_mode);
        if kind != FileType::Directory && kind != FileType::RegularFile {
            doing(Err(io::Error::other("it is neither a file nor a directory")), what)?;
        }
        for outer in mounts.iter().filter(|outer| is_within(&mount.target, &outer.target)) {
            let files = doing(open_source(outer), what)?;
            doing(has_place(&files, &outer.source, &outer.target, mount), what)?;
        }
        let of_host = host.parts.iter().map(target_of).filter(|_| root.over_host);
        for outer in of_host.filter(|outer| is_within(&mount.target, outer)) {
            let files = openat(CWD, outer, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
            doing(has_place(&doing(files, what)?, outer, outer, mount), what)?;
        }
        sources.push((doing(detached(&source), what)?, kind == FileType::Directory));
    }
    Ok(sources)
}

/// A copy of the mount that shows only this file or directory, with nothing that is mounted below.
pub(super) fn detached(source: &OwnedFd) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(source, "", flags)?;
    sys::mount::set_attributes_privately(tree.as_fd(), sys::mount::READ_ONLY)?;
    Ok(tree)
}

/// Mounts one of these in the template; its path there.
pub(super) fn put(tree: &OwnedFd, is_dir: bool, number: usize) -> Result<String, SandboxError> {
    let to = format!("extra/host/{number}");
    let made = if is_dir { fs::create_dir(&to) } else { File::create(&to).map(drop) };
    doing(made, || format!("make /{to}"))?;
    let moved = move_mount(tree, "", CWD, &to, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
    doing(moved, || format!("mount /{to}")).map(|()| format!("/{to}"))
}

/// The mount of a child. /etc keeps the files of ours over those of the runtime.
fn part(mount: &RuntimeMount, to: &str, is_dir: bool) -> io::Result<Part> {
    let text = |bytes: Vec<u8>| CString::new(bytes).map_err(io::Error::other);
    let at = text([NEW.as_bytes(), mount.target.as_os_str().as_bytes()].concat())?;
    if !is_dir {
        return Ok(Part::Bind { from: text(to.as_bytes().to_vec())?, at });
    }
    let lowers = if mount.target == Path::new("/etc") {
        format!("/{EXTRA}/etc:/{BASE}/etc:{to}:/{BOTTOM}/etc")
    } else {
        format!("/host/empty:{to}")
    };
    let options = text(format!("lowerdir={lowers},redirect_dir=nofollow").into_bytes())?;
    Ok(Part::Overlay { at, options })
}

fn is_within(inner: &Path, outer: &Path) -> bool {
    outer != Path::new("/") && outer != inner && inner.starts_with(outer)
}

/// Whether a mount finds its place within the files of another one, at `target`: the child mounts by path.
fn has_place(outer: &OwnedFd, files: &Path, target: &Path, inner: &RuntimeMount) -> io::Result<()> {
    let below = inner.target.strip_prefix(target).unwrap_or(&inner.target);
    open_beneath(outer, below).map(drop).map_err(|why| {
        let place = inner.target.display();
        let text = format!("{} has no {place} to mount over, reached without links: {why}", files.display());
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
