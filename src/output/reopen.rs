//! Writing on in a spool whose daemon has died.
//!
//! The streams' files hold the truth. The index may lack the bytes that were moved last, may end in the middle of a
//! row, and after a power cut may describe bytes that never reached the disk. So its rows are valid up to the first one
//! that does not fit, and everything in the files behind those gets new rows.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::header::Header;
use super::row::{HEADER, INDEX, ROW, Row, Span, place};
use super::spool::{CHUNK, SpoolWriter, Tail};
use super::{OutputError, Stream};

impl SpoolWriter {
    /// Opens the spool of an unfinished job behind its last byte and reads the whole index. Bytes without a row get one,
    /// with the time at which their file was last written. No byte is lost or doubled, and sequences continue.
    ///
    /// # Errors
    /// The file that could not be opened, read or written, or an index of another version.
    pub fn reopen(dir: &Path) -> Result<Self, OutputError> {
        let open = |name: &str| {
            let path = dir.join(name);
            // A daemon that died while it created the spool has not created every file.
            let mut options = OpenOptions::new();
            let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
            opened
                .and_then(|file| file.metadata().map(|meta| (file, meta)))
                .map_err(|source| OutputError::Reopen { path, source })
        };
        let tail = |stream: Stream| {
            let (file, meta) = open(stream.file_name())?;
            Ok((Tail { file, end: meta.len(), noted: 0 }, modified_ns(&meta)))
        };
        let (index, meta) = open(INDEX)?;
        let path = dir.join(INDEX);
        let failed = |source| OutputError::Reopen { path: path.clone(), source };
        let Some(header) = header(&index, &meta).map_err(failed)? else {
            return Err(OutputError::Format { path });
        };
        let (stdout, stderr) = (tail(Stream::Stdout)?, tail(Stream::Stderr)?);
        let mut times = [(stdout.1, Stream::Stdout), (stderr.1, Stream::Stderr)];
        times.sort_by_key(|(time_ns, _)| *time_ns);
        let (streams, rows) = ([stdout.0, stderr.0], header.released);
        let mut spool =
            SpoolWriter { streams, index, rows, gaps: Default::default(), header, has_holes: true };
        let recovered = spool.pass_released().and_then(|()| spool.read_index()).and_then(|()| {
            // The stream that was written first comes first.
            times.into_iter().try_for_each(|(time_ns, stream)| spool.note(stream, time_ns).map(drop))
        });
        recovered.map_err(failed)?;
        Ok(spool)
    }

    /// Begins each stream behind its released bytes. A power cut may have taken some of those from the file: what follows
    /// keeps its offsets.
    fn pass_released(&mut self) -> io::Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let released = self.header.end(stream);
            let tail = &mut self.streams[stream.place()];
            tail.noted = released;
            if tail.end < released {
                tail.file.set_len(released)?;
                tail.end = released;
            }
        }
        Ok(())
    }

    /// Takes over the rows that fit to each other and to the streams' files, and truncates the index behind them.
    fn read_index(&mut self) -> io::Result<()> {
        let mut blocks = vec![0; CHUNK];
        'index: loop {
            let read = self.index.read_at(&mut blocks, place(self.rows))?;
            let (rows, _torn) = blocks[..read].as_chunks::<ROW>();
            if rows.is_empty() {
                break;
            }
            for block in rows {
                let Some(row) = Row::decode(block) else { break 'index };
                let tail = &mut self.streams[row.stream.place()];
                let length = match row.span {
                    Span::Bytes { offset, length } if offset == tail.noted => u64::from(length),
                    Span::Bytes { .. } => break 'index,
                    Span::Lost(_) => 0,
                };
                if row.sequence != self.rows + 1 || length > tail.end - tail.noted {
                    break 'index;
                }
                tail.noted += length;
                self.rows += 1;
            }
        }
        self.index.set_len(place(self.rows))
    }
}

/// The header of an index of version 1; `None` for another file. A partial header is completed.
fn header(mut index: &File, meta: &Metadata) -> io::Result<Option<Header>> {
    let Some(header) = Header::read(index)? else { return Ok(None) };
    if meta.len() < HEADER.len() as u64 {
        index.write_all(&header.encode())?;
    }
    Ok(Some(header))
}

fn modified_ns(meta: &Metadata) -> i64 {
    meta.mtime() * 1_000_000_000 + meta.mtime_nsec()
}

#[cfg(test)]
mod tests {
    use super::super::spool::SpliceResult;
    use super::super::{Chunk, OutputReader};
    use super::*;
    use proptest::prelude::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::fs;

    const NOW: i64 = 1_800_000_000_000_000_000;

