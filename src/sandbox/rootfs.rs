//! The template: one mount namespace from which every job gets its root.
//!
//! A short-lived thread moves into a copy of the host's mounts, builds a read-only tmpfs with the parts of a root, pivots
//! onto it and detaches the host's root. Only the namespace's descriptor is kept. A spawner thread joins it for the length
//! of one clone, so that the child's own copy (`CLONE_NEWNS`) has a few mounts and not one of the host's: nothing to
//! unmount, nothing to forget.
//!
//! ```text
//! /base/root    files of every root: devices, links, the /sys tree
//! /layer/root   files of the host's root: places of its paths, copies of files of /etc
//! /bottom/root  /etc/passwd and /etc/group of ours
//! /host/etc     the host's /etc. A directory of jobs' /etc is a directory of /layer with a redirect to one of these
//! /host/N       the other host paths that jobs see: /usr, filesystem.allowedMounts, filesystem.extraMounts
//! /host/empty   an empty directory: an overlay without an upper layer needs two lower ones
//! /overlay      where the child mounts the overlay of these and /host/etc; its directory `root` goes to /new
//! /extra        what a runtime adds, in its own template
//! /own          what one job may write: /work, and the layer over its root where it may write that too ([`work`](super::work))
//! /new          the new root of one job, until the child moves it over /
//! ```
//!
//! **Overlays.** A job that saw the host's own inodes could watch them (inotify names what others open and execute) and
//! lock them (flock holds up programs of the host, and carries bits from job to job). An overlay has inodes of its own for
//! the same files, and its files share the host's page cache. The child mounts new overlays for each job; one overlay for
//! all jobs would be cheaper, but jobs would watch and lock each other's inodes there, and it would go on showing files that the host
//! has replaced meanwhile.
//!
//! **Binds** remain for single files outside of /etc, and for directories that overlayfs does not take: those with
//! another file system mounted below, and those of file systems without what it needs. The daemon logs each of the latter.
//!
//! A runtime has a template of its own ([`runtime_root`](super::runtime_root)), made from this one.

use std::ffi::{CStr, CString};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, PROC_SUPER_MAGIC, XattrFlags, makedev, mknodat, setxattr};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
    move_mount, open_tree, unmount,
};

use crate::sys;

use super::error::SandboxError;
use super::parts::{BASE, BOTTOM, Bind, NEW, Part, ROOT, bind, doing, place_in};
use super::{etc, sysfs};

/// Directories of the host that a job sees read-only where the configuration names no list; [`etc::PROGRAM_FILES`] adds
/// the paths below /etc.
pub const DEFAULT_DIRECTORIES: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// A host path that jobs see, and the configuration key that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPath {
    /// The absolute path, the same on the host and in a job.
    pub path: PathBuf,
    /// The key; `None` for paths of the built-in list.
    pub key: Option<&'static str>,
}

/// The built-in list as it is on this host: [`DEFAULT_DIRECTORIES`] and [`etc::PROGRAM_FILES`].
pub fn default_paths() -> Vec<PathBuf> {
    DEFAULT_DIRECTORIES.iter().map(PathBuf::from).chain(etc::program_files(Path::new("/etc"))).collect()
}

