//! The part of a job's output that one reader wants, as a stream.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::spool::rows_stored;
use super::{Chunk, LogCursor, LogQuery, OutputError, Watermark};
use crate::stream::{self, Next, Source};
use crate::sys::clock::now_ns;

/// A cursor into a job's output with the watermark that moves it on.
#[derive(Debug)]
pub struct LogStream {
    dir: PathBuf,
    rows: Arc<stream::Watermark>,
    cursor: LogCursor,
    /// Rows of a job that ended before this daemon started, once they were counted.
    stored: Option<u64>,
}

impl LogStream {
    /// The wanted part of the spool in `dir`, which need not exist before the watermark has rows.
    pub fn new(dir: PathBuf, watermark: &Watermark, query: LogQuery) -> Self {
        let cursor = LogCursor::new(dir.clone(), query);
        LogStream { dir, rows: watermark.rows().clone(), cursor, stored: None }
    }

    /// The rows that may be read, and whether the output has ended. A watermark that has ended without a row is that
    /// of a job without output, or of one whose rows an earlier daemon published: the spool has the answer.
    fn look(&mut self) -> (u64, bool) {
        match self.rows.look() {
            (0, true) => (*self.stored.get_or_insert_with(|| rows_stored(&self.dir)), true),
            seen => seen,
        }
    }
}

impl Source for LogStream {
    type Item = Chunk;
    type Error = OutputError;

    fn watermark(&self) -> &Arc<stream::Watermark> {
        &self.rows
    }

    fn wake_at(&self) -> Option<SystemTime> {
        let after = self.cursor.until_ns()?.saturating_add(1);
        Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(after).unwrap_or(0)))
    }

    fn next(&mut self) -> Result<Next<Chunk>, OutputError> {
        let (rows, ended) = self.look();
        self.cursor.next(rows, ended, now_ns())
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::super::{SpoolWriter, Stream};
    use super::*;

    #[test]
    fn output_of_an_earlier_daemons_job_is_counted_in_its_spool() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("job");
        let watermark = Watermark::new();
        watermark.end();
        let never_ran = LogStream::new(dir.clone(), &watermark, LogQuery::default()).next();
        assert_eq!(never_ran.unwrap(), Next::End);
        let mut writer = SpoolWriter::create(&dir).unwrap();
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        for text in ["one", "two"] {
            rustix::io::write(&write, text.as_bytes()).unwrap();
            writer.splice_from(&read, Stream::Stdout, 65_536, 7).unwrap();
        }
        let mut stream = LogStream::new(dir, &watermark, LogQuery::default());
        let mut texts = Vec::new();
        loop {
            match stream.next().unwrap() {
                Next::Item(chunk) => texts.push(String::from_utf8(chunk.bytes).unwrap()),
                Next::Yield => {}
                next => break assert_eq!(next, Next::End),
            }
        }
        assert_eq!(texts, ["one", "two"]);
    }
}
