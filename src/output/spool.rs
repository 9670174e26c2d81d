//! Writing one job's spool.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::pipe::{SpliceFlags, splice};

use super::{OutputError, Stream};

/// First bytes of an index.
pub const HEADER: [u8; 32] = *b"JOBLET SPOOL INDEX 1\n\0\0\0\0\0\0\0\0\0\0\0";
/// Bytes of the header and of each row.
pub const ROW: usize = 32;
/// Most bytes of one row: what readers hold of a stream at a time.
pub const CHUNK: usize = 64 * 1024;
/// File name of the index.
pub(super) const INDEX: &str = "index";

/// One row of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Place in the job's output, from 1.
    pub sequence: u64,
    /// Where the chunk starts in its stream's file.
    pub offset: u64,
    /// When it was read, ns since the epoch.
    pub time_ns: i64,
    /// Bytes.
    pub length: u32,
    /// Which stream.
    pub stream: Stream,
}

impl Row {
    fn encode(&self) -> [u8; ROW] {
        let mut block = [0; ROW];
        block[..8].copy_from_slice(&self.sequence.to_le_bytes());
        block[8..16].copy_from_slice(&self.offset.to_le_bytes());
        block[16..24].copy_from_slice(&self.time_ns.to_le_bytes());
        block[24..28].copy_from_slice(&self.length.to_le_bytes());
        block[28] = self.stream.number();
        block
    }

    /// `None` for a block that is no row.
    pub fn decode(block: &[u8; ROW]) -> Option<Row> {
        let long = |at: usize| Some(u64::from_le_bytes(block.get(at..at + 8)?.try_into().ok()?));
        let stream = match block[28] {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => return None,
        };
        let length = u32::from_le_bytes(block.get(24..28)?.try_into().ok()?);
        Some(Row { sequence: long(0)?, offset: long(8)?, time_ns: long(16)?.cast_signed(), length, stream })
    }
}

/// What one splice did.
#[derive(Debug, PartialEq, Eq)]
pub enum Spliced {
    /// So many bytes are in the file.
    Moved(usize),
    /// The pipe is empty for now.
    Empty,
    /// The last writer is gone and all is read.
    End,
}

/// The three files of a running job's spool.
#[derive(Debug)]
pub struct SpoolWriter {
    pub(super) streams: [Tail; 2],
    pub(super) index: File,
    pub(super) rows: u64,
}

/// Where a stream's file ends.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) file: File,
    /// Bytes in the file.
    pub(super) end: u64,
    /// Bytes that the index speaks of. Less than `end` only where a row could not be written yet.
    pub(super) noted: u64,
}

impl SpoolWriter {
    /// Makes the spool directory and its files.
    ///
    /// # Errors
    /// The path that could not be made.
    pub fn create(dir: &Path) -> Result<Self, OutputError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| OutputError::Create { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
        let open = |name: &str| {
            let path = dir.join(name);
            // Not O_APPEND: splice(2) refuses such files.
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed(&path))
        };
        let tail = |stream: Stream| Ok(Tail { file: open(stream.file_name())?, end: 0, noted: 0 });
        let streams = [tail(Stream::Stdout)?, tail(Stream::Stderr)?];
        let mut index = open(INDEX)?;
        index.write_all(&HEADER).map_err(failed(&dir.join(INDEX)))?;
        Ok(SpoolWriter { streams, index, rows: 0 })
    }

    /// Rows written so far: the highest sequence.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Moves at most `budget` bytes from a non-blocking pipe into the stream's file and notes them.
    ///
    /// # Errors
    /// The disk's: the bytes are still in the pipe (splice failed), or in the file without a row, which the next
    /// call writes first.
    pub fn splice_from(
        &mut self,
        pipe: impl AsFd,
        stream: Stream,
        budget: usize,
        now_ns: i64,
    ) -> io::Result<Spliced> {
        let owed = self.note(stream, now_ns)?;
        if owed > 0 {
            return Ok(Spliced::Moved(owed));
        }
        let Tail { file, end, .. } = &mut self.streams[stream.place()];
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        loop {
            // The kernel advances `end` by what it moves.
            match splice(pipe.as_fd(), None, file.as_fd(), Some(end), budget, flags) {
                Ok(0) => return Ok(Spliced::End),
                Ok(_) => return self.note(stream, now_ns).map(Spliced::Moved),
                Err(rustix::io::Errno::AGAIN) => return Ok(Spliced::Empty),
                Err(rustix::io::Errno::INTR) => {}
                Err(why) => return Err(why.into()),
            }
        }
    }

    /// Writes the rows of what is in a stream's file and not in the index; tells how many bytes that is.
    pub(super) fn note(&mut self, stream: Stream, time_ns: i64) -> io::Result<usize> {
        let mut bytes = 0;
        loop {
            let Tail { end, noted, .. } = self.streams[stream.place()];
            let length = (end - noted).min(CHUNK as u64) as u32;
            if length == 0 {
                return Ok(bytes);
            }
            let row = Row { sequence: self.rows + 1, offset: noted, time_ns, length, stream };
            self.index.write_all_at(&row.encode(), HEADER.len() as u64 + self.rows * ROW as u64)?;
            self.rows += 1;
            self.streams[stream.place()].noted += u64::from(length);
            bytes += length as usize;
        }
    }
}
