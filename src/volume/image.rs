//! A volume on disk: an ext4 in a sparse file, behind a loop device.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{AtFlags, Gid, Mode, Uid, chmodat, chownat, unlinkat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use super::error::VolumeError;
use crate::job::VolumeName;
use crate::sys::loop_device::{LoopDevice, attach};

/// Where the program that makes an ext4 is: the daemon's PATH may be empty.
const FORMATTERS: [&str; 3] = ["/usr/sbin/mke2fs", "/sbin/mke2fs", "/usr/bin/mke2fs"];

/// The program that makes an ext4, if this host has it (package e2fsprogs).
pub fn has_formatter() -> Option<&'static Path> {
    FORMATTERS.into_iter().map(Path::new).find(|path| path.exists())
}

/// An image whose file system is mounted.
#[derive(Debug)]
pub(super) struct Image {
    device: PathBuf,
    // As long as it is open the file system is mounted, so the device stays the image's.
    _mount: OwnedFd,
}

impl Image {
    /// Mounts the image of a volume. The kernel replays the journal where the host has lost its power.
    pub(super) fn open(name: &VolumeName, path: &Path) -> Result<Image, VolumeError> {
        let flags = libc::O_NOFOLLOW;
        let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
        let file = opened.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => VolumeError::Missing { name: name.clone(), path: path.to_owned() },
            _ => VolumeError::Mount { name: name.clone(), doing: "open its image", source },
        })?;
        Image::of(name, &file)
    }

    fn of(name: &VolumeName, file: &File) -> Result<Image, VolumeError> {
        let refused = |(doing, source)| VolumeError::Mount { name: name.clone(), doing, source };
        let device: LoopDevice = attach(file).map_err(refused)?;
        let mount = mount(&device.path).map_err(|why| refused(("mount its file system", why)))?;
        Ok(Image { device: device.path.clone(), _mount: mount })
    }

    /// One more detached mount of the file system.
    pub(super) fn mount(&self, name: &VolumeName) -> Result<OwnedFd, VolumeError> {
        let doing = "mount its file system once more";
        mount(&self.device).map_err(|source| VolumeError::Mount { name: name.clone(), doing, source })
    }

    /// Makes an image of so many bytes at `path`, which must not exist, with an empty file system that belongs to `owner`.
    pub(super) fn make(name: &VolumeName, path: &Path, bytes: u64, owner: u32) -> Result<Image, VolumeError> {
        let failed = |doing| move |source| VolumeError::Image { doing, path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(path).map_err(failed("make the image"))?;
        file.set_len(bytes).map_err(failed("set the size of the image"))?;
        format(path)?;
        if !has_journal(&file).map_err(failed("read the image"))? {
            return Err(VolumeError::Format("it made none with a journal".to_owned()));
        }
        let image = Image::of(name, &file)?;
        let root = image._mount.as_fd();
        let give_away = || -> io::Result<()> {
            // Jobs would find a directory of another owner, which they can neither read nor remove; e2fsck makes it again
            // when it needs it.
            unlinkat(root, "lost+found", AtFlags::REMOVEDIR)?;
            chownat(root, ".", Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)), AtFlags::empty())?;
            chmodat(root, ".", Mode::from_raw_mode(0o755), AtFlags::empty())?;
            rustix::fs::syncfs(File::from(rustix::fs::openat(
                root,
                ".",
                rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
                Mode::empty(),
            )?))?;
            Ok(())
        };
        give_away().map_err(failed("give away the file system in"))?;
        file.sync_all().map_err(failed("write the image"))?;
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

/// Whether an ext4 has a journal: `s_feature_compat` of its superblock, at 1024 + 0x5c (Documentation/filesystems/ext4).
fn has_journal(image: &File) -> io::Result<bool> {
    let mut features = [0; 4];
    image.read_exact_at(&mut features, 1024 + 0x5c)?;
    Ok(u32::from_le_bytes(features) & 4 != 0)
}

/// A detached mount of the ext4 on a device. Of a device that is mounted already it is one more of the same file system.
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
