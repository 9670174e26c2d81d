//! The part of a job's output that one reader wants, as a stream. A reader that has everything so far also learns when
//! the job begins to wait for room for its output, and when it goes on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Chunk, Full, JobHistory, LogCursor, LogQuery, OutputError, OutputReader, Watermark};
use crate::stream::{self, Next, Source};
use crate::sys::clock::now_ns;

/// An item of a reader's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogItem {
    /// A part of the output.
    Output(Chunk),
    /// A change between two parts of the output.
    Wait {
        /// The sequence of the part before.
        sequence: u64,
        /// The limit that the job waits for; none where it goes on.
        limit: Option<Full>,
    },
}

/// A cursor into a job's output with the watermark that moves it on.
#[derive(Debug)]
pub struct LogStream {
    dir: PathBuf,
    history: Option<JobHistory>,
    watermark: Arc<Watermark>,
    cursor: LogCursor,
    /// The sequence of the last part that the reader has, or the one before those that it wants.
    sequence: u64,
    /// The limit that the reader knows of. With each part of the output it learns that the job goes on.
    known: Option<Full>,
    /// Rows of a job that ended before this daemon started, once they were counted.
    stored: Option<u64>,
    /// Whether it is an error when nothing is known of the job.
    must_exist: bool,
}

impl LogStream {
    /// The wanted part of the spool in `dir`, which need not exist before the watermark has rows, and of the history.
    pub fn new(
        dir: PathBuf,
        history: Option<JobHistory>,
        watermark: Arc<Watermark>,
        query: LogQuery,
    ) -> Self {
        let sequence = query.from_sequence.saturating_sub(1);
        let cursor = LogCursor::new(dir.clone(), history.clone(), query);
        LogStream { dir, history, watermark, cursor, sequence, known: None, stored: None, must_exist: false }
    }

    /// Makes it an error when neither the spool nor the history knows the job.
    pub fn must_exist(mut self) -> Self {
        self.must_exist = true;
        self
    }

    /// The rows that may be read, and whether the output has ended. A watermark that has ended without a row is that
    /// of a job without output, or of one whose rows an earlier daemon published: the spool or the history has the answer,
    /// as it has for a job that a power cut has ended.
    fn look(&mut self) -> Result<(u64, bool), OutputError> {
        Ok(match (self.watermark.look(), self.stored) {
            ((_, true), Some(stored)) => (stored, true),
            ((seen, true), None) if seen == 0 || self.watermark.is_cut() => {
                if self.must_exist {
                    OutputReader::open(&self.dir, self.history.clone())?;
                }
                let stored = OutputReader::rows_stored(&self.dir, self.history.as_ref())?;
                (*self.stored.insert(stored.max(seen)), true)
            }
            (seen, _) => seen,
        })
    }
}

impl Source for LogStream {
    type Item = LogItem;
    type Error = OutputError;

    fn watermark(&self) -> &Arc<stream::Watermark> {
        self.watermark.rows()
    }

