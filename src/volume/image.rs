//! A volume on disk: an ext4 in a sparse file, behind a loop device.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crossbeam_channel::tick;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, chmodat, chownat, unlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use super::error::VolumeError;
use super::usage::Usage;
use super::{check, superblock};
use crate::job::VolumeName;
use crate::job::volume::OWNER;
use crate::sys::ext4;
use crate::sys::loop_device::{LoopDevice, attach};

/// Where the program that makes an ext4 is: the daemon's PATH may be empty.
const FORMATTERS: [&str; 3] = ["/usr/sbin/mke2fs", "/sbin/mke2fs", "/usr/bin/mke2fs"];

/// How long the last mount of an image may take to go, and how often that is looked at.
const GOING: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);
/// Bytes of a block of our file systems.
const BLOCK: u64 = 4096;

/// The program that makes an ext4, if this host has it (package e2fsprogs).
pub fn has_formatter() -> Option<&'static Path> {
    FORMATTERS.into_iter().map(Path::new).find(|path| path.exists())
}

/// An image whose file system is mounted.
#[derive(Debug)]
pub(super) struct Image {
    device: LoopDevice,
    file: File,
    // As long as it is open the file system is mounted, so the device stays the image's.
    mount: OwnedFd,
}

impl Image {
    /// Mounts the image of a volume. The kernel replays the journal where the host has lost its power; before that, the image is
    /// checked where its superblock asks for it. One that is smaller than `bytes` grows to that: an earlier daemon has not
    /// come to it.
    pub(super) fn open(name: &VolumeName, path: &Path, bytes: u64) -> Result<Image, VolumeError> {
        let flags = libc::O_NOFOLLOW;
        let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
        let file = opened.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => VolumeError::Missing { name: name.clone(), path: path.to_owned() },
            _ => VolumeError::Mount { name: name.clone(), doing: "open its image", source },
        })?;
        lock(name, &file)?;
        check::check_if_asked(name, path, &file)?;
        // A check had it for itself.
        lock(name, &file)?;
        let image = Image::of(name, file)?;
        match image.grow(name, bytes) {
            Err(why) if why.wants_capability() => {
                drop(image);
                Image::grow_unmounted(name, path, bytes)?;
                Image::open(name, path, 0)
            }
            grown => grown.map(|()| image),
        }
    }

    /// Grows an image that nobody has mounted any more, as a daemon without CAP_SYS_RESOURCE has to. The last mount may be going
    /// just now: that is waited for.
    pub(super) fn grow_unmounted(name: &VolumeName, path: &Path, bytes: u64) -> Result<(), VolumeError> {
        let failed = |doing| move |source| VolumeError::Resize { name: name.clone(), doing, source };
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path);
        let file = file.map_err(failed("open the image"))?;
        // The loop device has the shared lock as long as it has the file. A lock that is waited for in the kernel would come at
        // some later time, and keep a job from its volume then.
        let looks = tick(LOOK).into_iter().take((GOING.as_millis() / LOOK.as_millis()) as usize);
        if !std::iter::once(()).chain(looks.map(drop)).any(|()| file.try_lock().is_ok()) {
            return Err(VolumeError::GrowsUnmounted(name.clone()));
        }
        if file.metadata().map_err(failed("look at the image"))?.len() < bytes {
            file.set_len(bytes).map_err(failed("set the size of the image"))?;
        }
        check::grow_unmounted(name, path, &file)
    }

    fn of(name: &VolumeName, file: File) -> Result<Image, VolumeError> {
        let refused = |(doing, source)| VolumeError::Mount { name: name.clone(), doing, source };
        let device = attach(&file).map_err(refused)?;
        let mount = mount(&device.path).map_err(|why| refused(("mount its file system", why)))?;
        let image = Image { device, file, mount };
        image.give_found().map_err(|why| refused(("give away its lost+found", why)))?;
        Ok(image)
    }

    /// Removes `lost+found`, which belongs to nobody that a job knows; where a check has put files into it, gives it to the owner of all
    /// files.
    fn give_found(&self) -> io::Result<()> {
        const FOUND: &str = "lost+found";
        let owner = (Some(Uid::from_raw(OWNER)), Some(Gid::from_raw(OWNER)));
        match unlinkat(self.mount.as_fd(), FOUND, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY) => {
                chownat(self.mount.as_fd(), FOUND, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
                Ok(())
            }
            // There is none, a job has made a file of this name, or nothing can be written any more.
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::ROFS) => Ok(()),
            Err(why) => Err(why.into()),
        }
    }

    /// Makes the file system so many bytes large, while it is mounted; one that is as large stays as it is. Each step can be taken
    /// again: where it is cut short, the next call goes on.
    pub(super) fn grow(&self, name: &VolumeName, bytes: u64) -> Result<(), VolumeError> {
        let failed = |doing| move |source| VolumeError::Resize { name: name.clone(), doing, source };
        let length = self.file.metadata().map_err(failed("look at the image"))?.len();
        if length < bytes {
            self.file.set_len(bytes).map_err(failed("set the size of the image"))?;
        }
        // The file's own sectors may be older than those of the device, which has the superblock in its cache.
        let found = superblock::read(self.device.blocks()).map_err(failed("read the superblock"))?;
        if found.bytes >= bytes {
            return Ok(());
        }
        self.device.take_size().map_err(failed("set the size of the loop device"))?;
        let root = self.root().map_err(failed("open the file system"))?;
        ext4::grow(root.as_fd(), bytes / BLOCK).map_err(failed("grow the file system"))?;
        rustix::fs::syncfs(&root).map_err(|why| failed("write the file system")(why.into()))?;
        self.file.sync_all().map_err(failed("write the image"))
    }

    /// Its root directory, open.
    fn root(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(self.mount.as_fd(), ".", flags, Mode::empty())?)
    }

    /// The room that its files take.
    pub(super) fn usage(&self) -> io::Result<Usage> {
        Usage::of_mount(self.mount.as_fd())
    }

    /// One more detached mount of the file system.
    pub(super) fn mount(&self, name: &VolumeName) -> Result<OwnedFd, VolumeError> {
        let doing = "mount its file system once more";
        mount(&self.device.path).map_err(|source| VolumeError::Mount { name: name.clone(), doing, source })
    }

    /// Makes an image of so many bytes at `path`, which must not exist, with an empty file system that belongs to `owner`.
    pub(super) fn make(name: &VolumeName, path: &Path, bytes: u64, owner: u32) -> Result<Image, VolumeError> {
        let failed = |doing| move |source| VolumeError::Image { doing, path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(path).map_err(failed("make the image"))?;
        file.set_len(bytes).map_err(failed("set the size of the image"))?;
        format(path)?;
        if !superblock::read(&file).map_err(failed("read the image"))?.has_journal {
            return Err(VolumeError::Format("it made none with a journal".to_owned()));
        }
        lock(name, &file)?;
        let image = Image::of(name, file)?;
        let root = image.mount.as_fd();
        let give_away = || -> io::Result<()> {
            chownat(root, ".", Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)), AtFlags::empty())?;
            chmodat(root, ".", Mode::from_raw_mode(0o755), AtFlags::empty())?;
            Ok(rustix::fs::syncfs(image.root()?)?)
        };
        give_away().map_err(failed("give away the file system in"))?;
        image.file.sync_all().map_err(failed("write the image"))?;
        Ok(image)
    }
}

