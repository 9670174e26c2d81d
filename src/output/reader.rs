//! Reading a spool from a cursor, while it grows or afterwards.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::spool::{HEADER, INDEX, ROW, Row, Span, place};
use super::{OutputError, Stream};

/// A run of bytes of one stream, or a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The position in the job's output, from 1 across both streams.
    pub sequence: u64,
    /// The stream that the bytes belong to.
    pub stream: Stream,
    /// The time at which the daemon read them from the job, ns since the epoch.
    pub time_ns: i64,
    /// The bytes as the job wrote them.
    pub bytes: Vec<u8>,
    /// Bytes that were discarded here. A chunk that counts such has no bytes of its own.
    pub lost: u64,
}

/// Rows of the index that are read at once. Each of thousands of readers that do not go on holds as many.
const AHEAD: u64 = 64;

/// A cursor into one job's spool. It keeps the files open, so a deleted job can be read to its end.
#[derive(Debug)]
pub struct SpoolReader {
    dir: PathBuf,
    index: File,
    streams: [File; 2],
    next: u64,
    /// Rows that were read ahead, the first of them behind `ahead_from` rows.
    ahead: Vec<u8>,
    ahead_from: u64,
}

impl SpoolReader {
    /// Opens a spool with the cursor at its first row.
    ///
    /// # Errors
    /// The file that could not be opened, or an index of another version.
    pub fn open(dir: &Path) -> Result<Self, OutputError> {
        let open = |name: &str| {
            let path = dir.join(name);
            File::open(&path).map_err(|source| OutputError::Read { path, source })
        };
        let index = open(INDEX)?;
        let mut header = [0; HEADER.len()];
        let path = dir.join(INDEX);
        index
            .read_exact_at(&mut header, 0)
            .map_err(|source| OutputError::Read { path: path.clone(), source })?;
        if header != HEADER {
            return Err(OutputError::Format { path });
        }
        let streams = [open(Stream::Stdout.file_name())?, open(Stream::Stderr.file_name())?];
        let dir = dir.to_owned();
        Ok(SpoolReader { dir, index, streams, next: 0, ahead: Vec::new(), ahead_from: 0 })
    }

    /// The number of rows read so far.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Moves the cursor behind the first `rows` rows.
    pub(super) fn seek(&mut self, rows: u64) {
        self.next = rows;
    }

    /// The next chunk, if the first `rows` rows have one more.
    ///
    /// # Errors
    /// The file that could not be read; the cursor stays.
    pub fn next(&mut self, rows: u64) -> Result<Option<Chunk>, OutputError> {
        if self.next >= rows {
            return Ok(None);
        }
        let row = self.row(self.next, rows)?;
        let chunk = self.chunk(row)?;
        self.next += 1;
        Ok(Some(chunk))
    }

    /// The row behind the first `at` rows. Further ones of the first `rows` rows, which may be read too, are read with it:
    /// rows that may be read never change.
    pub(super) fn row(&mut self, at: u64, rows: u64) -> Result<Row, OutputError> {
        let (blocks, _) = self.ahead.as_chunks::<ROW>();
        let behind = at.checked_sub(self.ahead_from).and_then(|n| blocks.get(usize::try_from(n).ok()?));
        if let Some(block) = behind {
            return self.decode(block);
        }
        let wanted = rows.saturating_sub(at).clamp(1, AHEAD) as usize;
        // Exactly as much: a reader that follows a job row by row holds one row.
        let mut ahead = vec![0; wanted * ROW];
        self.index.read_exact_at(&mut ahead, place(at)).map_err(|source| self.unread(INDEX, source))?;
        (self.ahead, self.ahead_from) = (ahead, at);
        self.ahead.first_chunk().map_or_else(|| Err(self.wrong()), |block| self.decode(block))
    }

    /// Reads one row, without others.
    fn row_alone(&self, at: u64) -> Result<Row, OutputError> {
        let mut block = [0; ROW];
        self.index.read_exact_at(&mut block, place(at)).map_err(|source| self.unread(INDEX, source))?;
        self.decode(&block)
    }

    fn decode(&self, block: &[u8; ROW]) -> Result<Row, OutputError> {
        Row::decode(block).ok_or_else(|| self.wrong())
    }

    fn wrong(&self) -> OutputError {
        OutputError::Format { path: self.dir.join(INDEX) }
    }

    /// The bytes or the gap that a row describes.
    pub(super) fn chunk(&self, row: Row) -> Result<Chunk, OutputError> {
        let Row { sequence, stream, time_ns, span } = row;
        let (bytes, lost) = match span {
            Span::Lost(lost) => (Vec::new(), lost),
            Span::Bytes { offset, length } => (self.bytes(stream, offset, length as usize)?, 0),
        };
        Ok(Chunk { sequence, stream, time_ns, bytes, lost })
    }

