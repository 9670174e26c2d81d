//! Files that do not answer: a file system of the test itself (fuse(4)), whose reads wait until the test drops it. To a job
//! they are what files on a frozen disk are, but that a process can be killed while it waits.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

/// The mounted file system; its reads fail when it is dropped.
pub struct SlowFiles {
    place: tempfile::TempDir,
    next: AtomicU64,
}

/// The size of a file.
const SIZE: u64 = 1 << 20;
/// The node of the directory. A file's name is the number of its node.
const ROOT: u64 = 1;
const DIRECTORY: u32 = 0o040_555;
const REGULAR: u32 = 0o100_444;

impl SlowFiles {
    /// Mounts it where no job has a directory of its own; `None` where the kernel has no FUSE.
    pub fn mount() -> Option<SlowFiles> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").ok()?;
        let place = tempfile::Builder::new().prefix("joblet-slow.").tempdir_in("/srv").unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        // Not mount(8), which does not inherit the descriptor.
        let data = std::ffi::CString::new(options).unwrap();
        rustix::mount::mount("joblet-test", place.path(), "fuse", rustix::mount::MountFlags::empty(), &*data)
            .unwrap();
        std::thread::spawn(move || serve(device));
        Some(SlowFiles { place, next: AtomicU64::new(ROOT + 1) })
    }

    /// The directory, to be shown to jobs.
    pub fn dir(&self) -> &Path {
        self.place.path()
    }

    /// A file in it that nobody has read from.
    pub fn file(&self) -> PathBuf {
        self.dir().join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

impl Drop for SlowFiles {
    fn drop(&mut self) {
        // By force: reads that wait fail now.
        let _ = Command::new("umount").args(["-f", "-l"]).arg(self.dir()).status();
    }
}

/// Answers requests until the file system is unmounted (linux/fuse.h).
fn serve(mut device: File) {
    let mut request = vec![0; 1 << 17];
    loop {
        let length = match device.read(&mut request) {
            Ok(length) => length,
            Err(why) if why.kind() == ErrorKind::Interrupted || why.raw_os_error() == Some(libc::ENOENT) => {
                continue;
            }
            Err(_) => return,
        };
        let number = |at: usize| u64::from_le_bytes(request[at..at + 8].try_into().unwrap());
        let (code, unique, node) = (number(0) >> 32, number(8), number(16));
        let body = &request[40..length];
        let answer = match code {
            // FORGET, READ, INTERRUPT, BATCH_FORGET: no answer, and to READ never one.
            2 | 15 | 36 | 42 => continue,
            // LOOKUP
            1 => match String::from_utf8_lossy(body).trim_end_matches('\0').parse() {
                Ok(node) => {
                    let words = [node, 0, 1, 1, 0];
                    Ok([words.map(u64::to_le_bytes).concat(), attributes(node)].concat())
                }
                Err(_) => Err(libc::ENOENT),
            },
            // GETATTR
            3 => Ok([[1u64, 0].map(u64::to_le_bytes).concat(), attributes(node)].concat()),
            // OPEN, OPENDIR
            14 | 27 => Ok(vec![0; 16]),
            // STATFS
            17 => Ok(vec![0; 80]),
            // RELEASE, FLUSH, RELEASEDIR
            18 | 25 | 29 => Ok(Vec::new()),
            // INIT: version 7.31, reading ahead, which a process can be killed in (FUSE_ASYNC_READ), and no more.
            26 => {
                let mut answer = vec![0; 64];
                answer[0] = 7;
                answer[4] = 31;
                answer[8..12].copy_from_slice(&(1u32 << 17).to_le_bytes());
                answer[12] = 1;
                answer[17] = 1;
                answer[20..24].copy_from_slice(&(4096u32).to_le_bytes());
                Ok(answer)
            }
            _ => Err(libc::ENOSYS),
        };
        let (error, bytes) = answer.map_or_else(|errno| (-errno, Vec::new()), |bytes| (0, bytes));
        let mut reply = (16 + bytes.len() as u32).to_le_bytes().to_vec();
        reply.extend(error.to_le_bytes());
        reply.extend(unique.to_le_bytes());
        reply.extend(bytes);
        // A request that was interrupted wants no answer.
        let _ = device.write(&reply);
    }
}

/// `struct fuse_attr` of a node, 88 bytes.
fn attributes(node: u64) -> Vec<u8> {
    let (mode, size) = if node == ROOT { (DIRECTORY, 0) } else { (REGULAR, SIZE) };
    let mut attributes = vec![0; 88];
    attributes[..8].copy_from_slice(&node.to_le_bytes());
    attributes[8..16].copy_from_slice(&size.to_le_bytes());
    attributes[60..64].copy_from_slice(&mode.to_le_bytes());
    attributes[64..68].copy_from_slice(&1u32.to_le_bytes());
    attributes
}
