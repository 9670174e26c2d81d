//! Checks of an image that nobody has mounted, by `e2fsck -p`: it repairs what needs no decision.
//!
//! Daemon and check keep off each other by a lock (flock(2)) on the image. The daemon's is a shared one, on the open file that the
//! loop device has too: so it lasts as long as the device does, also when the daemon is gone and a job still has the volume.
//! A check has an exclusive one, which lasts as long as the program that checks.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::error::VolumeError;
use super::superblock;
use crate::job::VolumeName;
use crate::sys::loop_device;

/// Where programs of e2fsprogs are: the daemon's PATH may be empty.
const PLACES: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/bin"];
/// Bits of its exit code (e2fsck(8)): errors were corrected, also such that need a reboot where it is mounted.
const CORRECTED: i32 = 1 | 2;
/// Errors are left.
const LEFT: i32 = 4;
/// It could not work at all, mostly because of the superblock.
const UNUSABLE: i32 = 8;

/// Bytes of a block of our images.
const BLOCK: u64 = 4096;
/// The block with the first copy of the superblock: the first one of the second group, of which a block's bits count the blocks.
const COPY: u64 = 8 * BLOCK;

/// The outcome of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// Nothing was wrong.
    Clean,
    /// Something was wrong, and is repaired.
    Repaired,
    /// Damage is left that needs a decision; the last line of `e2fsck`.
    Damaged(String),
}

/// The images of a directory, by the names of their volumes, sorted.
///
/// # Errors
/// The directory cannot be read.
pub fn images(dir: &Path) -> io::Result<Vec<VolumeName>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(".img")).map(str::parse);
        found.extend(name.and_then(Result::ok));
    }
    found.sort();
    Ok(found)
}

/// Checks the image of a volume in this directory, all of it, and repairs what needs no decision.
///
/// # Errors
/// There is none, it is in use, or `e2fsck` cannot be run.
pub fn check(dir: &Path, name: &VolumeName) -> Result<Checked, VolumeError> {
    let path = dir.join(format!("{name}.img"));
    let failed = |why: io::Error| VolumeError::Check { name: name.clone(), why: why.to_string() };
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(&path);
    let file = opened.map_err(|why| match why.kind() {
        io::ErrorKind::NotFound if dir.join(format!("{name}.dir")).is_dir() => {
            VolumeError::NoImage(name.clone())
        }
        io::ErrorKind::NotFound => VolumeError::Missing { name: name.clone(), path: path.clone() },
        _ => failed(why),
    })?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Err(VolumeError::Busy),
        Err(TryLockError::Error(why)) => return Err(failed(why)),
        Ok(()) => {}
    }
    // Somebody may have given it a device by hand.
    if loop_device::find(&file).map_err(failed)?.is_some() {
        return Err(VolumeError::Busy);
    }
    let checked = run(name, &path, &file, true)?;
    file.sync_all().map_err(failed)?;
    Ok(checked)
}

/// Before an image is mounted: checks it if its superblock asks for that. `file` has the shared lock, and behind a check the
/// exclusive one.
pub(super) fn check_if_asked(name: &VolumeName, path: &Path, file: &File) -> Result<(), VolumeError> {
    let asks = superblock::read(file).is_ok_and(|superblock| superblock.asks_for_check);
    // One that is mounted by a job of an earlier daemon cannot be checked.
    let failed =
        |source| VolumeError::Mount { name: name.clone(), doing: "look for its loop device", source };
    if !asks || loop_device::find(file).map_err(failed)?.is_some() {
        return Ok(());
    }
    file.try_lock().map_err(|why| match why {
        TryLockError::WouldBlock => VolumeError::BeingChecked(name.clone()),
        TryLockError::Error(source) => {
            VolumeError::Mount { name: name.clone(), doing: "lock its image", source }
        }
    })?;
    match run(name, path, file, false)? {
        Checked::Damaged(said) => Err(VolumeError::Damaged { name: name.clone(), said }),
        Checked::Clean | Checked::Repaired => Ok(()),
    }
}

