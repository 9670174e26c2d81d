//! Loop devices (loop(4)): a block device whose blocks are those of a file. `LOOP_CONFIGURE` (Linux 5.8) sets all of one
//! up in one call, so that no other program ever sees a half of it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use super::raw::{errno, syscall};

/// Requests of linux/loop.h.
const LOOP_GET_STATUS64: usize = 0x4c05;
const LOOP_SET_CAPACITY: usize = 0x4c07;
const LOOP_CONFIGURE: usize = 0x4c0a;
const LOOP_CTL_GET_FREE: usize = 0x4c82;
/// The device goes with its last user.
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// No second copy in the page cache. The kernel leaves it out where the file cannot.
const LO_FLAGS_DIRECT_IO: u32 = 16;
/// How often a free device is looked for: another program may take it first.
const TRIES: usize = 64;

/// The kernel's `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl LoopInfo {
    const EMPTY: LoopInfo = LoopInfo {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
}

/// The kernel's `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    file: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// A loop device, open. While it is, the kernel does not take it from its file.
#[derive(Debug)]
pub struct LoopDevice {
    open: File,
    /// Its path, such as `/dev/loop3`.
    pub path: PathBuf,
}

impl LoopDevice {
    /// The device, whose blocks are read as a file system that is mounted from it has them.
    pub fn blocks(&self) -> &File {
        &self.open
    }

    /// Gives the device the size that its file has now.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn take_size(&self) -> io::Result<()> {
        let args = [self.open.as_raw_fd() as usize, LOOP_SET_CAPACITY, 0, 0, 0, 0];
        // SAFETY: the request takes no pointer; the descriptor is open.
        let result = unsafe { syscall(libc::SYS_ioctl, args) };
        errno(result).map(drop).map_err(io::Error::from_raw_os_error)
    }
}

/// The device of a file: the one that it has already, whoever made that, or a new one that goes with its last user. Two
/// devices of one file would be two file systems that write over each other; the caller sees to it that this is not called
/// twice at a time for one file.
///
/// # Errors
/// The step that the kernel refused, in words, and its answer.
pub fn attach(file: &File) -> Result<LoopDevice, (&'static str, io::Error)> {
    if let Some(found) = find(file).map_err(|why| ("look for the loop device that it has", why))? {
        return Ok(found);
    }
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control");
    let control = control.map_err(|why| ("open /dev/loop-control (modprobe loop loads it)", why))?;
    for _ in 0..TRIES {
        let number = free(&control).map_err(|why| ("get a free loop device", why))?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        let device = opened.map_err(|why| ("open a loop device", why))?;
        match configure(&device, file) {
            Ok(()) => return Ok(LoopDevice { open: device, path }),
            // Somebody else was faster.
            Err(why) if why.raw_os_error() == Some(libc::EBUSY) => {}
            Err(why) => return Err(("set a loop device up", why)),
        }
    }
    Err(("get a free loop device", io::ErrorKind::ResourceBusy.into()))
}

/// The device that has this file, if there is one.
///
/// # Errors
/// The devices, or the file, cannot be looked at.
pub fn find(file: &File) -> io::Result<Option<LoopDevice>> {
    let meta = file.metadata()?;
    for entry in fs::read_dir("/sys/block")? {
        let entry = entry?;
        let name = entry.file_name();
        let is_loop = name.to_str().is_some_and(|name| name.starts_with("loop"));
        // Only a device with a file has this directory.
        if !is_loop || !entry.path().join("loop").exists() {
            continue;
        }
        let path = PathBuf::from("/dev").join(name);
        let Ok(device) = OpenOptions::new().read(true).write(true).open(&path) else { continue };
        if !device.metadata()?.file_type().is_block_device() {
            continue;
        }
        let Ok(info) = status(&device) else { continue };
        if (info.device, info.inode) == (encoded(meta.dev()), meta.ino()) {
            return Ok(Some(LoopDevice { open: device, path }));
        }
    }
    Ok(None)
}

/// The number of a device as `huge_encode_dev` of the kernel writes it, which is not libc's way.
fn encoded(device: u64) -> u64 {
    let (major, minor) = (u64::from(libc::major(device)), u64::from(libc::minor(device)));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

fn free(control: &File) -> io::Result<usize> {
    // SAFETY: the request takes no pointer; it answers with a number.
    let result =
        unsafe { syscall(libc::SYS_ioctl, [control.as_raw_fd() as usize, LOOP_CTL_GET_FREE, 0, 0, 0, 0]) };
    errno(result).map_err(io::Error::from_raw_os_error)
}

fn configure(device: &File, file: &File) -> io::Result<()> {
    let info = LoopInfo { flags: LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO, ..LoopInfo::EMPTY };
    let config = LoopConfig { file: file.as_raw_fd().cast_unsigned(), block_size: 0, info, reserved: [0; 8] };
    let args = [device.as_raw_fd() as usize, LOOP_CONFIGURE, &raw const config as usize, 0, 0, 0];
    // SAFETY: the request reads one `struct loop_config`, which lives until the call returns; both descriptors are open.
    let result = unsafe { syscall(libc::SYS_ioctl, args) };
    errno(result).map(drop).map_err(io::Error::from_raw_os_error)
}

fn status(device: &File) -> io::Result<LoopInfo> {
    let mut info = LoopInfo::EMPTY;
    let args = [device.as_raw_fd() as usize, LOOP_GET_STATUS64, &raw mut info as usize, 0, 0, 0];
    // SAFETY: the request fills one `struct loop_info64`, which lives until the call returns.
    let result = unsafe { syscall(libc::SYS_ioctl, args) };
    errno(result).map_err(io::Error::from_raw_os_error)?;
    Ok(info)
}

/// Whether this process may have loop devices: the control device can be opened.
///
/// # Errors
/// Why not.
pub fn probe() -> io::Result<()> {
    OpenOptions::new().read(true).write(true).open("/dev/loop-control").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loop_structures_have_the_kernels_sizes() {
        assert_eq!((size_of::<LoopInfo>(), size_of::<LoopConfig>()), (232, 304));
        assert_eq!(encoded(libc::makedev(7, 3)), 0x703);
        assert_eq!(encoded(libc::makedev(259, 0x123)), 0x10_0000 | 259 << 8 | 0x23);
    }

    #[test]
    fn file_has_one_device_which_goes_with_its_last_user() {
        if !rustix::process::geteuid().is_root() || probe().is_err() {
            return;
        }
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let Ok(first) = attach(&file) else { return };
        let second = attach(&file).unwrap();
        assert_eq!(first.path, second.path);
        drop((first, second));
        assert!(find(&file).unwrap().is_none());
    }
}
