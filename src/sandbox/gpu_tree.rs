//! The files that jobs with GPUs see beside others: a /dev with the nodes of their GPUs, and the files of the host's driver.
//!
//! ```text
//! /extra/host/N          directories of the host that have such files
//! /extra/driver/joblet   the tree that jobs see at /run/joblet/gpu: lib, bin, and the place of cuda
//! /extra/sets/N/dev      the /dev of jobs with one set of nodes
//! /extra/sets/N/files    the overlay of these and /extra/driver; jobs see its directory `joblet`
//! /extra/sets/N/cuda     an overlay of the directory of CUDA
//! ```
//!
//! This is a mount namespace of its own, a copy of the template's. Making the mounts of a set takes as long as half a start of a
//! job, so they are made once and each job gets copies. Only one job at a time has a set, for a GPU belongs to one job: no two
//! jobs can watch or lock the same inodes there.
//!
//! **Files by name.** The tree has an entry for each file of the driver, and nothing in it: a file of the right length whose
//! attributes lead overlayfs to the one on the host (Documentation/filesystems/overlayfs, "Metadata only copy up"). So a job sees
//! the driver's libraries and not what else stands in their directories, which would be another C library than that
//! of its root.

use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, XattrFlags, makedev, mknodat, openat, setxattr, statx,
};
use rustix::mount::{MountFlags, OpenTreeFlags, UnmountFlags, mount, open_tree, unmount};

use super::error::SandboxError;
use super::parts::doing;
use super::rootfs::{DEVICES, LINKS, Template, on_a_thread};
use super::runtime_root::{copy_namespace, detached, put};
use crate::job::{DeviceNode, DriverFiles, DriverParts};
use crate::sys;

/// Where a job with GPUs finds the files of the driver: `lib`, `bin` and `cuda`.
pub const PLACE: &str = "/run/joblet/gpu";
/// Most sets whose mounts are kept; beyond them the one goes that was used first.
const MOST_SETS: usize = 64;
/// Most directories of the host that the files may be in.
const MOST_LAYERS: usize = 32;
/// The directory of the tree that jobs see.
const OWN: &str = "joblet";
/// The name of the vendor's program in a job.
const PROGRAM: &str = "nvidia-smi";
/// The attribute of a file that a mount of its own covers (statx(2)).
const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;

/// The namespace with all of it.
#[derive(Debug)]
pub struct GpuTree {
    namespace: OwnedFd,
    /// Options of the overlay of the driver's files; `None`: there are none.
    files: Option<CString>,
    cuda: Option<CString>,
    parts: DriverParts,
    sets: Mutex<Vec<Set>>,
}

/// The mounts of one set of nodes.
#[derive(Debug)]
struct Set {
    nodes: Vec<DeviceNode>,
    /// The number of its directory.
    number: usize,
}

/// Copies of the mounts of a set, for one job.
#[derive(Debug)]
pub(super) struct Copies {
    /// The /dev of the job, with its nodes.
    pub(super) dev: OwnedFd,
    /// The files of the driver.
    pub(super) files: Option<OwnedFd>,
    /// The directory of CUDA, which has its place among the files.
    pub(super) cuda: Option<OwnedFd>,
}

impl GpuTree {
    /// Builds the namespace from that of the host's template, with sentences about files that jobs do not see.
    ///
    /// # Errors
    /// The step that failed. Files that overlayfs refuses are only noted.
    pub(super) fn build(
        host: &Template,
        files: &DriverFiles,
    ) -> Result<(GpuTree, Vec<String>), SandboxError> {
        on_a_thread(|| build(host, files))
    }

    /// Its namespace, in which a thread must be for [`GpuTree::copy`].
    pub(super) fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// The files of the driver that jobs see.
    pub(super) fn parts(&self) -> DriverParts {
        self.parts
    }