/// Runs `e2fsck -p`; `all` has it look also where the superblock says that nothing is wrong.
fn run(name: &VolumeName, path: &Path, file: &File, all: bool) -> Result<Checked, VolumeError> {
    let failed = |why: String| VolumeError::Check { name: name.clone(), why };
    let check = |copy: Option<u64>| {
        let copy = copy.map(|block| ["-b".to_owned(), block.to_string(), "-B".to_owned(), BLOCK.to_string()]);
        let mut command = program("e2fsck", file).map_err(failed)?;
        command.arg("-p").args(all.then_some("-f")).args(copy.into_iter().flatten()).arg(path);
        output(command, path).map_err(failed)
    };
    let mut outcome = check(None)?;
    // Where the superblock is damaged its first copy may be whole; e2fsck asks before it takes that by itself.
    if outcome.0 == UNUSABLE && file.metadata().is_ok_and(|meta| meta.len() > COPY * BLOCK) {
        outcome = check(Some(COPY))?;
    }
    let (code, lines) = outcome;
    let said = lines.last().cloned().unwrap_or_default();
    if code == 0 {
        return Ok(Checked::Clean);
    }
    if code & !CORRECTED == 0 {
        // Our images have no lost+found, which each check makes; the line behind all others only counts.
        let is_only_that = lines.len() == 2 && lines[0].contains("lost+found not found");
        return Ok(if is_only_that { Checked::Clean } else { Checked::Repaired });
    }
    if code & LEFT != 0 || code == UNUSABLE {
        return Ok(Checked::Damaged(said));
    }
    Err(failed(format!("e2fsck ended with {code}: {said}")))
}

/// Makes the file system of an image that nobody has mounted as large as the image. The caller has the exclusive lock.
pub(super) fn grow_unmounted(name: &VolumeName, path: &Path, file: &File) -> Result<(), VolumeError> {
    // resize2fs wants a file system that was checked just now.
    if let Checked::Damaged(said) = run(name, path, file, true)? {
        return Err(VolumeError::Damaged { name: name.clone(), said });
    }
    let failed = |why: String| VolumeError::Check { name: name.clone(), why };
    let mut command = program("resize2fs", file).map_err(failed)?;
    command.arg(path);
    match output(command, path).map_err(failed)? {
        (0, _) => file.sync_all().map_err(|why| failed(why.to_string())),
        (code, lines) => Err(failed(format!("resize2fs ended with {code}: {}", lines.join(" ")))),
    }
}

/// A program of e2fsprogs, with nothing of the daemon's environment, for an image with a lock. It outlives a daemon that is
/// killed, and nobody may mount meanwhile what it changes: it has the open file with the lock as its input, from which it
/// reads nothing.
fn program(name: &str, image: &File) -> Result<Command, String> {
    let found = PLACES.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists());
    let mut command =
        Command::new(found.ok_or_else(|| format!("{name} is not installed (package e2fsprogs)"))?);
    command.env_clear().stdin(Stdio::from(image.try_clone().map_err(|why| why.to_string())?));
    Ok(command)
}

/// Runs a program, and returns its exit code and its lines, without its own name and that of the image.
fn output(mut command: Command, path: &Path) -> Result<(i32, Vec<String>), String> {
    let out = command.output().map_err(|why| why.to_string())?;
    let text = [out.stdout, out.stderr].concat();
    let prefixes = [Path::new(command.get_program()), path].map(|path| format!("{}: ", path.display()));
    let without = |line: &str| {
        prefixes.iter().fold(line.trim(), |line, prefix| line.strip_prefix(prefix).unwrap_or(line)).to_owned()
    };
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().map(without).filter(|line| !line.is_empty()).collect();
    let code = out.status.code().ok_or_else(|| format!("it ended with {}", out.status))?;
    Ok((code, lines))
}
