//! The writer of one job's spool.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::pipe::{SpliceFlags, splice};

use super::header::Header;
pub use super::row::{HEADER, ROW, Row, Span};
use super::row::{INDEX, place};
use super::{OutputError, Stream};

/// Most bytes of one row. Each reader holds one row at a time, and thousands of clients may not read theirs. Earlier
/// versions wrote rows of up to 64 KiB.
pub const CHUNK: usize = 16 * 1024;

/// The result of one splice(2).
#[derive(Debug, PartialEq, Eq)]
pub enum SpliceResult {
    /// The number of bytes that were moved into the file.
    Moved(usize),
    /// The pipe is empty, but still has a writer.
    Empty,
    /// The last writer is gone and all bytes are read.
    End,
}

/// The three files of a running job's spool.
#[derive(Debug)]
pub struct SpoolWriter {
    pub(super) streams: [Tail; 2],
    pub(super) index: File,
    /// Rows in the index, including those of open gaps.
    pub(super) rows: u64,
    pub(super) gaps: [Gap; 2],
    /// The header of the index as this writer found it, or as it has released rows itself.
    pub(super) header: Header,
    /// Whether the file system takes pages out of files, as far as is known.
    pub(super) has_holes: bool,
}

/// The bytes that a stream has lost.
#[derive(Debug, Default)]
pub(super) struct Gap {
    /// The sequence of the open gap's row, and the bytes it counts. The row is rewritten in place as the gap grows, and
    /// readers do not see it until the gap is closed.
    open: Option<(u64, u64)>,
    /// Bytes counted by the rows of closed gaps.
    counted: u64,
}

/// The end of a stream's file.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) file: File,
    /// The number of bytes in the file.
    pub(super) end: u64,
    /// Bytes that the index describes; less than `end` only where a row could not be written yet.
    pub(super) noted: u64,
}

impl SpoolWriter {
    /// Creates the spool directory and its files.
    ///
    /// # Errors
    /// The path that could not be created.
    pub fn create(dir: &Path) -> Result<Self, OutputError> {
        SpoolWriter::create_as(dir, false)
    }

    /// Creates a spool that keeps the end of the output only, for readers of a running job.
    ///
    /// # Errors
    /// The path that could not be created.
    pub fn create_ring(dir: &Path) -> Result<Self, OutputError> {
        SpoolWriter::create_as(dir, true)
    }

    fn create_as(dir: &Path, is_ring: bool) -> Result<Self, OutputError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| OutputError::Create { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
        let open = |name: &str| {
            let path = dir.join(name);
            // Not O_APPEND: splice(2) refuses such files.
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .map_err(failed(&path))
        };
        let tail = |stream: Stream| Ok(Tail { file: open(stream.file_name())?, end: 0, noted: 0 });
        let streams = [tail(Stream::Stdout)?, tail(Stream::Stderr)?];
        let mut index = open(INDEX)?;
        let header = Header { is_ring, ..Header::default() };
        index.write_all(&header.encode()).map_err(failed(&dir.join(INDEX)))?;
        Ok(SpoolWriter { streams, index, rows: 0, gaps: Default::default(), header, has_holes: true })
    }

    /// The number of rows that may be read, which is the highest readable sequence.
    pub fn rows(&self) -> u64 {
        let open = self.gaps.iter().filter_map(|gap| gap.open);
        open.map(|(sequence, _)| sequence - 1).min().unwrap_or(self.rows)
    }

    /// The bytes of all its files, as the limits count them, with those that are released.
    pub fn bytes(&self) -> u64 {
        place(self.rows) + self.streams.iter().map(|tail| tail.end).sum::<u64>()
    }

    /// Whether it keeps the end of the output only.
    pub fn is_ring(&self) -> bool {
        self.header.is_ring
    }

    /// The bytes among [`SpoolWriter::bytes`] that were released before it was opened, or that it has released.
    pub fn released_bytes(&self) -> u64 {
        self.header.bytes()
    }

