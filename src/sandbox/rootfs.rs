//! The template: one mount namespace that holds the root every job starts from.
//!
//! A short-lived thread moves into a copy of the host's mounts, builds a read-only tmpfs root with the host
//! directories a job may see bound into it, pivots onto it and detaches the old root. Only the namespace's
//! descriptor is kept. A spawner thread joins it for the length of one clone, so that the child's own copy
//! (`CLONE_NEWNS`) has a dozen mounts and not one of the host's: nothing to unmount, nothing to forget.

use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, PROC_SUPER_MAGIC, major, makedev, minor, mknodat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
    move_mount, open_tree, unmount,
};

use crate::sys;

use super::error::SandboxError;

/// Host paths that a job sees read-only where the configuration names none. From /etc only the files that programs need
/// to link, to find names and to check certificates.
pub const DEFAULT_MOUNTS: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust",
    "/etc/nsswitch.conf",
];

/// Device nodes bound from the host, with their numbers (Documentation/admin-guide/devices.txt). /dev/null also
/// covers the masked files of /proc: were it another file, or a link to one, that would be writable for every job
/// (CVE-2025-31133).
const DEVICES: &[(&str, u32, u32)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Links in /dev, as every program expects them.
const DEVICE_LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Empty directories: mount points of each job, and places programs expect to exist.
const DIRECTORIES: &[&str] =
    &["proc", "dev", "dev/shm", "dev/pts", "tmp", "work", "volumes", "etc", "run", "var"];

/// Files we make, so that `id`, `whoami` and name look-ups work without anything of the host's.
const FILES: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/work:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"),
    ("etc/resolv.conf", "# jobs have no name server\n"),
];

/// The namespace that children copy.
#[derive(Debug)]
pub struct Template {
    /// Mount namespace with the pivoted root.
    pub namespace: OwnedFd,
}

impl Template {
    /// Builds the template from `mounts` (host paths; missing ones are skipped). `anchor` is an existing
    /// directory of ours on which the new root is mounted while it is built; no other process sees that.
    ///
    /// # Errors
    /// The step that failed, with its path.
    pub fn build(mounts: &[PathBuf], anchor: &Path) -> Result<Template, SandboxError> {
        let (mounts, anchor) = (mounts.to_vec(), anchor.to_owned());
        std::thread::Builder::new()
            .name("template".into())
            .spawn(move || build(&mounts, &anchor))
            .map_err(|source| SandboxError::Template { doing: "start a thread".into(), source })?
            .join()
            .map_err(|_| SandboxError::Template {
                doing: "run the builder thread".into(),
                source: io::Error::other("it panicked"),
            })?
    }
}

/// Names the step that ran when `result` failed.
fn doing<T>(
    result: Result<T, impl Into<io::Error>>,
    what: impl FnOnce() -> String,
) -> Result<T, SandboxError> {
    result.map_err(|e| SandboxError::Template { doing: what(), source: e.into() })
}

fn build(mounts: &[PathBuf], anchor: &Path) -> Result<Template, SandboxError> {
    is_procfs("/proc")?;
    doing(sys::thread::unshare_mounts(), || "enter a new mount namespace".into())?;
    let namespace = doing(File::open("/proc/thread-self/ns/mnt"), || "open the new mount namespace".into())?;
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    doing(mount_change("/", private), || "make all mounts private".into())?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    doing(mount("tmpfs", anchor, "tmpfs", flags, Some(c"mode=755,size=1m,nr_inodes=512")), || {
        format!("mount a root at {}", anchor.display())
    })?;
    stand_in(anchor)?;
    // From here on every path of the new root is relative: the thread stands in it.
    furnish()?;
    let mut binds = Vec::new();
    for path in mounts {
        binds.extend(make_place(path)?);
    }
    binds.extend(make_devices()?);
    cover_read_only(anchor)?;
    binds.iter().try_for_each(bind)?;
    doing(rustix::process::pivot_root(".", "."), || "pivot onto the new root".into())?;
    doing(unmount(".", UnmountFlags::DETACH), || "detach the old root".into())?;
    stand_in(Path::new("/"))?;
    Ok(Template { namespace: namespace.into() })
}

/// User maps, descriptors and namespaces are reached through /proc; a write to another file system mounted
/// there would not do what we expect (CVE-2025-52881).
fn is_procfs(at: &str) -> Result<(), SandboxError> {
    let found = doing(rustix::fs::statfs(at), || format!("look at {at}"))?;
    let is = found.f_type == PROC_SUPER_MAGIC;
    let other = || io::Error::new(io::ErrorKind::InvalidData, "it is not a procfs");
    doing(is.then_some(()).ok_or_else(other), || format!("trust {at}"))
}

