//! The number of descriptors that this process has open, without a directory entry for each of them.

use std::io;

/// Counts them.
///
/// # Errors
/// There is no `/proc`.
pub fn open_descriptors() -> io::Result<u64> {
    // The size of the directory is their number since Linux 6.2 (proc(5)), and 0 before.
    match u64::try_from(rustix::fs::stat("/proc/self/fd")?.st_size) {
        Ok(number) if number > 0 => Ok(number),
        _ => count(),
    }
}

/// Asks for each number that the table has room for.
fn count() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let room = status.lines().find_map(|line| line.strip_prefix("FDSize:")?.trim().parse::<usize>().ok());
    let room =
        room.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no FDSize in /proc/self/status"))?;
    Ok((0..room).filter(|number| is_open(*number)).count() as u64)
}

fn is_open(number: usize) -> bool {
    let args = [number, libc::F_GETFD as usize, 0, 0, 0, 0];
    // SAFETY: F_GETFD takes no pointer and changes nothing, whatever the number stands for.
    let result = unsafe { super::raw::syscall(libc::SYS_fcntl, args) };
    super::raw::errno(result).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn descriptors_are_counted_on_old_and_new_kernels() {
        let open: Vec<File> = (0..300).map(|_| File::open("/dev/null").unwrap()).collect();
        // Other tests have some too, and change their number.
        assert!(open_descriptors().unwrap() >= 300 && count().unwrap() >= 300);
        assert!(is_open(usize::try_from(open[0].as_raw_fd()).unwrap()) && !is_open(i32::MAX as usize));
    }
}