    /// Moves at most `budget` bytes from a non-blocking pipe into the stream's file and writes their row.
    ///
    /// # Errors
    /// The error of the disk. The bytes are still in the pipe (splice failed), or in the file without a row, which the
    /// next call writes first.
    pub fn splice_from(
        &mut self,
        pipe: impl AsFd,
        stream: Stream,
        budget: usize,
        now_ns: i64,
    ) -> io::Result<SpliceResult> {
        let owed = self.note(stream, now_ns)?;
        if owed > 0 {
            return Ok(SpliceResult::Moved(owed));
        }
        let Tail { file, end, .. } = &mut self.streams[stream.place()];
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        loop {
            // The kernel advances `end` by what it moves.
            match splice(pipe.as_fd(), None, file.as_fd(), Some(end), budget, flags) {
                Ok(0) => return Ok(SpliceResult::End),
                Ok(_) => return self.note(stream, now_ns).map(SpliceResult::Moved),
                Err(rustix::io::Errno::AGAIN) => return Ok(SpliceResult::Empty),
                Err(rustix::io::Errno::INTR) => {}
                Err(why) => return Err(why.into()),
            }
        }
    }

    /// Writes rows for the bytes that are in a stream's file and not in the index, and returns their number.
    pub(super) fn note(&mut self, stream: Stream, time_ns: i64) -> io::Result<usize> {
        let mut bytes = 0;
        loop {
            let Tail { end, noted, .. } = self.streams[stream.place()];
            let length = (end - noted).min(CHUNK as u64) as u32;
            if length == 0 {
                return Ok(bytes);
            }
            self.close_gaps(time_ns)?;
            let span = Span::Bytes { offset: noted, length };
            let row = Row { sequence: self.rows + 1, time_ns, stream, span };
            self.index.write_all_at(&row.encode(), place(self.rows))?;
            self.rows += 1;
            self.streams[stream.place()].noted += u64::from(length);
            bytes += length as usize;
        }
    }

