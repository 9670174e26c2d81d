//! Writing dirty pages to the disk ahead of fdatasync(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Starts writing all dirty pages of a file to its disk and does not wait for them (sync_file_range(2)). This makes
/// nothing durable: it lets many files be written at the same time before each of them is synced.
///
/// # Errors
/// The error of the system call; some kinds of files do not have it.
pub fn start(file: impl AsFd) -> io::Result<()> {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: the call takes no pointer, and the descriptor is borrowed for its whole time.
    let result = unsafe { libc::sync_file_range(fd, 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writeback_of_a_file_starts_and_of_a_pipe_fails() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![1; 100_000]).unwrap();
        start(std::fs::File::open(&path).unwrap()).unwrap();
        let (pipe, _write) = rustix::pipe::pipe().unwrap();
        assert_eq!(start(pipe).unwrap_err().raw_os_error(), Some(libc::ESPIPE));
    }
}
