//! The rows and bytes of a spool, while it grows and is released, or afterwards.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::header::Header;
use super::row::{INDEX, ROW, Row, place};
use super::{OutputError, Stream};

/// Rows of the index that are read at once. Each of thousands of readers that do not go on holds as many.
const AHEAD: u64 = 64;

/// The files of one job's spool. It keeps them open, so those of a deleted job can be read to their end.
#[derive(Debug)]
pub(super) struct SpoolReader {
    dir: PathBuf,
    index: File,
    streams: [File; 2],
    /// The header as it was last seen.
    header: Header,
    /// Rows that were read ahead, the first of them behind `ahead_from` rows.
    ahead: Vec<u8>,
    ahead_from: u64,
}

impl SpoolReader {
    /// Opens a spool.
    ///
    /// # Errors
    /// The file that could not be opened, or an index of another version.
    pub(super) fn open(dir: &Path) -> Result<Self, OutputError> {
        let open = |name: &str| {
            let path = dir.join(name);
            File::open(&path).map_err(|source| OutputError::Read { path, source })
        };
        let index = open(INDEX)?;
        let path = dir.join(INDEX);
        let header =
            Header::read(&index).map_err(|source| OutputError::Read { path: path.clone(), source })?;
        let header = header.ok_or(OutputError::Format { path })?;
        let streams = [open(Stream::Stdout.file_name())?, open(Stream::Stderr.file_name())?];
        let dir = dir.to_owned();
        let mut reader = SpoolReader { dir, index, streams, header, ahead: Vec::new(), ahead_from: 0 };
        reader.look()?;
        Ok(reader)
    }

    /// The header as it was when something was read last.
    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// Reads the header again. A reader does so *after* it has read something else, which may have been a hole.
    fn look(&mut self) -> Result<(), OutputError> {
        let mut seen = self.read_header()?;
        // It may be read in the middle of being written.
        while seen != self.header {
            self.header = seen;
            seen = self.read_header()?;
        }
        Ok(())
    }

    fn read_header(&self) -> Result<Header, OutputError> {
        let header = Header::read(&self.index).map_err(|source| self.unread(INDEX, source))?;
        header.ok_or_else(|| self.wrong())
    }

    /// The row behind the first `at` rows; `None` where it is released. Further ones of the first `rows` rows, which may be
    /// read too, are read with it: rows that may be read never change until they are released.
    pub(super) fn row(&mut self, at: u64, rows: u64) -> Result<Option<Row>, OutputError> {
        if at < self.header.released {
            return Ok(None);
        }
        let (blocks, _) = self.ahead.as_chunks::<ROW>();
        let behind = at.checked_sub(self.ahead_from).and_then(|n| blocks.get(usize::try_from(n).ok()?));
        if let Some(block) = behind {
            return self.decode(block).map(Some);
        }
        let wanted = rows.saturating_sub(at).clamp(1, AHEAD) as usize;
        // Exactly as much: a reader that follows a job row by row holds one row.
        let mut ahead = vec![0; wanted * ROW];
        self.index.read_exact_at(&mut ahead, place(at)).map_err(|source| self.unread(INDEX, source))?;
        self.look()?;
        if at < self.header.released {
            return Ok(None);
        }
        (self.ahead, self.ahead_from) = (ahead, at);
        let first = self.ahead.first_chunk();
        first.map_or_else(|| Err(self.wrong()), |block| self.decode(block)).map(Some)
    }

    fn decode(&self, block: &[u8; ROW]) -> Result<Row, OutputError> {
        Row::decode(block).ok_or_else(|| self.wrong())
    }

    fn wrong(&self) -> OutputError {
        OutputError::Format { path: self.dir.join(INDEX) }
    }

    /// Bytes of a stream: how many of them are released, which are the first ones, and the others.
    pub(super) fn bytes(
        &mut self,
        stream: Stream,
        offset: u64,
        length: usize,
    ) -> Result<(usize, Vec<u8>), OutputError> {
        let before = released_of(&self.header, stream, offset, length);
        let mut bytes = vec![0; length - before];
        let file = &self.streams[stream.place()];
        let read = file.read_exact_at(&mut bytes, offset + before as u64);
        read.map_err(|source| self.unread(stream.file_name(), source))?;
        self.look()?;
        let now = released_of(&self.header, stream, offset, length);
        bytes.drain(..now.saturating_sub(before).min(bytes.len()));
        Ok((now.max(before), bytes))
    }

    fn unread(&self, name: &str, source: std::io::Error) -> OutputError {
        OutputError::Read { path: self.dir.join(name), source }
    }
}

/// The number of these bytes that are released.
fn released_of(header: &Header, stream: Stream, offset: u64, length: usize) -> usize {
    let released = header.end(stream).saturating_sub(offset);
    usize::try_from(released).unwrap_or(usize::MAX).min(length)
}

#[cfg(test)]
mod tests {
    use super::super::spool::{SpliceResult, SpoolWriter};
    use super::super::{Chunk, OutputReader};
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
        let mut reader = OutputReader::open(&spool, None).unwrap();
        let got: Vec<Chunk> = std::iter::from_fn(|| reader.next(writer.rows()).unwrap()).collect();
        assert_eq!(got, want);
        assert_eq!(reader.position(), 3);
    }

    /// A spool that version 1 has stored: every later version must read it.
    #[test]
    fn the_golden_spool_is_read() {
        let dir = Path::new("tests/golden/spool-1");
        let mut reader = OutputReader::open(dir, None).unwrap();
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
        let mut reader = OutputReader::open(dir, None).unwrap();
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
        assert!(matches!(OutputReader::open(dir.path(), None), Err(OutputError::Format { .. })));
    }
}