/// Device nodes of jobs, with their numbers (Documentation/admin-guide/devices.txt). They are made and not bound: the
/// host's /dev/null may be another file (CVE-2025-31133), and its inode is shared with every program of the host.
pub(super) const DEVICES: &[(&str, u32, u32)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Directories: mount points of each job, and places that programs expect to exist.
const DIRECTORIES: &[&str] =
    &["proc", "dev", "dev/shm", "dev/pts", "tmp", "work", "volumes", "etc", "run", "var", "var/empty"];
/// The directory among these that covers masked directories of /proc.
pub(super) const EMPTY: &CStr = c"/var/empty";

/// A link of the host's root alone: programs of images find directories and links of their own there.
const LOGS: (&str, &str) = ("var/log", "/run/log");

/// Symbolic links, as every program expects them. The host name differs from job to job and the root does not: the
/// kernel knows the name, and each job's hosts file is in its /run.
pub(super) const LINKS: &[(&str, &str)] = &[
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
    ("dev/ptmx", "pts/ptmx"),
    ("etc/hostname", "/proc/sys/kernel/hostname"),
    ("etc/hosts", "/run/hosts"),
    ("etc/mtab", "/proc/self/mounts"),
    ("etc/resolv.conf", "/run/resolv.conf"),
    ("var/lock", "/run/lock"),
    ("var/run", "/run"),
    ("var/tmp", "/tmp"),
];

/// Files we make, so that `id`, `whoami` and name look-ups work without anything of the host's.
const FILES: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/work:/bin/sh\njob:x:1000:1000:job:/work:/bin/sh\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    ("etc/group", "root:x:0:\njob:x:1000:\nnogroup:x:65534:\n"),
];

/// Options of the overlay that holds the root's files and the directories of /etc.
const ROOT_OPTIONS: &CStr = c"lowerdir=/layer:/base:/bottom:/host/etc,redirect_dir=follow";
/// Directories that are the job's own, whatever layers below have there.
const OPAQUE: &[&str] = &["proc", "dev", "tmp", "work", "volumes", "run", "sys", "var/empty"];

/// The overlay that a root begins with, by its mount options.
#[derive(Debug)]
pub enum RootOverlay {
    /// The directory `root` of an overlay, which has /etc of the host beside it.
    Below(CString),
    /// The whole of an overlay.
    Whole {
        /// The mount options.
        options: CString,
        /// The mount options with a layer of the job's own on top.
        written: CString,
        /// The layers of a runtime in it. A job of many ids sees them with their owners as its own.
        layers: Vec<CString>,
        /// Directories that have files of ours and of the runtime, each behind the one that it is in. They belong to the job
        /// where it may write them.
        shared: Vec<CString>,
    },
}

impl RootOverlay {
    fn options(&self) -> &CStr {
        let (RootOverlay::Below(options) | RootOverlay::Whole { options, .. }) = self;
        options
    }

    /// The directories that a layer of the job's own begins with ([`Backing::divide`](super::work::Backing::divide)).
    ///
    /// # Errors
    /// The host's paths lie beneath, which no job writes.
    pub fn shared(&self) -> Result<&[CString], SandboxError> {
        match self {
            RootOverlay::Whole { shared, .. } => Ok(shared),
            RootOverlay::Below(_) => Err(SandboxError::NotWritable),
        }
    }
}

/// The namespace that children copy.
#[derive(Debug)]
pub struct Template {
    /// Mount namespace with the pivoted root.
    pub namespace: OwnedFd,
    /// The root, without [`Template::parts`].
    pub root: RootOverlay,
    /// The mounts that each child makes there, in this order.
    pub parts: Vec<Part>,
    /// Sentences for the daemon's log: host paths that jobs do not see as asked.
    pub notes: Vec<String>,
}

impl Template {
    /// Builds the template from `paths`; missing ones are skipped. The new root is mounted
    /// on a directory below `run_dir` while it is built; no other process sees that.
    ///
    /// # Errors
    /// The step that failed, with its path.
    pub fn build(paths: &[HostPath], run_dir: &Path) -> Result<Template, SandboxError> {
        let (paths, run_dir) = (paths.to_vec(), run_dir.to_owned());
        on_a_thread(move || build(paths, &run_dir))
    }
}

/// Builds something on a thread of its own, whose namespaces it changes.
pub(super) fn on_a_thread<T: Send>(
    build: impl FnOnce() -> Result<T, SandboxError> + Send,
) -> Result<T, SandboxError> {
    let failed = |doing: &str, source| SandboxError::Template { doing: doing.into(), source };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("template".into()).spawn_scoped(scope, build);
        let done = thread.map_err(|source| failed("start a thread", source))?.join();
        done.map_err(|_| failed("run the builder thread", io::Error::other("it panicked")))?
    })
}

