//! One input in the kernel: a memory file and the pipe that its bytes go to.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, SealFlags, fallocate, fchmod, fcntl_add_seals, fcntl_get_seals, fstat,
    memfd_create, tell,
};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

use super::WINDOW;

/// Moved bytes are cut out of the file in blocks of so many bytes. The largest folio of a memory file, where the host
/// has huge pages for it: the kernel clears the part of a folio that is cut out, and the pipe may still have that.
const BLOCK: u64 = 2 << 20;
/// Most bytes of one move.
const MOVE: usize = 256 << 10;

/// The outcome of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// So many bytes went into the pipe.
    Moved(usize),
    /// The pipe has no room.
    Full,
    /// There is nothing to move.
    Empty,
    /// Nobody reads the pipe any more.
    Closed,
}

/// A memory file with the bytes of an input, and the write end of the pipe to its program.
#[derive(Debug)]
pub struct Store {
    file: File,
    pipe: OwnedFd,
    accepted: u64,
    freed: u64,
}

impl Store {
    /// An empty input, and the read end of its pipe for the program.
    ///
    /// # Errors
    /// The kernel refuses a descriptor or memory.
    pub fn create() -> io::Result<(Store, OwnedFd)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // MFD_NOEXEC_SEAL (6.3) satisfies every vm.memfd_noexec; older kernels refuse the flag.
        let file = memfd_create("stdin", flags | MemfdFlags::NOEXEC_SEAL)
            .or_else(|_| memfd_create("stdin", flags))?;
        let (stdin, pipe) = pipe_with(PipeFlags::CLOEXEC)?;
        // The job may open it anew through /proc/self/fd, for reading only.
        fchmod(&stdin, Mode::from_raw_mode(0o444))?;
        Ok((Store::of(file, pipe)?, stdin))
    }

    /// An input that an earlier daemon had. The file's position must be the one that the earlier daemon moved: the same
    /// open file, not the same bytes.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn of(file: OwnedFd, pipe: OwnedFd) -> io::Result<Store> {
        ioctl_fionbio(&pipe, true)?;
        let mut store = Store { file: file.into(), pipe, accepted: 0, freed: 0 };
        store.measure()?;
        // Where the earlier daemon stopped is not known, and a block that is cut out twice does no harm.
        store.free()?;
        Ok(store)
    }

    /// The memory file, for a copy of its descriptor.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The write end of the pipe.
    pub fn pipe(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Bytes that were accepted in all.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Bytes of memory that it has.
    pub(super) fn held(&self) -> u64 {
        self.accepted - self.freed
    }

    /// Whether nothing more is accepted.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn is_ended(&self) -> io::Result<bool> {
        Ok(fcntl_get_seals(&self.file)?.contains(SealFlags::GROW))
    }

    /// Accepts nothing more.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn end(&self) -> io::Result<()> {
        Ok(fcntl_add_seals(&self.file, SealFlags::GROW)?)
    }

    /// Accepts as many of the bytes as there is room for, at most `most`.
    ///
    /// # Errors
    /// Memory for none of them.
    pub(super) fn accept(&mut self, bytes: &[u8], most: u64) -> io::Result<usize> {
        let waiting = self.accepted.saturating_sub(self.moved()?);
        let room = WINDOW.saturating_sub(waiting).min(most);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let taken = bytes.get(..room).unwrap_or(bytes);
        if taken.is_empty() {
            return Ok(0);
        }
        let before = self.accepted;
        let written = self.file.write_all_at(taken, before);
        self.measure()?;
        let accepted = usize::try_from(self.accepted - before).unwrap_or_default();
        // A part may be in the file: then it is accepted, and the rest meets the same refusal.
        if accepted == 0 { written.map(|()| 0) } else { Ok(accepted) }
    }

    /// Moves some bytes into the pipe.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        match splice(&self.file, None, &self.pipe, None, MOVE, flags) {
            Ok(0) => Ok(Step::Empty),
            Ok(moved) => {
                self.free()?;
                Ok(Step::Moved(moved))
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(Step::Full),
            Err(Errno::PIPE) => Ok(Step::Closed),
            Err(why) => Err(why.into()),
        }
    }

    /// Whether everything that was accepted went into the pipe.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn is_empty(&self) -> io::Result<bool> {
        Ok(self.moved()? >= self.accepted)
    }

    fn moved(&self) -> io::Result<u64> {
        Ok(tell(&self.file)?)
    }

    fn measure(&mut self) -> io::Result<()> {
        self.accepted = fstat(&self.file)?.st_size.try_into().unwrap_or_default();
        Ok(())
    }

    /// Gives the memory of whole blocks back that were moved.
    fn free(&mut self) -> io::Result<()> {
        let whole = self.moved()? / BLOCK * BLOCK;
        if whole > self.freed {
            let cut = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(&self.file, cut, self.freed, whole - self.freed)?;
            self.freed = whole;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Bytes that tell where they stand.
    fn bytes(from: u64, count: usize) -> Vec<u8> {
        (from..).take(count).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
    }

    #[test]
    fn bytes_come_once_and_in_order_whoever_has_the_store() {
        let (mut store, stdin) = Store::create().unwrap();
        let mut reader = File::from(stdin);
        let total = 5 * (1 << 20) + 77;
        let (mut sent, mut read, mut turn) = (0, 0, 0);
        let mut buffer = vec![0; 50_000];
        while read < total {
            let want = usize::try_from(total - sent).unwrap().min(CHUNK_ODD);
            sent += store.accept(&bytes(sent, want), u64::MAX).unwrap() as u64;
            assert!(store.held() <= WINDOW + BLOCK + 65536, "{}", store.held());
            while let Step::Moved(_) = store.step().unwrap() {}
            // Another daemon: nothing but the open files is left.
            turn += 1;
            if turn % 3 == 0 {
                let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().unwrap();
                store = Store::of(copy(store.file()), copy(store.pipe())).unwrap();
                assert_eq!(store.accepted(), sent);
            }
            let got = reader.read(&mut buffer).unwrap();
            assert_eq!(buffer[..got], bytes(read, got));
            read += got as u64;
        }
        assert_eq!((sent, store.is_empty().unwrap()), (total, true));
    }

    const CHUNK_ODD: usize = 61_003;

    #[test]
    fn full_pipe_and_full_window_accept_nothing_more() {
        let (mut store, stdin) = Store::create().unwrap();
        let chunk = vec![7; 64 << 10];
        let mut sent = 0;
        loop {
            let taken = store.accept(&chunk, u64::MAX).unwrap();
            while let Step::Moved(_) = store.step().unwrap() {}
            sent += taken;
            if taken == 0 {
                break;
            }
        }
        assert_eq!(store.step().unwrap(), Step::Full);
        let in_pipe = sent - usize::try_from(WINDOW).unwrap();
        assert!(in_pipe > 0 && in_pipe <= 64 << 10, "{in_pipe}");
        assert_eq!(store.accept(&chunk, 0).unwrap(), 0);
        drop(stdin);
        assert_eq!(store.step().unwrap(), Step::Closed);
    }

    #[test]
    fn page_that_a_program_passed_on_is_never_written_over() {
        let (mut store, stdin) = Store::create().unwrap();
        // As `pv` does: by reference, out of our sight.
        let (kept, passed_on) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let first = bytes(0, 16 << 10);
        assert_eq!(store.accept(&first, u64::MAX).unwrap(), first.len());
        assert_eq!(store.step().unwrap(), Step::Moved(first.len()));
        assert_eq!(
            splice(&stdin, None, &passed_on, None, first.len(), SpliceFlags::MOVE).unwrap(),
            first.len()
        );
        let mut sink = File::from(stdin);
        let mut at = first.len() as u64;
        while at < 4 * BLOCK {
            let next = bytes(at + 1, 32 << 10);
            assert_eq!(store.accept(&next, u64::MAX).unwrap(), next.len());
            assert_eq!(store.step().unwrap(), Step::Moved(next.len()));
            sink.read_exact(&mut vec![0; next.len()]).unwrap();
            at += next.len() as u64;
        }
        let mut there = vec![0; first.len()];
        File::from(kept).read_exact(&mut there).unwrap();
        assert_eq!(there, first);
    }

    #[test]
    fn ended_input_says_so_to_the_next_daemon() {
        let (mut store, _stdin) = Store::create().unwrap();
        assert_eq!(store.accept(b"abc", u64::MAX).unwrap(), 3);
        assert!(!store.is_ended().unwrap());
        store.end().unwrap();
        let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().unwrap();
        let mut next = Store::of(copy(store.file()), copy(store.pipe())).unwrap();
        assert!(next.is_ended().unwrap() && !next.is_empty().unwrap());
        next.accept(b"d", u64::MAX).unwrap_err();
        assert_eq!((next.step().unwrap(), next.step().unwrap()), (Step::Moved(3), Step::Empty));
        assert_eq!(next.accepted(), 3);
    }
}