    /// Copies of the mounts for a job with these nodes, which are made if no job had these yet.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn copy(&self, nodes: &[DeviceNode]) -> Result<Copies, SandboxError> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let number = match sets.iter().position(|set| set.nodes == nodes) {
            Some(at) => sets[at].number,
            None => {
                let number = if sets.len() < MOST_SETS { sets.len() } else { sets.remove(0).number };
                clear(number);
                if let Err(why) = self.make(number, nodes) {
                    clear(number);
                    // The number stays in use: of nodes that no job has.
                    sets.push(Set { nodes: Vec::new(), number });
                    return Err(why);
                }
                sets.push(Set { nodes: nodes.to_vec(), number });
                number
            }
        };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let copy = |below: &str| {
            let path = place(number).join(below);
            doing(open_tree(CWD, &path, flags), || format!("copy {}", path.display()))
        };
        let files = self.files.as_ref().map(|_| copy(&format!("files/{OWN}"))).transpose()?;
        Ok(Copies { dev: copy("dev")?, files, cuda: self.cuda.as_ref().map(|_| copy("cuda")).transpose()? })
    }

    fn make(&self, number: usize, nodes: &[DeviceNode]) -> Result<(), SandboxError> {
        let at = place(number);
        for dir in ["dev", "files", "cuda"] {
            doing(fs::create_dir_all(at.join(dir)), || format!("make {}", at.join(dir).display()))?;
        }
        devices(&at.join("dev"), nodes)?;
        for (options, dir) in [(&self.files, "files"), (&self.cuda, "cuda")] {
            if let Some(options) = options {
                doing(overlay(&at.join(dir), options), || format!("mount {}", at.join(dir).display()))?;
            }
        }
        Ok(())
    }
}

fn place(number: usize) -> PathBuf {
    Path::new("/extra/sets").join(number.to_string())
}

/// Unmounts what is mounted for a set; nothing, where nothing is.
fn clear(number: usize) {
    for dir in ["cuda", "files", "dev"] {
        let _ = unmount(place(number).join(dir), UnmountFlags::DETACH);
    }
}

fn overlay(at: &Path, options: &CString) -> io::Result<()> {
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount("joblet", at, "overlay", flags, Some(options.as_c_str()))?)
}

/// A /dev with what every job has in it, and these nodes. A name may have a directory before it.
fn devices(dev: &Path, nodes: &[DeviceNode]) -> Result<(), SandboxError> {
    let usual = DEVICES.iter().map(|(name, major, minor)| ((*name).to_owned(), *major, *minor));
    let all: Vec<_> =
        usual.chain(nodes.iter().map(|node| (node.name.clone(), node.major, node.minor))).collect();
    let links: Vec<(&str, &str)> =
        LINKS.iter().filter_map(|(name, to)| Some((name.strip_prefix("dev/")?, *to))).collect();
    let inodes = 2 * all.len() + links.len() + 3;
    let options =
        doing(CString::new(format!("mode=755,size=64k,nr_inodes={inodes}")), || "name options".into())?;
    let bare = MountFlags::NOSUID | MountFlags::NOEXEC;
    doing(mount("tmpfs", dev, "tmpfs", bare, Some(options.as_c_str())), || "mount another /dev".into())?;
    let what = |name: &str| format!("make /dev/{name}");
    for name in ["pts", "shm"] {
        doing(directory(&dev.join(name)), || what(name))?;
    }
    for (name, to) in links {
        doing(symlink(to, dev.join(name)), || what(name))?;
    }
    for (name, major, minor) in all {
        let at = dev.join(&name);
        if let Some((above, _)) = name.rsplit_once('/') {
            doing(directory(&dev.join(above)), || what(&name))?;
        }
        let mode = Mode::from_raw_mode(0o666);
        let made = mknodat(CWD, &at, FileType::CharacterDevice, mode, makedev(major, minor));
        doing(made, || what(&name))?;
        // The daemon's mask takes bits away from a mode.
        doing(fs::set_permissions(&at, Permissions::from_mode(0o666)), || what(&name))?;
    }
    let path = doing(CString::new(dev.as_os_str().as_bytes()), || "name /dev".into())?;
    let closed = sys::mount::set_attributes(CWD, &path, libc::MOUNT_ATTR_RDONLY, false);
    doing(closed, || "make /dev read-only".into())
}

/// A directory that is there already is as good.
pub(super) fn directory(at: &Path) -> io::Result<()> {
    match fs::create_dir(at) {
        Ok(()) => fs::set_permissions(at, Permissions::from_mode(0o755)),
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(why) => Err(why),
    }
}