fn build(mut paths: Vec<HostPath>, run_dir: &Path) -> Result<Template, SandboxError> {
    is_procfs("/proc")?;
    // On the file system of dataDir, which is most often that of /usr: the overlay of /usr then has one device number.
    let (empty, anchor) = (run_dir.join("empty"), run_dir.join("root"));
    for dir in [&empty, &anchor] {
        doing(fs::create_dir_all(dir), || format!("make {}", dir.display()))?;
        doing(fs::set_permissions(dir, Permissions::from_mode(0o555)), || {
            format!("set mode of {}", dir.display())
        })?;
    }
    doing(sys::thread::unshare_mounts(), || "enter a new mount namespace".into())?;
    // The thread's own from here on. Directories must be open to jobs, whatever mask the daemon has.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let namespace = doing(File::open("/proc/thread-self/ns/mnt"), || "open the new mount namespace".into())?;
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    doing(mount_change("/", private), || "make all mounts private".into())?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    // Inodes for the copies of /etc and for the topology of some thousand processors.
    doing(mount("tmpfs", &anchor, "tmpfs", flags, Some(c"mode=755,size=64m,nr_inodes=262144")), || {
        format!("mount a root at {}", anchor.display())
    })?;
    stand_in(&anchor)?;
    // From here on every path of the new root is relative: the thread stands in it.
    let root = RootOverlay::Below(ROOT_OPTIONS.to_owned());
    let mut template = Template { namespace: namespace.into(), root, parts: Vec::new(), notes: Vec::new() };
    furnish()?;
    // A directory comes before those below it, and is mounted first.
    paths.sort_by(|a, b| a.path.cmp(&b.path));
    paths.dedup_by(|a, b| a.path == b.path);
    let mut binds = vec![
        Bind::directory(&empty, "host/empty"),
        // Mounts on files of the host's /etc, as container runtimes make them, stay away: they are copied.
        Bind { recursive: false, ..Bind::directory(Path::new("/etc"), "host/etc") },
    ];
    for path in &paths {
        binds.extend(make_place(path, binds.len(), &mut template)?);
    }
    cover_read_only(&anchor)?;
    binds.iter().try_for_each(bind)?;
    doing(rustix::process::pivot_root(".", "."), || "pivot onto the new root".into())?;
    doing(unmount(".", UnmountFlags::DETACH), || "detach the old root".into())?;
    stand_in(Path::new("/"))?;
    try_overlays(Some(&template.root), &mut template.parts, &mut template.notes)?;
    Ok(template)
}

/// User maps, descriptors and namespaces are reached through /proc; a write to another file system mounted
/// there would not do what we expect (CVE-2025-52881).
fn is_procfs(at: &str) -> Result<(), SandboxError> {
    let found = doing(rustix::fs::statfs(at), || format!("look at {at}"))?;
    let is = found.f_type == PROC_SUPER_MAGIC;
    let other = || io::Error::new(io::ErrorKind::InvalidData, "it is not a procfs");
    doing(is.then_some(()).ok_or_else(other), || format!("trust {at}"))
}

pub(super) fn stand_in(dir: &Path) -> Result<(), SandboxError> {
    doing(std::env::set_current_dir(dir), || format!("enter {}", dir.display()))
}

/// Mounts the furnished root once more over itself, read-only, and stands in that. A mount that was written
/// through cannot be made read-only while anybody has a file of it open (EBUSY), and a child that another
/// thread clones meanwhile has a copy of whatever we had open; nobody ever wrote through this one.
fn cover_read_only(anchor: &Path) -> Result<(), SandboxError> {
    let tree = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let root = doing(open_tree(CWD, ".", tree), || "open the new root".into())?;
    doing(sys::mount::set_attributes(root.as_fd(), c"", sys::mount::READ_ONLY, false), || {
        "make the root read-only".into()
    })?;
    doing(move_mount(&root, "", CWD, anchor, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH), || {
        "mount the read-only root".into()
    })?;
    stand_in(anchor)
}

