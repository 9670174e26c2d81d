//! Reading a job's spool through the descriptors that the daemon handed over.
//!
//! They are for reading only, and their files may be cut or punched at any time, so they are never mapped: pread(2) at
//! worst answers less, or zeros below what the daemon has released, which is never read here.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::FileType;

use super::PersistError;
use super::frame::Files;
use crate::output::spool::{HEADER, ROW, Row, Span};
use crate::output::{Header, Stream};

/// Rows of the index that are read at once.
const AHEAD: u64 = 512;
/// Most bytes of one row: earlier versions of the spool wrote such rows.
const LONGEST: u32 = 64 << 10;
/// Bytes of samples that are read at once. A line has some two thousand.
const LINES: usize = 64 << 10;

/// The files of both streams.
type Streams = [Option<Arc<File>>; 2];

/// Looks how long the files of both streams are, without reading them.
#[derive(Debug, Clone, Default)]
pub(super) struct SpoolLength(Streams);

impl SpoolLength {
    /// The length of this file alone.
    #[cfg(test)]
    pub(super) fn of(file: File) -> SpoolLength {
        SpoolLength([Some(Arc::new(file)), None])
    }

    /// Bytes of both files.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().flatten().filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
    }
}

/// The files of one job's spool.
#[derive(Debug)]
pub(super) struct SpoolSource {
    index: File,
    streams: Streams,
    samples: Option<File>,
    /// Rows that were read ahead, the first of them behind `ahead_from` rows.
    ahead: Vec<u8>,
    ahead_from: u64,
    bytes: Vec<u8>,
}