    fn wake_at(&self) -> Option<SystemTime> {
        let after = self.cursor.until_ns()?.saturating_add(1);
        Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(after).unwrap_or(0)))
    }

    fn next(&mut self) -> Result<Next<LogItem>, OutputError> {
        let (rows, ended) = self.look()?;
        let next = self.cursor.next(rows, ended, now_ns())?;
        match &next {
            Next::Item(chunk) => (self.sequence, self.known) = (chunk.sequence, None),
            Next::Pending => {
                let limit = self.watermark.waits();
                if std::mem::replace(&mut self.known, limit) != limit {
                    return Ok(Next::Item(LogItem::Wait { sequence: self.sequence, limit }));
                }
            }
            Next::Yield | Next::End => {}
        }
        Ok(next.map(LogItem::Output))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::super::history::tests::Kept;
    use super::super::{SpoolWriter, Stream};
    use super::*;

    /// A job's spool with the pipe that fills it.
    struct Bench {
        temp: tempfile::TempDir,
        pipe: (OwnedFd, OwnedFd),
        writer: SpoolWriter,
        watermark: Arc<Watermark>,
    }

    impl Bench {
        fn new() -> Bench {
            let temp = tempfile::tempdir().unwrap();
            let writer = SpoolWriter::create(&temp.path().join("job")).unwrap();
            let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
            Bench { temp, pipe, writer, watermark: Watermark::new() }
        }

        fn write(&mut self, text: &str) {
            rustix::io::write(&self.pipe.1, text.as_bytes()).unwrap();
            self.writer.splice_from(&self.pipe.0, Stream::Stdout, 65_536, 7).unwrap();
        }

        fn stream(&self, query: LogQuery) -> LogStream {
            LogStream::new(self.temp.path().join("job"), None, self.watermark.clone(), query)
        }
    }

    /// The items up to the first answer that is none, in words, and that answer.
    fn read(stream: &mut LogStream) -> (Vec<String>, Next<LogItem>) {
        let mut items = Vec::new();
        loop {
            match stream.next().unwrap() {
                Next::Item(LogItem::Output(chunk)) => items.push(String::from_utf8(chunk.bytes).unwrap()),
                Next::Item(LogItem::Wait { sequence, limit }) => items.push(format!("{sequence} {limit:?}")),
                Next::Yield => {}
                next => return (items, next),
            }
        }
    }

    #[test]
    fn output_of_an_earlier_daemons_job_is_counted_in_its_spool() {
        let mut bench = Bench::new();
        bench.watermark.end();
        let never_ran =
            LogStream::new("/absent".into(), None, bench.watermark.clone(), LogQuery::default()).next();
        assert_eq!(never_ran.unwrap(), Next::End);
        bench.write("one");
        bench.write("two");
        let (texts, next) = read(&mut bench.stream(LogQuery::default()));
        assert_eq!((texts, next), (vec!["one".into(), "two".into()], Next::End));
    }

    /// The spool is never synced: its index, or the ends of its files, may be gone.
    #[test]
    fn output_that_history_alone_has_after_a_power_cut_is_read() {
        for (rows, bytes) in [(0, 0), (3, 9), (3, 15), (0, 12), (5, 15), (6, 18)] {
            let mut b = Bench::new();
            let texts: Vec<String> = (0..6).map(|n| format!("{n}{n}\n")).collect();
            texts.iter().for_each(|text| b.write(text));
            let (kept, dir) = (Kept::default(), b.temp.path().join("job"));
            kept.store(&dir, 6);
            let cut = |name: &str, length| {
                std::fs::OpenOptions::new()
                    .write(true)
                    .open(dir.join(name))
                    .unwrap()
                    .set_len(length)
                    .unwrap();
            };
            cut("index", crate::output::spool::HEADER.len() as u64 + rows * crate::output::spool::ROW as u64);
            cut("stdout", bytes);
            b.watermark.publish(SpoolWriter::reopen(&dir).unwrap().rows());
            b.watermark.set_cut();
            b.watermark.end();
            let stream =
                || LogStream::new(dir.clone(), kept.open(), b.watermark.clone(), LogQuery::default());
            let all = || read(&mut stream());
            let seen = all();
            assert_eq!(
                (seen.0.concat(), seen.1),
                (texts.concat(), Next::End),
                "{rows} rows, {bytes} bytes left"
            );
            std::fs::remove_file(dir.join("index")).unwrap();
            let seen = all();
            assert_eq!((seen.0.concat(), seen.1), (texts.concat(), Next::End), "with history alone");
        }
    }

    #[test]
    fn reader_learns_at_once_that_a_job_waits_and_goes_on() {
        let mut bench = Bench::new();
        let mut stream = bench.stream(LogQuery::default());
        let woken = Arc::new(AtomicUsize::new(0));
        let count = woken.clone();
        let listener = bench.watermark.rows().listen(Box::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        }));
        let mut seen = |wakes: usize| {
            assert_eq!(woken.swap(0, Ordering::SeqCst), wakes, "notifications");
            listener.acknowledge();
            read(&mut stream)
        };
        bench.write("one");
        bench.watermark.publish(1);
        assert_eq!(seen(1), (vec!["one".into()], Next::Pending));
        bench.watermark.set_waits(Stream::Stdout, Some(Full::Job));
        assert_eq!(seen(1), (vec!["1 Some(Job)".into()], Next::Pending));
        // The job still waits for the same.
        bench.watermark.set_waits(Stream::Stderr, Some(Full::Job));
        bench.watermark.set_waits(Stream::Stderr, None);
        assert_eq!(seen(0), (vec![], Next::Pending));
        bench.watermark.set_waits(Stream::Stdout, None);
        assert_eq!(seen(1), (vec!["1 None".into()], Next::Pending));
        // Output says that it goes on; after it the reader learns anew that it waits.
        bench.watermark.set_waits(Stream::Stdout, Some(Full::All));
        assert_eq!(seen(1).0, ["1 Some(All)"]);
        bench.write("two");
        bench.watermark.publish(2);
        assert_eq!(seen(1).0, ["two", "2 Some(All)"]);
        // A reader of what is there ends, and learns nothing of this.
        let query = LogQuery { no_follow: true, from_sequence: 2, ..LogQuery::default() };
        assert_eq!(read(&mut bench.stream(query)), (vec!["two".into()], Next::End));
    }

    #[test]
    fn wait_before_the_first_output_keeps_the_place_that_is_wanted() {
        let mut bench = Bench::new();
        for text in ["one", "two", "three"] {
            bench.write(text);
        }
        bench.watermark.publish(3);
        bench.watermark.set_waits(Stream::Stdout, Some(Full::Disk));
        let query = LogQuery { from_sequence: 4, ..LogQuery::default() };
        assert_eq!(read(&mut bench.stream(query)).0, ["3 Some(Disk)"]);
    }

    #[test]
    fn job_that_only_the_history_may_know_is_found_or_not_found() {
        let mut b = Bench::new();
        b.write("one");
        b.write("two");
        let (kept, dir) = (Kept::default(), b.temp.path().join("job"));
        kept.store(&dir, 2);
        std::fs::remove_dir_all(&dir).unwrap();
        let watermark = Watermark::new();
        watermark.end();
        let stream = |history| {
            LogStream::new(dir.clone(), history, watermark.clone(), LogQuery::default()).must_exist()
        };
        let (mut found, mut texts) = (stream(kept.open()), Vec::new());
        loop {
            match found.next().unwrap() {
                Next::Item(LogItem::Output(chunk)) => texts.extend(chunk.bytes),
                Next::Yield => {}
                next => break assert_eq!(next, Next::End),
            }
        }
        assert_eq!(texts, b"onetwo");
        assert!(matches!(stream(None).next(), Err(OutputError::Read { .. })));
    }
}
