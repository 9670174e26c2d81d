//! Descriptors that a process finds open at its start, by their numbers.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// The lowest number that a copy gets: below it are the numbers that the parent gave.
const ABOVE: RawFd = 10;

/// Takes the descriptor that the parent left under this number. To be called once for each number, before anything else
/// opens files: whoever has the number then, it is closed.
///
/// # Errors
/// EBADF: nothing is open under it.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the number is borrowed for one call, which fails where it is not open.
    let inherited = unsafe { BorrowedFd::borrow_raw(number) };
    let own = rustix::io::fcntl_dupfd_cloexec(inherited, ABOVE)?;
    // SAFETY: nothing in this process owns the number; our parent put it there for us.
    unsafe { rustix::io::close(number) };
    Ok(own)
}
