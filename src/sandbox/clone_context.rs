//! The means of a thread to clone children: a stack, a few low descriptors, and a watch over the child.
//!
//! A child shares the daemon's descriptors for one system call, then takes a table of its own that ends behind the
//! highest number it needs. Descriptors of a daemon with many jobs have high numbers; so the descriptors of a child are put into
//! the thread's own low *slots* for the length of a clone. A start then costs the same with no job and with thousands.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::{DupFlags, dup3, fcntl_dupfd_cloexec};

use crate::init_abi::slot;
use crate::sys::clone::{ChildStack, Watch};

/// The descriptors of a child: those of joblet-init, its user namespace, its /work, its network namespace, the host's
/// procfs, the socket of its router, the file about its denials, the user namespace of its layers.
pub(super) const SLOTS: usize = slot::COUNT + 7;

/// One thread's means to clone children, one at a time.
#[derive(Debug)]
pub struct CloneContext {
    pub(super) stack: ChildStack,
    pub(super) slots: Slots,
    pub(super) watch: Arc<Watch>,
}

impl CloneContext {
    pub(super) fn new(empty: BorrowedFd<'_>) -> io::Result<CloneContext> {
        Ok(CloneContext { stack: ChildStack::new()?, slots: Slots::new(empty)?, watch: Arc::default() })
    }
}

/// Low descriptors, which refer to /dev/null while there is no child.
#[derive(Debug)]
pub(super) struct Slots {
    fds: [OwnedFd; SLOTS],
    empty: OwnedFd,
}

impl Slots {
    fn new(empty: BorrowedFd<'_>) -> io::Result<Slots> {
        // 0 to 2 are never free for long, and a child's own are put there.
        let mut fds = Vec::with_capacity(SLOTS);
        for _ in 0..SLOTS {
            fds.push(fcntl_dupfd_cloexec(empty, 3)?);
        }
        let fds = fds.try_into().map_err(|_| io::Error::other("too few slots"))?;
        Ok(Slots { fds, empty: empty.try_clone_to_owned()? })
    }

    /// The numbers of the first and the last slot.
    pub(super) fn numbers(&self) -> (i32, i32) {
        let numbers = self.fds.each_ref().map(AsRawFd::as_raw_fd);
        (numbers.into_iter().min().unwrap_or(0), numbers.into_iter().max().unwrap_or(0))
    }

    /// Puts descriptors into the slots.
    pub(super) fn fill(&mut self, fds: [BorrowedFd<'_>; SLOTS]) -> io::Result<()> {
        for (slot, fd) in self.fds.iter_mut().zip(fds) {
            dup3(fd, slot, DupFlags::CLOEXEC)?;
        }
        Ok(())
    }

    /// The descriptors in the slots, in the order of [`Slots::fill`].
    pub(super) fn filled(&self) -> [BorrowedFd<'_>; SLOTS] {
        self.fds.each_ref().map(AsFd::as_fd)
    }

    /// Empties them: an output pipe would never end while we hold its write end.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        for slot in &mut self.fds {
            dup3(&self.empty, slot, DupFlags::CLOEXEC)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    #[test]
    fn a_pipe_ends_when_the_slots_are_cleared() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut slots = Slots::new(null.as_fd()).unwrap();
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        slots.fill([write.as_fd(); SLOTS]).unwrap();
        drop(write);
        assert_eq!(rustix::io::read(&read, &mut [0u8; 1]), Err(rustix::io::Errno::AGAIN));
        slots.clear().unwrap();
        assert_eq!(rustix::io::read(&read, &mut [0u8; 1]), Ok(0));
    }
}
