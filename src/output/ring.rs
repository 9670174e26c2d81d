//! A spool without a store behind it that is to be bounded: it keeps the end of the output only, for readers of a running
//! job. The collector itself releases the oldest rows, and nobody has them then. A reader that comes too late gets a gap
//! that counts them.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use log::Level;

use super::header::Header;
use super::release::{PAGE, has_holes, punch, remove, walk};
use super::row::{INDEX, Row, place};
use super::spool::SpoolWriter;
use super::{OutputError, Stream};
use crate::diag;

impl SpoolWriter {
    /// Whether it drops its oldest rows rather than wait.
    pub(super) fn gives_way(&self) -> bool {
        self.header.is_ring && self.has_holes
    }

    /// Takes the oldest rows out of a ring so that it keeps at most `keep` bytes, when it has a quarter more than that. A file
    /// system without holes keeps all, and the limits of the spool count it.
    ///
    /// # Errors
    /// The error of the disk. Nothing but rows that were to go is lost.
    pub(super) fn trim(&mut self, keep: u64) -> io::Result<()> {
        let (bytes, rows) = (self.bytes(), self.rows());
        let kept = |header: &Header| bytes.saturating_sub(header.bytes());
        if !self.gives_way() || kept(&self.header) <= keep + keep / 4 {
            return Ok(());
        }
        self.has_holes = has_holes(&self.index)?;
        if !self.has_holes {
            diag::limited!(
                Level::Warn,
                "the file system has no holes: live output is kept until its job ends"
            );
            return Ok(());
        }
        let goes = |row: &Row, before: &Header| row.sequence <= rows && kept(before) > keep;
        let header = walk(&self.index, self.header, goes)?;
        // Not synced: no job outlives a power cut.
        self.index.write_all_at(&header.encode(), 0)?;
        self.header = header;
        for stream in [Stream::Stdout, Stream::Stderr] {
            punch(&self.streams[stream.place()].file, 0, header.end(stream))?;
        }
        punch(&self.index, PAGE, place(header.released))
    }
}

/// Removes the files of a spool that is a ring, whose job has ended, and returns whether it was one. Readers that have
/// opened them read on.
///
/// # Errors
/// The file that could not be read or removed.
pub fn remove_ring(dir: &Path) -> Result<bool, OutputError> {
    let path = dir.join(INDEX);
    let header = fs::File::open(&path).and_then(|index| Header::read(&index));
    match header {
        Ok(Some(header)) if header.is_ring => remove(dir).map(|()| true),
        Ok(_) => Ok(false),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(OutputError::Read { path, source }),
    }
}

/// The bytes of a spool's files that are not released.
#[cfg(test)]
pub(super) fn bytes_kept(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let all: u64 = files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
    let header = fs::File::open(dir.join(INDEX)).and_then(|index| Header::read(&index));
    all.saturating_sub(header.ok().flatten().map_or(0, |header| header.bytes()))
}

#[cfg(test)]
mod tests {
    use super::super::spool::CHUNK;
    use super::super::{Chunk, OutputReader};
    use super::*;
    use proptest::prelude::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::os::unix::fs::MetadataExt;

    const KEEP: u64 = 20_000;

    fn write(ring: &mut SpoolWriter, stream: Stream, bytes: &[u8]) {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        rustix::io::write(&write, bytes).unwrap();
        ring.splice_from(&read, stream, CHUNK, 7).unwrap();
        ring.trim(KEEP).unwrap();
    }

    fn read(dir: &Path, rows: u64) -> Vec<Chunk> {
        let mut reader = OutputReader::open(dir, None).unwrap();
        std::iter::from_fn(|| reader.next(rows).unwrap()).collect()
    }

    /// The length of a stream's output, and its bytes behind the part that is missing.
    fn of(chunks: &[Chunk], stream: Stream) -> (u64, Vec<u8>) {
        let mine: Vec<&Chunk> = chunks.iter().filter(|chunk| chunk.stream == stream).collect();
        let lost: u64 = mine.iter().map(|chunk| chunk.lost).sum();
        let bytes = mine.iter().flat_map(|chunk| chunk.bytes.clone()).collect::<Vec<u8>>();
        (lost + bytes.len() as u64, bytes)
    }

    #[test]
    fn ring_goes_with_its_job_and_another_spool_does_not() {
        let temp = tempfile::tempdir().unwrap();
        let dirs = ["ring", "spool"].map(|name| temp.path().join(name));
        let mut ring = SpoolWriter::create_ring(&dirs[0]).unwrap();
        let mut spool = SpoolWriter::create(&dirs[1]).unwrap();
        for _ in 0..10 {
            write(&mut ring, Stream::Stdout, &[7; 8000]);
            write(&mut spool, Stream::Stdout, &[7; 8000]);
        }
        assert_eq!((spool.released_bytes(), bytes_kept(&dirs[1])), (0, spool.bytes()));
        assert!(ring.is_ring() && bytes_kept(&dirs[0]) <= KEEP + KEEP / 4);
        let mut late = OutputReader::open(&dirs[0], None).unwrap();
        for dir in &dirs {
            remove_ring(dir).unwrap();
            remove_ring(dir).unwrap();
        }
        assert!(late.next(10).unwrap().is_some_and(|gap| gap.lost > 0) && late.next(10).unwrap().is_some());
        assert_eq!(read(&dirs[0], 10), []);
        assert_eq!(read(&dirs[1], 10).len(), 10);
    }

    proptest! {
        #[test]
        fn ring_is_bounded_and_counts_what_it_drops(
            rows in prop::collection::vec((any::<bool>(), 1usize..9000), 0..80),
            kill_at in 0usize..80,
        ) {
            let temp = tempfile::tempdir().unwrap();
            let dir = temp.path().join("job");
            let mut ring = SpoolWriter::create_ring(&dir).unwrap();
            let mut follower = OutputReader::open(&dir, None).unwrap();
            let (mut followed, mut want) = (Vec::new(), [Vec::new(), Vec::new()]);
            for (n, (is_stderr, length)) in rows.into_iter().enumerate() {
                let stream = if is_stderr { Stream::Stderr } else { Stream::Stdout };
                let bytes = vec![n as u8 + 1; length];
                write(&mut ring, stream, &bytes);
                want[stream.place()].extend(bytes);
                if n == kill_at {
                    ring = SpoolWriter::reopen(&dir).unwrap();
                    prop_assert!(ring.is_ring());
                }
                prop_assert!(ring.bytes() - ring.released_bytes() <= KEEP + KEEP / 4);
                if n % 7 == 0 {
                    followed.extend(follower.next(ring.rows()).unwrap());
                }
            }
            followed.extend(std::iter::from_fn(|| follower.next(ring.rows()).unwrap()));
            for chunks in [read(&dir, ring.rows()), followed] {
                for stream in [Stream::Stdout, Stream::Stderr] {
                    let (all, _) = of(&chunks, stream);
                    let want = &want[stream.place()];
                    prop_assert_eq!(all, want.len() as u64);
                }
            }
            let (_, end) = of(&read(&dir, ring.rows()), Stream::Stdout);
            prop_assert!(want[0].ends_with(&end));
            let blocks: u64 = ["index", "stdout", "stderr"].iter()
                .map(|name| fs::metadata(dir.join(name)).unwrap().blocks() * 512).sum();
            prop_assert!(blocks <= KEEP + KEEP / 4 + 10 * PAGE, "{} bytes on the disk", blocks);
        }
    }
}