    /// Writes bytes through a pipe, as a job does.
    fn splice(spool: &mut SpoolWriter, stream: Stream, bytes: &[u8]) {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        rustix::io::write(&write, bytes).unwrap();
        assert_eq!(spool.splice_from(&read, stream, CHUNK, NOW).unwrap(), SpliceResult::Moved(bytes.len()));
    }

    fn chunks(dir: &Path, rows: u64) -> Vec<Chunk> {
        let mut reader = OutputReader::open(dir, None).unwrap();
        std::iter::from_fn(|| reader.next(rows).unwrap()).collect()
    }

    fn of(chunks: &[Chunk], stream: Stream) -> Vec<u8> {
        chunks.iter().filter(|chunk| chunk.stream == stream).flat_map(|chunk| chunk.bytes.clone()).collect()
    }

    fn stream(is_stderr: bool) -> Stream {
        if is_stderr { Stream::Stderr } else { Stream::Stdout }
    }

    fn cut(path: &Path, share: f64) {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_len((file.metadata().unwrap().len() as f64 * share) as u64).unwrap();
    }

    /// Cuts that are mostly none, as when only the daemon died.
    fn share() -> impl Strategy<Value = f64> {
        prop_oneof![2 => Just(1.0), 3 => 0.0..1.0f64]
    }

    proptest! {
        #[test]
        fn spool_cut_anywhere_is_read_once_and_in_order_after_reopen(
            before in prop::collection::vec((any::<bool>(), 1usize..5000), 0..40),
            after in prop::collection::vec((any::<bool>(), 1usize..5000), 0..10),
            shares in (share(), share(), share()),
        ) {
            let temp = tempfile::tempdir().unwrap();
            let dir = temp.path().join("job");
            let mut spool = SpoolWriter::create(&dir).unwrap();
            for (n, (is_stderr, length)) in before.into_iter().enumerate() {
                splice(&mut spool, stream(is_stderr), &vec![n as u8; length]);
            }
            drop(spool);
            for (name, share) in [(INDEX, shares.0), ("stdout", shares.1), ("stderr", shares.2)] {
                cut(&dir.join(name), share);
            }
            let left = ["stdout", "stderr"].map(|name| fs::read(dir.join(name)).unwrap());
            let mut spool = SpoolWriter::reopen(&dir).unwrap();
            let recovered = chunks(&dir, spool.rows());
            prop_assert_eq!(&of(&recovered, Stream::Stdout), &left[0]);
            prop_assert_eq!(&of(&recovered, Stream::Stderr), &left[1]);
            let mut want = left;
            for (is_stderr, length) in after {
                splice(&mut spool, stream(is_stderr), &vec![0xaa; length]);
                want[usize::from(is_stderr)].extend(vec![0xaa; length]);
            }
            let all = chunks(&dir, spool.rows());
            prop_assert_eq!(&all[..recovered.len()], &recovered[..], "rows changed after they were published");
            prop_assert_eq!(of(&all, Stream::Stdout), &want[0][..]);
            prop_assert_eq!(of(&all, Stream::Stderr), &want[1][..]);
            prop_assert!(all.iter().enumerate().all(|(n, chunk)| chunk.sequence == n as u64 + 1));
            prop_assert!(all.iter().all(|chunk| chunk.bytes.len() <= CHUNK));
        }
    }

    #[test]
    fn bytes_without_a_row_get_chunk_sized_rows_with_the_file_time() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("job");
        let mut spool = SpoolWriter::create(&dir).unwrap();
        splice(&mut spool, Stream::Stdout, b"noted");
        drop(spool);
        let lost = vec![7; 2 * CHUNK + 1];
        let path = dir.join("stdout");
        OpenOptions::new().append(true).open(&path).unwrap().write_all(&lost).unwrap();
        let spool = SpoolWriter::reopen(&dir).unwrap();
        let got = chunks(&dir, spool.rows());
        let lengths: Vec<usize> = got.iter().map(|chunk| chunk.bytes.len()).collect();
        assert_eq!(lengths, [5, CHUNK, CHUNK, 1]);
        let modified = modified_ns(&fs::metadata(&path).unwrap());
        assert_eq!(got[0].time_ns, NOW);
        assert!(got[1..].iter().all(|chunk| chunk.time_ns == modified));
    }

    #[test]
    fn a_spool_of_another_version_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let foreign = b"JOBLET SPOOL INDEX 9\n\0\0\0\0\0\0\0\0\0\0\0and rows";
        fs::write(dir.path().join(INDEX), foreign).unwrap();
        assert!(matches!(SpoolWriter::reopen(dir.path()), Err(OutputError::Format { .. })));
        assert_eq!(fs::read(dir.path().join(INDEX)).unwrap(), foreign);
        let missing = SpoolWriter::reopen(&dir.path().join("none")).unwrap_err();
        assert!(missing.to_string().contains("cannot go on with the spool"), "{missing}");
    }
}