/// Makes an ext4 without blocks for root alone. Blocks of 4096 bytes, also in a small image: direct I/O needs the block size of
/// the disk below, which is never larger.
fn format(path: &Path) -> Result<(), VolumeError> {
    let program = has_formatter()
        .ok_or_else(|| VolumeError::Format("it is not installed (package e2fsprogs)".to_owned()))?;
    let mut command = Command::new(program);
    command.args(["-q", "-F", "-t", "ext4", "-O", "has_journal", "-b", "4096", "-m", "0"]).arg(path);
    let out = command.env_clear().stdin(Stdio::null()).output();
    let out = out.map_err(|why| VolumeError::Format(why.to_string()))?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr).trim().lines().last().unwrap_or_default().to_owned();
    Err(VolumeError::Format(if said.is_empty() { out.status.to_string() } else { said }))
}

/// Takes the shared lock of an image (`check.rs`).
fn lock(name: &VolumeName, file: &File) -> Result<(), VolumeError> {
    let doing = "lock its image";
    file.try_lock_shared().map_err(|why| match why {
        TryLockError::WouldBlock => VolumeError::BeingChecked(name.clone()),
        TryLockError::Error(source) => VolumeError::Mount { name: name.clone(), doing, source },
    })
}

/// A detached mount of the ext4 on a device. A device that is mounted already gets one more mount of the same file system.
/// Blocks of deleted files go back to the host (discard); after an error nothing is written any more.
fn mount(device: &Path) -> io::Result<OwnedFd> {
    let fs = fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(fs.as_fd(), "source", device)?;
    fsconfig_set_flag(fs.as_fd(), "discard")?;
    fsconfig_set_string(fs.as_fd(), "errors", "remount-ro")?;
    fsconfig_create(fs.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// The room that the files of an image take that may not be mounted; `None`: its superblock cannot tell.
pub(super) fn usage_unmounted(path: &Path) -> Option<Usage> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path).ok()?;
    Usage::of_superblock(&superblock::read(&file).ok()?)
}

/// Bytes that the file system of a directory has free.
pub(super) fn free_bytes(dir: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(dir)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Bytes that the host's memory has free or can free (proc_meminfo(5)).
pub(super) fn free_memory() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