/// An entry of the tree.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// `lib` or `bin`.
    dir: &'static str,
    name: String,
    /// The name of the file in its directory on the host.
    leads_to: String,
    /// Other names in the same directory of the tree.
    links: Vec<String>,
    size: u64,
    mode: u32,
}

/// Directories of the host, and the entries for files in them.
#[derive(Debug, Default)]
struct Found {
    layers: Vec<PathBuf>,
    entries: Vec<Entry>,
    notes: Vec<String>,
}

impl Found {
    fn of(files: &DriverFiles) -> Found {
        let mut found = Found::default();
        for library in &files.libraries {
            found.note("lib", &library.file, None, &library.names);
        }
        if let Some(program) = &files.program {
            found.note("bin", program, Some(PROGRAM), &[]);
        }
        found
    }

    fn note(&mut self, dir: &'static str, file: &Path, name: Option<&str>, links: &[String]) {
        if let Err(why) = self.add(dir, file, name, links) {
            self.notes.push(format!("jobs with GPUs do not see {}: {why}", file.display()));
        }
    }

    fn add(
        &mut self,
        dir: &'static str,
        file: &Path,
        name: Option<&str>,
        links: &[String],
    ) -> Result<(), String> {
        let leads_to = file.file_name().and_then(|name| name.to_str()).ok_or("its name is no text")?;
        let above = file.parent().ok_or("it is in no directory")?;
        let seen = statx(CWD, file, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS);
        let seen = seen.map_err(|why| why.to_string())?;
        let mode = u32::from(seen.stx_mode);
        if FileType::from_raw_mode(mode) != FileType::RegularFile {
            return Err("it is no file".into());
        }
        if seen.stx_attributes.bits() & STATX_ATTR_MOUNT_ROOT != 0 {
            return Err("it is a mount of its own, and overlayfs shows what lies beneath".into());
        }
        let layer = self.layers.iter().position(|layer| layer == above).unwrap_or(self.layers.len());
        if layer == MOST_LAYERS {
            return Err(format!("the files of the driver are in more than {MOST_LAYERS} directories"));
        }
        // overlayfs takes the first directory that has a file of that name.
        if let Some(other) =
            self.layers[..layer].iter().find(|dir| dir.join(leads_to).symlink_metadata().is_ok())
        {
            return Err(format!("{} has a file of that name too", other.display()));
        }
        if layer == self.layers.len() {
            self.layers.push(above.to_owned());
        }
        let name = name.unwrap_or(leads_to).to_owned();
        let links = links.iter().filter(|link| **link != name).cloned().collect();
        let leads_to = leads_to.to_owned();
        self.entries.push(Entry { dir, name, leads_to, links, size: seen.stx_size, mode: mode & 0o555 });
        Ok(())
    }
}

fn build(host: &Template, files: &DriverFiles) -> Result<(GpuTree, Vec<String>), SandboxError> {
    let Found { layers, mut entries, mut notes } = Found::of(files);
    // Opened where they have paths; beyond, only these descriptors lead to them.
    let layers: Vec<OwnedFd> = layers.iter().map(|dir| open(dir)).collect::<Result<_, _>>()?;
    let cuda = files.cuda.as_deref().map(open).transpose()?;
    let namespace = copy_namespace(host)?;
    let (mut lowers, mut options) = (String::new(), None);
    for (number, layer) in layers.iter().enumerate() {
        lowers.push(':');
        lowers.push_str(&put(layer, true, number)?);
    }
    let text =
        |text: String| doing(CString::new(text).map_err(io::Error::other), || "name the layers".into());
    plant(&entries)?;
    if !entries.is_empty() {
        options = Some(text(format!("lowerdir=/extra/driver{lowers},metacopy=on,redirect_dir=on"))?);
    }
    let cuda = cuda.map(|dir| put(&dir, true, layers.len())).transpose()?;
    let cuda =
        cuda.map(|dir| text(format!("lowerdir=/host/empty:{dir},redirect_dir=nofollow"))).transpose()?;
    let options = tried(options, "the files of the driver", &mut notes);
    let cuda = tried(cuda, "CUDA", &mut notes);
    if options.is_none() {
        entries.clear();
    }
    let has = |dir| entries.iter().any(|entry| entry.dir == dir);
    // Its place is among the files.
    let cuda = cuda.filter(|_| options.is_some());
    let parts = DriverParts { libraries: has("lib"), program: has("bin"), cuda: cuda.is_some() };
    Ok((GpuTree { namespace, files: options, cuda, parts, sets: Mutex::default() }, notes))
}