fn stand_in(dir: &Path) -> Result<(), SandboxError> {
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

/// One host path to bind into the new root.
struct Bind {
    /// Path on the host.
    from: PathBuf,
    /// Place in the new root.
    to: PathBuf,
    /// Mount attributes (`MOUNT_ATTR_*`).
    attributes: u64,
    /// The file type when its place was made; it must be the same when it is opened.
    kind: FileType,
    /// Its number, if it must be this device.
    device: Option<u64>,
}

fn furnish() -> Result<(), SandboxError> {
    for dir in DIRECTORIES {
        doing(fs::create_dir(dir), || format!("make directory /{dir}"))?;
        doing(fs::set_permissions(dir, Permissions::from_mode(0o755)), || format!("set mode of /{dir}"))?;
    }
    for (path, text) in FILES {
        doing(fs::write(path, text), || format!("make /{path}"))?;
        doing(fs::set_permissions(path, Permissions::from_mode(0o644)), || format!("set mode of /{path}"))?;
    }
    for (name, to) in DEVICE_LINKS {
        doing(symlink(to, Path::new("dev").join(name)), || format!("link /dev/{name}"))?;
    }
    // The name differs from job to job, the root does not: the kernel knows it.
    doing(symlink("/proc/sys/kernel/hostname", "etc/hostname"), || "link /etc/hostname".into())?;
    doing(symlink("/proc/self/mounts", "etc/mtab"), || "link /etc/mtab".into())?;
    doing(symlink("/tmp", "var/tmp"), || "link /var/tmp".into())
}

/// Makes the place of one host path: a symlink (merged-usr) is made again; a directory or file gets a mount point,
/// and the bind for it is returned.
fn make_place(path: &Path) -> Result<Option<Bind>, SandboxError> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(None) };
    let Ok(inside) = path.strip_prefix("/") else {
        return doing(Err(io::Error::from(io::ErrorKind::InvalidInput)), || {
            format!("expose {}: it is not absolute", path.display())
        });
    };
    if let Some(parent) = inside.parent() {
        doing(fs::create_dir_all(parent), || format!("make directory /{}", parent.display()))?;
    }
    if meta.is_symlink() {
        let to = doing(fs::read_link(path), || format!("read link {}", path.display()))?;
        doing(symlink(&to, inside), || format!("link {}", path.display()))?;
        return Ok(None);
    }
    if meta.is_dir() {
        doing(fs::create_dir_all(inside), || format!("make directory {}", path.display()))?;
    } else {
        doing(File::create(inside), || format!("make file {}", path.display()))?;
    }
    Ok(Some(Bind {
        from: path.to_owned(),
        to: inside.to_owned(),
        attributes: sys::mount::READ_ONLY,
        kind: FileType::from_raw_mode(meta.mode()),
        device: None,
    }))
}

fn make_devices() -> Result<Vec<Bind>, SandboxError> {
    let mut binds = Vec::new();
    for (name, major, minor) in DEVICES {
        let at = Path::new("dev").join(name);
        // A mount point of the same type as the file that covers it: find(1) believes the directory entry, and would
        // have a `-type f` read /dev/zero for ever.
        let made = mknodat(CWD, &at, FileType::CharacterDevice, Mode::empty(), 0);
        doing(made, || format!("make {}", at.display()))?;
        binds.push(Bind {
            from: Path::new("/dev").join(name),
            to: at,
            attributes: sys::mount::READ_ONLY & !libc::MOUNT_ATTR_NODEV,
            kind: FileType::CharacterDevice,
            device: Some(makedev(*major, *minor)),
        });
    }
    Ok(binds)
}

/// Binds by descriptor: the file type is checked, and the attributes are set, on the detached copy that is then
/// mounted. A link that has taken its place meanwhile is not followed.
fn bind(bind: &Bind) -> Result<(), SandboxError> {
    let from = bind.from.display();
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_NO_AUTOMOUNT
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let tree = doing(open_tree(CWD, &bind.from, flags), || format!("open {from}"))?;
    let found = doing(rustix::fs::fstat(&tree), || format!("look at {from}"))?;
    let same = FileType::from_raw_mode(found.st_mode) == bind.kind
        && bind.device.is_none_or(|device| device == found.st_rdev);
    let other = || match bind.device {
        Some(d) => format!("it is not the character device {}:{}", major(d), minor(d)),
        None => "it was replaced while the root was made".to_owned(),
    };
    let other = || io::Error::new(io::ErrorKind::InvalidData, other());
    doing(same.then_some(()).ok_or_else(other), || format!("expose {from}"))?;
    doing(sys::mount::set_attributes(tree.as_fd(), c"", bind.attributes, true), || {
        format!("make {from} read-only")
    })?;
    doing(move_mount(&tree, "", CWD, &bind.to, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH), || {
        format!("mount {from}")
    })
}

/// Paths of procfs that show or control the host, split by the way they are closed. [`ProcMasks::probe`] looks once
/// which of them the running kernel has: a missing path needs no mask.
#[derive(Debug, Default)]
pub struct ProcMasks {
    /// Files covered by /dev/null.
    pub files: Vec<CString>,
    /// Directories covered by an empty tmpfs.
    pub directories: Vec<CString>,
    /// Files and directories bound read-only.
    pub read_only: Vec<CString>,
}

/// The paths that container runtimes mask by custom (moby's default masked paths), the kernel's symbols and its
/// configuration. A file that only the host's root may read by its mode needs no mask: no job has that uid.
const MASKED: &[&str] = &[
    "acpi",
    "asound",
    "config.gz",
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
const READ_ONLY: &[&str] = &["bus", "fs", "irq", "sys", "sysrq-trigger"];

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
