//! The digest of a content, in which holes cost nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use openssl::sha::Sha256;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::BLOCK;

/// SHA-256 over the blocks of a content: each run of blocks of zeros as one byte 0 and their number in eight bytes, lowest first; each
/// other block as one byte 1 and its bytes. Two contents of one size have one digest exactly where they are the same, however
/// their holes lie on the disk.
#[derive(Clone)]
pub(super) struct Digest {
    hash: Sha256,
    zeros: u64,
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Digest").field("zeros", &self.zeros).finish_non_exhaustive()
    }
}

impl Digest {
    pub(super) fn new() -> Digest {
        Digest { hash: Sha256::new(), zeros: 0 }
    }

    /// So many blocks of zeros come next.
    pub(super) fn zeros(&mut self, blocks: u64) {
        self.zeros = self.zeros.saturating_add(blocks);
    }

    /// A block that is not all zeros comes next.
    pub(super) fn data(&mut self, block: &[u8]) {
        self.flush();
        self.hash.update(&[1]);
        self.hash.update(block);
    }

    fn flush(&mut self) {
        if self.zeros > 0 {
            self.hash.update(&[0]);
            self.hash.update(&self.zeros.to_le_bytes());
            self.zeros = 0;
        }
    }

    /// The digest of what has come.
    pub(super) fn value(&self) -> [u8; 32] {
        let mut last = self.clone();
        last.flush();
        last.hash.finish()
    }
}

/// The next bytes of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A block, of so many bytes; less than [`BLOCK`] at the end only.
    Data(usize),
    /// So many blocks of zeros.
    Zeros(u64),
    /// Nothing: the file is shorter than it was.
    Over,
}

/// Reads a file of `size` bytes block by block, holes at once.
#[derive(Debug)]
pub(super) struct Blocks<'a> {
    file: &'a File,
    size: u64,
    at: u64,
    /// The block before was zeros, or there was none: a hole may begin here.
    in_hole: bool,
}

impl<'a> Blocks<'a> {
    /// From byte `at`, a multiple of a block, to byte `size`.
    pub(super) fn new(file: &'a File, at: u64, size: u64) -> Blocks<'a> {
        Blocks { file, size, at, in_hole: true }
    }

    /// The next block, in `buffer` if it has data; `None` at the end.
    pub(super) fn next(&mut self, buffer: &mut [u8; BLOCK]) -> io::Result<Option<Next>> {
        if self.at >= self.size {
            return Ok(None);
        }
        if self.in_hole
            && let Some(blocks) = self.hole()?
        {
            self.at += blocks * BLOCK as u64;
            return Ok(Some(Next::Zeros(blocks)));
        }
        let length = usize::try_from(self.size - self.at).map_or(BLOCK, |left| left.min(BLOCK));
        let block = &mut buffer[..length];
        if let Err(why) = self.file.read_exact_at(block, self.at) {
            let is_short = why.kind() == io::ErrorKind::UnexpectedEof;
            return if is_short { Ok(Some(Next::Over)) } else { Err(why) };
        }
        self.at += BLOCK as u64;
        self.in_hole = is_zero(block);
        Ok(Some(if self.in_hole { Next::Zeros(1) } else { Next::Data(length) }))
    }

    /// The whole blocks of the hole that is here, if there is one.
    fn hole(&self) -> io::Result<Option<u64>> {
        let left = (self.size - self.at).div_ceil(BLOCK as u64);
        let blocks = match seek(self.file, SeekFrom::Data(self.at)) {
            Ok(data) => (data.saturating_sub(self.at) / BLOCK as u64).min(left),
            // No data behind this byte: a hole to the end, unless the file has become shorter.
            Err(Errno::NXIO) if self.file.metadata()?.len() >= self.size => left,
            // This file system does not tell.
            Err(_) => 0,
        };
        Ok((blocks > 0).then_some(blocks))
    }
}

/// Whether a block is all zeros; the first word decides mostly.
fn is_zero(block: &[u8]) -> bool {
    let words = block.chunks_exact(8);
    words.remainder().iter().all(|byte| *byte == 0) && words.into_iter().all(|word| word == [0; 8])
}

/// The digest of the first `bytes` of a file, a multiple of a block; `None`: it is shorter.
pub(super) fn of_file(file: &File, bytes: u64) -> io::Result<Option<Digest>> {
    let mut digest = Digest::new();
    let mut blocks = Blocks::new(file, 0, bytes);
    let mut buffer = Box::new([0; BLOCK]);
    while let Some(next) = blocks.next(&mut buffer)? {
        match next {
            Next::Data(length) => digest.data(&buffer[..length]),
            Next::Zeros(blocks) => digest.zeros(blocks),
            Next::Over => return Ok(None),
        }
    }
    Ok(Some(digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn holes_and_written_zeros_have_one_digest() {
        let sparse = tempfile::tempfile().unwrap();
        let dense = tempfile::tempfile().unwrap();
        let size = 5 * BLOCK as u64 + 7;
        sparse.set_len(size).unwrap();
        dense.write_all_at(&vec![0; size as usize], 0).unwrap();
        for file in [&sparse, &dense] {
            file.write_all_at(b"x", 2 * BLOCK as u64 + 9).unwrap();
        }
        let of = |file| of_file(file, size).unwrap().unwrap().value();
        assert_eq!(of(&sparse), of(&dense));
        dense.write_all_at(b"y", size - 1).unwrap();
        assert_ne!(of(&sparse), of(&dense));
        assert!(of_file(&sparse, size + 1).unwrap().is_none(), "it is shorter");
    }

    #[test]
    fn hole_of_terabytes_is_read_at_once() {
        let file = tempfile::tempfile().unwrap();
        if file.set_len(8 << 40).is_err() {
            return;
        }
        let mut blocks = Blocks::new(&file, 0, 8 << 40);
        let mut buffer = Box::new([0; BLOCK]);
        assert_eq!(blocks.next(&mut buffer).unwrap(), Some(Next::Zeros((8 << 40) / BLOCK as u64)));
        assert_eq!(blocks.next(&mut buffer).unwrap(), None);
    }

    proptest! {
        #[test]
        fn digest_does_not_depend_on_how_zeros_are_counted(runs in proptest::collection::vec(0_u64..4, 1..8)) {
            let (mut once, mut each) = (Digest::new(), Digest::new());
            for run in runs {
                once.zeros(run);
                (0..run).for_each(|_| each.zeros(1));
                once.data(&[run as u8 + 1]);
                each.data(&[run as u8 + 1]);
            }
            prop_assert_eq!(once.value(), each.value());
        }
    }
}