fn furnish() -> Result<(), SandboxError> {
    let own = ["host", "host/etc", "host/empty", "overlay", "new", "own", "extra", "layer", "base", "bottom"];
    let below = [ROOT, BASE, BOTTOM, "layer/root/var", "bottom/root/etc"];
    for dir in own.into_iter().chain(below) {
        doing(fs::create_dir(dir), || format!("make directory /{dir}"))?;
    }
    let root = Path::new(BASE);
    for dir in DIRECTORIES {
        let at = root.join(dir);
        doing(fs::create_dir(&at), || format!("make directory /{dir}"))?;
        doing(fs::set_permissions(&at, Permissions::from_mode(0o755)), || format!("set mode of /{dir}"))?;
    }
    for (path, text) in FILES {
        let at = Path::new(BOTTOM).join(path);
        doing(fs::write(&at, text), || format!("make /{path}"))?;
        doing(fs::set_permissions(&at, Permissions::from_mode(0o644)), || format!("set mode of /{path}"))?;
    }
    for (name, to) in LINKS {
        doing(symlink(to, root.join(name)), || format!("link /{name}"))?;
    }
    let (name, to) = LOGS;
    doing(symlink(to, Path::new(ROOT).join(name)), || format!("link /{name}"))?;
    for (name, major, minor) in DEVICES {
        let at = root.join("dev").join(name);
        let mode = Mode::from_raw_mode(0o666);
        let made = mknodat(CWD, &at, FileType::CharacterDevice, mode, makedev(*major, *minor));
        doing(made, || format!("make /dev/{name} (which needs CAP_MKNOD)"))?;
        doing(fs::set_permissions(&at, Permissions::from_mode(0o666)), || {
            format!("set mode of /dev/{name}")
        })?;
    }
    let made = sysfs::copy_topology(Path::new("/sys"), &root.join("sys"));
    doing(made, || "make the /sys tree".into())?;
    for dir in OPAQUE {
        let closed = setxattr(root.join(dir), "trusted.overlay.opaque", b"y", XattrFlags::empty());
        doing(closed, || format!("close /{dir}"))?;
    }
    Ok(())
}

/// Makes the place of one host path: a symbolic link (merged-usr) is made again; a path below /etc becomes files of ours
/// or a redirect; another directory or file gets a mount point, a part of the root and the bind that is returned.
fn make_place(host: &HostPath, number: usize, template: &mut Template) -> Result<Option<Bind>, SandboxError> {
    let path = host.path.as_path();
    let shown = || match host.key {
        Some(key) => format!("show {} ({key})", path.display()),
        None => format!("show {}", path.display()),
    };
    let Ok(meta) = fs::symlink_metadata(path) else {
        if host.key.is_some() {
            template.notes.push(format!("cannot {}: there is no such file", shown()));
        }
        return Ok(None);
    };
    let at = doing(place_in(ROOT, &[BASE], path), shown)?;
    if meta.is_symlink() {
        let link = fs::read_link(path).and_then(|to| etc::replace(&at, |at| symlink(to, at)));
        return doing(link, shown).map(|()| None);
    }
    if let Ok(below) = path.strip_prefix("/etc")
        && !below.as_os_str().is_empty()
    {
        if meta.is_dir() {
            doing(fs::create_dir_all(&at), shown)?;
            let to = Path::new("/").join(below);
            let redirect = to.as_os_str().as_bytes();
            doing(setxattr(&at, "trusted.overlay.redirect", redirect, XattrFlags::empty()), shown)?;
        } else if let Some(why) = doing(etc::copy_public(path, &at), shown)? {
            template.notes.push(format!("cannot {}: {why}", shown()));
        }
        return Ok(None);
    }
    let made = if meta.is_dir() { fs::create_dir_all(&at) } else { File::create(&at).map(drop) };
    doing(made, shown)?;
    let to = format!("host/{number}");
    let made = if meta.is_dir() { fs::create_dir(&to) } else { File::create(&to).map(drop) };
    doing(made, shown)?;
    let text = |text: Vec<u8>| doing(CString::new(text).map_err(io::Error::other), shown);
    let place = text([NEW.as_bytes(), path.as_os_str().as_bytes()].concat())?;
    template.parts.push(if meta.is_dir() && !has_mounts_below(path) {
        let options = text(format!("lowerdir=/host/empty:/{to},redirect_dir=nofollow").into_bytes())?;
        Part::Overlay { at: place, options }
    } else {
        Part::Bind { from: text(format!("/{to}").into_bytes())?, at: place }
    });
    let kind = FileType::from_raw_mode(meta.mode());
    Ok(Some(Bind { from: path.to_owned(), to: to.into(), kind, recursive: true }))
}