/// A detached, read-only mount of a directory.
fn open(dir: &Path) -> Result<OwnedFd, SandboxError> {
    let what = || format!("open {}", dir.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    doing(detached(&doing(openat(CWD, dir, flags, Mode::empty()), what)?), what)
}

/// Makes the tree of the driver's files.
fn plant(entries: &[Entry]) -> Result<(), SandboxError> {
    let own = Path::new("/extra/driver").join(OWN);
    let what = |at: &Path| format!("make {}", at.display());
    for dir in ["lib", "bin", "cuda"] {
        doing(fs::create_dir_all(own.join(dir)), || what(&own))?;
    }
    // The directories of the host may have entries of these names.
    let attribute = |at: &Path, name: &str, value: &[u8]| {
        let set = setxattr(at, format!("trusted.overlay.{name}"), value, XattrFlags::empty());
        doing(set, || format!("mark {}", at.display()))
    };
    for dir in [own.clone(), own.join("lib"), own.join("bin"), own.join("cuda")] {
        attribute(&dir, "opaque", b"y")?;
    }
    for Entry { dir, name, leads_to, links, size, mode } in entries {
        let at = own.join(dir).join(name);
        doing(File::create(&at).and_then(|file| file.set_len(*size)), || what(&at))?;
        doing(fs::set_permissions(&at, Permissions::from_mode(*mode)), || what(&at))?;
        attribute(&at, "metacopy", b"")?;
        attribute(&at, "redirect", format!("/{leads_to}").as_bytes())?;
        for link in links {
            let at = own.join(dir).join(link);
            doing(symlink(name, &at), || what(&at))?;
        }
    }
    Ok(())
}

/// These options, where overlayfs takes them.
fn tried(options: Option<CString>, what: &str, notes: &mut Vec<String>) -> Option<CString> {
    let options = options?;
    let tried = overlay(Path::new("/overlay"), &options)
        .and_then(|()| Ok(unmount("/overlay", UnmountFlags::DETACH)?));
    match tried {
        Ok(()) => Some(options),
        Err(why) => {
            notes.push(format!("jobs with GPUs do not see {what}: overlayfs refuses it: {why}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::DriverLibrary;

    #[test]
    fn entries_lead_to_files_by_name_and_ambiguous_ones_are_noted() {
        let host = tempfile::tempdir().unwrap();
        let dir = |name: &str| host.path().join(name);
        for (name, file) in [("a", "libcuda.so.580"), ("a", "same"), ("b", "nv-smi"), ("b", "same")] {
            fs::create_dir_all(dir(name)).unwrap();
            fs::write(dir(name).join(file), "four").unwrap();
            fs::set_permissions(dir(name).join(file), Permissions::from_mode(0o4755)).unwrap();
        }
        let library = |path: PathBuf, names: &[&str]| DriverLibrary {
            file: path,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let files = DriverFiles {
            libraries: vec![
                library(dir("a/libcuda.so.580"), &["libcuda.so.1", "libcuda.so.580"]),
                library(dir("b/same"), &["same"]),
                library(dir("a"), &["a"]),
                library(dir("gone"), &["gone"]),
            ],
            program: Some(dir("b/nv-smi")),
            cuda: None,
        };
        let found = Found::of(&files);
        assert_eq!(found.layers, [dir("a"), dir("b")]);
        let entry = |dir, name: &str, leads_to: &str, links: &[&str]| Entry {
            dir,
            name: name.into(),
            leads_to: leads_to.into(),
            links: links.iter().map(|link| (*link).to_owned()).collect(),
            size: 4,
            mode: 0o555,
        };
        let expected = [
            entry("lib", "libcuda.so.580", "libcuda.so.580", &["libcuda.so.1"]),
            entry("bin", "nvidia-smi", "nv-smi", &[]),
        ];
        assert_eq!(found.entries, expected);
        for (note, word) in found.notes.iter().zip(["too", "no file", "gone"]) {
            assert!(note.contains(word), "{note}");
        }
        assert_eq!(found.notes.len(), 3);
    }
}
