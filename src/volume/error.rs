//! Why a volume cannot be made, found or mounted.

use std::io;
use std::path::PathBuf;

use crate::diag::disk_remedy;
use crate::job::{VolumeKind, VolumeName, units};

/// A volume that cannot be used, or not be made.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Nothing has this name.
    #[error(
        "volume \"{0}\" does not exist; make it with: rnx volume create {0} --size 1GB, or choose one of: rnx volume list"
    )]
    Unknown(VolumeName),
    /// The name is taken.
    #[error("volume \"{0}\" exists already; nothing of it was changed")]
    Exists(VolumeName),
    /// There are as many as there may be.
    #[error("there are {0} volumes already, the most that a node has; remove one")]
    Full(usize),
    /// A size out of range.
    #[error(
        "size {} is too small for type {}; it must be at least {}",
        units::format_size(*bytes), kind.as_str(), units::format_size(*least)
    )]
    TooSmall {
        /// The size that was given.
        bytes: u64,
        /// The kind of the volume.
        kind: VolumeKind,
        /// The smallest size of that kind.
        least: u64,
    },
    /// A size that the host does not have.
    #[error("size {} is more than the host has: {what} has {} free", units::format_size(*bytes), units::format_size(*free))]
    TooLarge {
        /// The size that was given.
        bytes: u64,
        /// The disk or the memory.
        what: String,
        /// Its free bytes.
        free: u64,
    },
    /// An image would become smaller.
    #[error(
        "volume \"{name}\" has {}, and one of type filesystem cannot become smaller; make a new one and copy its files with rnx cp",
        units::format_size(*bytes)
    )]
    Shrink {
        /// The name of the volume.
        name: VolumeName,
        /// The size that it has.
        bytes: u64,
    },
    /// A volume in memory would become smaller than its files.
    #[error("volume \"{name}\" cannot have {}: its files take more; remove some", units::format_size(*bytes))]
    InUse {
        /// The name of the volume.
        name: VolumeName,
        /// The size that it was to have.
        bytes: u64,
    },
    /// A step of giving it another size.
    #[error("cannot {doing} of volume \"{name}\": {source}; {}", disk_remedy(source))]
    Resize {
        /// The name of the volume.
        name: VolumeName,
        /// The step that failed.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The kernel lets the daemon grow no file system that is mounted.
    #[error(
        "volume \"{0}\" can grow only while no job has it, because the daemon lacks CAP_SYS_RESOURCE; end its jobs first"
    )]
    GrowsUnmounted(VolumeName),
    /// Somebody checks the image just now.
    #[error(
        "volume \"{0}\" cannot be mounted: its image is being checked (by joblet volume check, or for an earlier daemon); try again when that has ended"
    )]
    BeingChecked(VolumeName),
    /// The image is mounted, or the daemon has it.
    #[error("in use; end the jobs that have it and stop the daemon first")]
    Busy,
    /// `e2fsck` cannot be run.
    #[error("volume \"{name}\" cannot be checked: {why}")]
    Check {
        /// The name of the volume.
        name: VolumeName,
        /// Why not, in words.
        why: String,
    },
    /// The file system has damage that needs a decision.
    #[error(
        "volume \"{name}\" cannot be mounted: its file system is damaged ({said}); run: joblet volume check {name}"
    )]
    Damaged {
        /// The name of the volume.
        name: VolumeName,
        /// The last line of `e2fsck`.
        said: String,
    },
    /// An image lies there that no volume has.
    #[error("{} lies in its way, which no volume has; move it away", .0.display())]
    InTheWay(PathBuf),
    /// `mke2fs` is missing, or failed.
    #[error("mke2fs cannot make its file system: {0}")]
    Format(String),
    /// A step of making an image.
    #[error("cannot {doing} {}: {source}; {}", path.display(), disk_remedy(source))]
    Image {
        /// The step that failed.
        doing: &'static str,
        /// The image, or its directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A step of making a directory with a quota.
    #[error("cannot {doing} {}: {source}; {}", path.display(), disk_remedy(source))]
    Directory {
        /// The step that failed.
        doing: &'static str,
        /// The directory of the volume.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The size of a volume would not hold.
    #[error(
        "volume \"{name}\" cannot be mounted: its size would not hold, because the file system of dataDir does not \
         keep its project quota: {why}; mount that with the option prjquota, as it was when the volume was made"
    )]
    Unbound {
        /// The name of the volume.
        name: VolumeName,
        /// The reason, in words.
        why: String,
    },
    /// `volumes.backend: quota` without project quotas.
    #[error(
        "volumes.backend: quota cannot be used: {} {why}; mount its file system with the option prjquota (an ext4 \
         needs tune2fs -O quota,project before), or choose volumes.backend: image", path.display()
    )]
    NoQuota {
        /// The directory of volumes.
        path: PathBuf,
        /// The finding of the probe.
        why: String,
    },
    /// There is nothing that `e2fsck` could check.
    #[error(
        "volume \"{0}\" has no image: it is a directory with a quota, and is checked with the file system of dataDir \
         (fsck, xfs_repair)"
    )]
    NoImage(VolumeName),
    /// The image or the directory of a volume is not there.
    #[error("volume \"{name}\" cannot be mounted: {} is missing", path.display())]
    Missing {
        /// The name of the volume.
        name: VolumeName,
        /// The path of it.
        path: PathBuf,
    },
    /// A step of mounting.
    #[error("volume \"{name}\" cannot be mounted: cannot {doing}: {source}{}", mount_remedy(name, source))]
    Mount {
        /// The name of the volume.
        name: VolumeName,
        /// The step that failed.
        doing: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel cannot map ids in this file system.
    #[error("volume \"{name}\" cannot be mounted: cannot map the ids of its files: {source}{}", map_remedy(*kind))]
    MapIds {
        /// The name of the volume.
        name: VolumeName,
        /// The kind of the volume.
        kind: VolumeKind,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl VolumeError {
    /// Whether the file system could not grow while it is mounted, for want of a capability.
    pub(super) fn wants_capability(&self) -> bool {
        matches!(self, VolumeError::Resize { source, .. } if source.raw_os_error() == Some(libc::EPERM))
    }
}

/// The advice where a mount is refused.
fn mount_remedy(name: &VolumeName, why: &io::Error) -> String {
    match why.raw_os_error() {
        Some(libc::EUCLEAN | libc::EINVAL | libc::EIO) => {
            format!("; its file system is damaged: stop the daemon and run: joblet volume check {name}")
        }
        Some(libc::EBUSY) => format!(
            "; its file system is read-only since an error: end the jobs that have it, stop the daemon and run: joblet volume check {name}"
        ),
        _ => String::new(),
    }
}

fn map_remedy(kind: VolumeKind) -> &'static str {
    match kind {
        VolumeKind::Filesystem => "",
        VolumeKind::Memory => "; tmpfs can since Linux 6.3: use type filesystem",
    }
}