impl SpoolSource {
    /// The files behind these descriptors, in the order of the set.
    ///
    /// # Errors
    /// Fewer descriptors than the set has, or one that is no regular file.
    pub(super) fn new(files: Files, descriptors: Vec<OwnedFd>) -> Result<SpoolSource, PersistError> {
        if descriptors.len() != files.count() {
            return Err(PersistError::Spool(io::Error::other("descriptors are missing")));
        }
        for descriptor in &descriptors {
            let stat = rustix::fs::fstat(descriptor).map_err(|why| PersistError::Spool(why.into()))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(PersistError::Frame("a descriptor of a spool is no regular file".into()));
            }
        }
        let mut rest = descriptors.into_iter().map(File::from);
        let mut next = |file| if files.has(file) { rest.next() } else { None };
        let index = next(Files::INDEX).ok_or_else(|| PersistError::Frame("a spool has an index".into()))?;
        let streams = [next(Files::STDOUT).map(Arc::new), next(Files::STDERR).map(Arc::new)];
        let samples = next(Files::SAMPLES);
        Ok(SpoolSource { index, streams, samples, ahead: Vec::new(), ahead_from: 0, bytes: Vec::new() })
    }

    /// The length of both streams' files, also later.
    pub(super) fn length(&self) -> SpoolLength {
        SpoolLength(self.streams.clone())
    }

    /// The row behind the first `at` of `rows` rows, with its bytes. A gap has none.
    ///
    /// # Errors
    /// The index or a stream's file cannot be read, or is no spool's.
    pub(super) fn row(&mut self, at: u64, rows: u64) -> Result<(Row, &[u8]), PersistError> {
        let row = self.row_at(at, rows)?;
        if row.sequence != at + 1 {
            return Err(PersistError::Spool(io::Error::other("a row of the index has another's sequence")));
        }
        let Span::Bytes { offset, length } = row.span else { return Ok((row, &[])) };
        if length > LONGEST {
            return Err(PersistError::Spool(io::Error::other("a row of the index is too long")));
        }
        let place = usize::from(row.stream == Stream::Stderr);
        let missing = || PersistError::Spool(io::ErrorKind::NotFound.into());
        let file = self.streams[place].as_ref().ok_or_else(missing)?;
        self.bytes.resize(length as usize, 0);
        file.read_exact_at(&mut self.bytes, offset).map_err(PersistError::Spool)?;
        Ok((row, &self.bytes))
    }

    fn row_at(&mut self, at: u64, rows: u64) -> Result<Row, PersistError> {
        let wrong = || PersistError::Spool(io::Error::other("the index has something that is no row"));
        let cached = at.checked_sub(self.ahead_from).and_then(|n| usize::try_from(n).ok());
        let (blocks, _) = self.ahead.as_chunks::<ROW>();
        if let Some(block) = cached.and_then(|n| blocks.get(n)) {
            return Row::decode(block).ok_or_else(wrong);
        }
        let wanted = rows.saturating_sub(at).clamp(1, AHEAD) as usize;
        self.ahead.resize(wanted * ROW, 0);
        let place = HEADER.len() as u64 + at * ROW as u64;
        let read = self.index.read_exact_at(&mut self.ahead, place);
        if let Err(why) = read {
            self.ahead.clear();
            return Err(PersistError::Spool(why));
        }
        self.ahead_from = at;
        self.ahead.first_chunk().and_then(Row::decode).ok_or_else(wrong)
    }

    /// The header of the index now: it says which rows are gone before they go.
    ///
    /// # Errors
    /// The index cannot be read, or is no spool's.
    pub(super) fn header(&self) -> Result<Header, PersistError> {
        let header = Header::read(&self.index).map_err(PersistError::Spool)?;
        header.ok_or_else(|| PersistError::Spool(io::Error::other("the index is no spool's any more")))
    }

    /// The number of rows before the first one behind `from` that `is_stored` does not accept, or that is not there. It
    /// reads the index alone.
    pub(super) fn stored_rows(&mut self, from: u64, is_stored: impl Fn(&Row) -> bool) -> u64 {
        let length = self.index.metadata().map_or(0, |meta| meta.len());
        let rows = length.saturating_sub(HEADER.len() as u64) / ROW as u64;
        let mut at = from;
        // A row that cannot be read was released meanwhile, or torn by a power cut.
        while at < rows && self.row_at(at, rows).is_ok_and(|row| row.sequence == at + 1 && is_stored(&row)) {
            at += 1;
        }
        self.forget();
        at
    }

    /// Forgets rows that were read ahead: they may be other ones now.
    pub(super) fn forget(&mut self) {
        self.ahead.clear();
    }

    /// Whole lines of samples between two places of their file, without what follows the last line feed.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn lines(&self, from: u64, to: u64) -> Result<Vec<u8>, PersistError> {
        let Some(samples) = &self.samples else { return Ok(Vec::new()) };
        let mut lines = Vec::new();
        let mut at = from;
        // A line may be longer than what is read at once.
        while at < to {
            let size = usize::try_from(to - at).unwrap_or(LINES).min(LINES);
            let old = lines.len();
            lines.resize(old + size, 0);
            let read = samples.read_at(&mut lines[old..], at).map_err(PersistError::Spool)?;
            lines.truncate(old + read);
            at += read as u64;
            if read == 0 || lines.contains(&b'\n') {
                break;
            }
        }
        let whole = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        lines.truncate(whole);
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;
    use crate::output::SpoolWriter;

    #[test]
    fn rows_and_lines_are_read_through_descriptors() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("job");
        let mut spool = SpoolWriter::create(&dir).unwrap();
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        for (n, stream) in [Stream::Stdout, Stream::Stderr, Stream::Stdout].into_iter().enumerate() {
            rustix::io::write(&write, &vec![n as u8; 100 + n]).unwrap();
            spool.splice_from(&read, stream, 65_536, 5).unwrap();
        }
        std::fs::write(dir.join("metrics.jsonl"), "{\"a\":1}\n{\"b\":2}\n{\"half").unwrap();
        let files = Files::INDEX.with(Files::STDOUT).with(Files::STDERR).with(Files::SAMPLES);
        let open = |name| OwnedFd::from(File::open(dir.join(name)).unwrap());
        let names = ["index", "stdout", "stderr", "metrics.jsonl"];
        let mut source = SpoolSource::new(files, names.map(open).into()).unwrap();
        assert_eq!(source.length().bytes(), 303);
        for n in 0..3 {
            let (row, bytes) = source.row(n, 3).unwrap();
            assert_eq!((row.sequence, bytes), (n + 1, &vec![n as u8; 100 + n as usize][..]));
        }
        assert!(source.row(3, 4).is_err());
        assert_eq!(source.lines(0, 22).unwrap(), b"{\"a\":1}\n{\"b\":2}\n");
        assert_eq!(source.lines(8, 22).unwrap(), b"{\"b\":2}\n");
        assert_eq!(source.lines(16, 22).unwrap(), b"");
        assert!(SpoolSource::new(files, ["index", "stdout"].map(open).into()).is_err());
    }

    #[test]
    fn descriptor_of_something_else_than_a_file_is_refused() {
        let (socket, _other) = UnixStream::pair().unwrap();
        assert!(SpoolSource::new(Files::INDEX, vec![socket.into()]).is_err());
    }
}