/// Whether another file system is mounted below this directory: an overlay would show the empty directory there.
fn has_mounts_below(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    // Spaces and the like are octal there, which matters only at the beginning of the path: those are binds then.
    points.map(Path::new).any(|at| at != path && at.starts_with(path))
        || path.as_os_str().as_bytes().iter().any(|byte| byte.is_ascii_whitespace() || *byte == b'\\')
}

/// Mounts each overlay once. The root's must succeed; a directory that overlayfs refuses becomes a bind.
pub(super) fn try_overlays(
    root: Option<&RootOverlay>,
    parts: &mut [Part],
    notes: &mut Vec<String>,
) -> Result<(), SandboxError> {
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    let attempt = |options: &CStr| -> io::Result<()> {
        mount("joblet", "/overlay", "overlay", flags, Some(options))?;
        Ok(unmount("/overlay", UnmountFlags::DETACH)?)
    };
    if let Some(root) = root {
        doing(attempt(root.options()), || {
            "mount an overlay of the root (modprobe overlay loads overlayfs)".into()
        })?;
    }
    for part in parts {
        let Part::Overlay { at, options } = part else { continue };
        let Err(why) = attempt(options) else { continue };
        let path = String::from_utf8_lossy(at.as_bytes()).replacen(NEW, "", 1);
        notes.push(format!(
            "jobs see the host's own inodes of {path}, which they can watch and lock: overlayfs refuses it: {why}"
        ));
        let from = options.to_string_lossy();
        let from = from.split([':', ',']).nth(1).unwrap_or_default();
        *part = Part::Bind { from: doing(CString::new(from), || format!("name {path}"))?, at: at.clone() };
    }
    Ok(())
}

/// Paths of procfs that show or control the host, split by the way they are closed. [`ProcMasks::probe`] looks once
/// which of them the running kernel has: a missing path needs no mask.
#[derive(Debug, Default)]
pub struct ProcMasks {
    /// Files covered by /dev/null.
    pub files: Vec<CString>,
    /// Directories covered by an empty one.
    pub directories: Vec<CString>,
    /// Files and directories bound read-only.
    pub read_only: Vec<CString>,
}

/// The paths that container runtimes mask by custom (moby's default masked paths), the kernel's symbols and its
/// configuration, and the GPUs of the host, of which a job with GPUs sees its own ([`devices`](super::devices)). A file that only the host's root may read by its mode needs no mask: no job has that uid.
const MASKED: &[&str] = &[
    "acpi",
    "asound",
    "config.gz",
    "driver/nvidia",
    "interrupts",
    "kallsyms",
    "kcore",
    "keys",
    "key-users",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];
/// Kept readable, never writable.
const READ_ONLY: &[&str] = &["bus", "fs", "irq", "pressure", "sys", "sysrq-trigger"];

impl ProcMasks {
    /// The masks this kernel needs.
    pub fn probe() -> Self {
        let mut masks = ProcMasks::default();
        for name in MASKED.iter().chain(READ_ONLY) {
            let path = format!("/proc/{name}");
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            let Ok(c_path) = CString::new(path) else { continue };
            let list = match (READ_ONLY.contains(name), meta.is_dir()) {
                (true, _) => &mut masks.read_only,
                (false, true) => &mut masks.directories,
                (false, false) => &mut masks.files,
            };
            list.push(c_path);
        }
        masks
    }
}