    /// Discards at most `budget` bytes of a non-blocking pipe into `null` and counts them in the index.
    ///
    /// # Errors
    /// The error of the disk. The count is written with the next row.
    pub fn discard_from(
        &mut self,
        pipe: impl AsFd,
        null: &File,
        stream: Stream,
        budget: usize,
        now_ns: i64,
    ) -> io::Result<SpliceResult> {
        loop {
            match splice(pipe.as_fd(), None, null.as_fd(), None, budget, SpliceFlags::NONBLOCK) {
                Ok(0) => return Ok(SpliceResult::End),
                Ok(lost) => {
                    return self.lose(stream, lost as u64, now_ns).map(|()| SpliceResult::Moved(lost));
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(SpliceResult::Empty),
                Err(rustix::io::Errno::INTR) => {}
                Err(why) => return Err(why.into()),
            }
        }
    }

    /// Counts lost bytes in the stream's gap. The gap is closed, which shows it to readers, when it has doubled what the
    /// stream has lost: at once at first, then ever more seldom, so that an endless flood makes no endless index.
    fn lose(&mut self, stream: Stream, bytes: u64, now_ns: i64) -> io::Result<()> {
        // Bytes that have no row yet come before the gap.
        self.note(stream, now_ns)?;
        let rows = &mut self.rows;
        let gap = &mut self.gaps[stream.place()];
        let (sequence, lost) = gap.open.get_or_insert_with(|| {
            *rows += 1;
            (*rows, 0)
        });
        *lost += bytes;
        let row = Row { sequence: *sequence, time_ns: now_ns, stream, span: Span::Lost(*lost) };
        let doubled = *lost >= gap.counted;
        self.index.write_all_at(&row.encode(), place(row.sequence - 1))?;
        if doubled { self.close_gaps(now_ns) } else { Ok(()) }
    }

    /// Closes every gap, which shows it to readers; later losses start a new gap.
    ///
    /// # Errors
    /// The error of the disk. The gaps stay open.
    pub fn close_gaps(&mut self, now_ns: i64) -> io::Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let gap = &mut self.gaps[stream.place()];
            if let Some((sequence, lost)) = gap.open {
                let row = Row { sequence, time_ns: now_ns, stream, span: Span::Lost(lost) };
                self.index.write_all_at(&row.encode(), place(sequence - 1))?;
                gap.open = None;
                gap.counted += lost;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Chunk, OutputReader};
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::os::fd::OwnedFd;

    struct Bench {
        _dir: tempfile::TempDir,
        dir: std::path::PathBuf,
        spool: SpoolWriter,
        null: File,
        pipe: (OwnedFd, OwnedFd),
    }

    impl Bench {
        fn new() -> Bench {
            let temp = tempfile::tempdir().unwrap();
            let dir = temp.path().join("job");
            let spool = SpoolWriter::create(&dir).unwrap();
            let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
            let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
            Bench { _dir: temp, dir, spool, null, pipe }
        }

        fn keep(&mut self, stream: Stream, bytes: &[u8]) {
            rustix::io::write(&self.pipe.1, bytes).unwrap();
            assert_eq!(
                self.spool.splice_from(&self.pipe.0, stream, CHUNK, 1).unwrap(),
                SpliceResult::Moved(bytes.len())
            );
        }

        fn lose(&mut self, stream: Stream, bytes: usize) {
            rustix::io::write(&self.pipe.1, &vec![0; bytes]).unwrap();
            let moved = self.spool.discard_from(&self.pipe.0, &self.null, stream, CHUNK, 2).unwrap();
            assert_eq!(moved, SpliceResult::Moved(bytes));
        }

        fn read(&self) -> Vec<(Stream, usize, u64)> {
            let mut reader = OutputReader::open(&self.dir, None).unwrap();
            let chunks: Vec<Chunk> = std::iter::from_fn(|| reader.next(self.spool.rows()).unwrap()).collect();
            assert!(chunks.iter().enumerate().all(|(n, chunk)| chunk.sequence == n as u64 + 1));
            chunks.iter().map(|chunk| (chunk.stream, chunk.bytes.len(), chunk.lost)).collect()
        }
    }

    #[test]
    fn lost_bytes_are_shown_where_they_were_lost() {
        let mut b = Bench::new();
        b.keep(Stream::Stdout, b"before");
        b.lose(Stream::Stdout, 100);
        assert_eq!(
            b.read(),
            [(Stream::Stdout, 6, 0), (Stream::Stdout, 0, 100)],
            "the first loss is shown at once"
        );
        b.lose(Stream::Stdout, 10);
        b.lose(Stream::Stderr, 7);
        b.lose(Stream::Stdout, 20);
        b.keep(Stream::Stdout, b"after");
        let want = [
            (Stream::Stdout, 6, 0),
            (Stream::Stdout, 0, 100),
            (Stream::Stdout, 0, 10),
            (Stream::Stderr, 0, 7),
            (Stream::Stdout, 0, 20),
            (Stream::Stdout, 5, 0),
        ];
        assert_eq!(b.read(), want);
        // The next daemon reads the same rows.
        b.spool = SpoolWriter::reopen(&b.dir).unwrap();
        assert_eq!(b.read(), want);
    }

    #[test]
    fn a_loss_without_end_makes_a_handful_of_rows() {
        let mut b = Bench::new();
        for _ in 0..2000 {
            b.lose(Stream::Stdout, CHUNK);
            b.lose(Stream::Stderr, 1);
        }
        b.spool.close_gaps(3).unwrap();
        let read = b.read();
        let lost = |stream| read.iter().filter(|row| row.0 == stream).map(|row| row.2).sum::<u64>();
        assert_eq!(lost(Stream::Stdout), 2000 * CHUNK as u64);
        assert_eq!(lost(Stream::Stderr), 2000);
        assert!(read.len() < 50, "{} rows", read.len());
        assert_eq!(b.spool.bytes(), place(read.len() as u64));
    }

    #[test]
    fn a_gap_that_a_killed_daemon_was_counting_is_not_lost() {
        let mut b = Bench::new();
        for bytes in [100, 60, 20] {
            b.lose(Stream::Stderr, bytes);
        }
        assert_eq!(b.read(), [(Stream::Stderr, 0, 100)]);
        b.spool = SpoolWriter::reopen(&b.dir).unwrap();
        assert_eq!(b.read(), [(Stream::Stderr, 0, 100), (Stream::Stderr, 0, 80)]);
    }
}