    /// At most `length` bytes of the row's stream that precede the row.
    pub(super) fn before(&self, row: &Row, length: usize) -> Result<Vec<u8>, OutputError> {
        let Span::Bytes { offset, .. } = row.span else { return Ok(Vec::new()) };
        let length = length.min(offset as usize);
        self.bytes(row.stream, offset - length as u64, length)
    }

    /// The number of rows, among the first `rows`, before the first one that `is_new` accepts. A binary search finds
    /// it: times grow from row to row unless the clock was set back.
    pub(super) fn older(&self, rows: u64, is_new: impl Fn(i64) -> bool) -> Result<u64, OutputError> {
        let (mut low, mut high) = (0, rows);
        while low < high {
            let middle = low + (high - low) / 2;
            if is_new(self.row_alone(middle)?.time_ns) { high = middle } else { low = middle + 1 }
        }
        Ok(low)
    }

    fn bytes(&self, stream: Stream, offset: u64, length: usize) -> Result<Vec<u8>, OutputError> {
        let mut bytes = vec![0; length];
        let file = &self.streams[stream.place()];
        file.read_exact_at(&mut bytes, offset).map_err(|source| self.unread(stream.file_name(), source))?;
        Ok(bytes)
    }

    fn unread(&self, name: &str, source: std::io::Error) -> OutputError {
        OutputError::Read { path: self.dir.join(name), source }
    }
}

#[cfg(test)]
mod tests {
    use super::super::spool::{SpliceResult, SpoolWriter};
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    #[test]
    fn spliced_output_is_read_back_in_order_with_its_streams() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("job");
        let mut writer = SpoolWriter::create(&spool).unwrap();
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let mut want = Vec::new();
        for (i, stream) in [Stream::Stdout, Stream::Stderr, Stream::Stdout].into_iter().enumerate() {
            let bytes = vec![i as u8; 1000 + i];
            rustix::io::write(&write, &bytes).unwrap();
            assert_eq!(
                writer.splice_from(&read, stream, 65_536, 7).unwrap(),
                SpliceResult::Moved(bytes.len())
            );
            want.push(Chunk { sequence: i as u64 + 1, stream, time_ns: 7, bytes, lost: 0 });
        }
        assert_eq!(writer.splice_from(&read, Stream::Stdout, 65_536, 7).unwrap(), SpliceResult::Empty);
        drop(write);
        assert_eq!(writer.splice_from(&read, Stream::Stdout, 65_536, 7).unwrap(), SpliceResult::End);
        let mut reader = SpoolReader::open(&spool).unwrap();
        let got: Vec<Chunk> = std::iter::from_fn(|| reader.next(writer.rows()).unwrap()).collect();
        assert_eq!(got, want);
        assert_eq!(reader.position(), 3);
    }

    /// A spool that version 1 has stored: every later version must read it.
    #[test]
    fn the_golden_spool_is_read() {
        let dir = Path::new("tests/golden/spool-1");
        let mut reader = SpoolReader::open(dir).unwrap();
        let got: Vec<(u64, Stream, Vec<u8>)> = std::iter::from_fn(|| reader.next(3).unwrap())
            .map(|chunk| (chunk.sequence, chunk.stream, chunk.bytes))
            .collect();
        let want = [
            (1, Stream::Stdout, b"hello\n".to_vec()),
            (2, Stream::Stderr, b"err\n".to_vec()),
            (3, Stream::Stdout, b"\x00\xff\n".to_vec()),
        ];
        assert_eq!(got, want);
    }

    /// A spool with gaps, as versions write it that can drop output.
    #[test]
    fn the_golden_spool_with_gaps_is_read() {
        let dir = Path::new("tests/golden/spool-1-gap");
        let mut reader = SpoolReader::open(dir).unwrap();
        let got: Vec<(u64, Stream, Vec<u8>, u64)> = std::iter::from_fn(|| reader.next(4).unwrap())
            .map(|chunk| (chunk.sequence, chunk.stream, chunk.bytes, chunk.lost))
            .collect();
        let want = [
            (1, Stream::Stdout, b"before\n".to_vec(), 0),
            (2, Stream::Stdout, vec![], 123_456_789_012),
            (3, Stream::Stderr, vec![], 99),
            (4, Stream::Stdout, b"after\n".to_vec(), 0),
        ];
        assert_eq!(got, want);
    }

    #[test]
    fn a_foreign_index_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["index", "stdout", "stderr"] {
            std::fs::write(dir.path().join(name), [b'x'; 64]).unwrap();
        }
        assert!(matches!(SpoolReader::open(dir.path()), Err(OutputError::Format { .. })));
    }
}
