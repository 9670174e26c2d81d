//! The cursor of one reader into the part of a job's output that it wants.
//!
//! Without a filter or a tail the bytes of each row pass as they are. With one, each row yields the wanted lines
//! ([`lines`]) that end in it. For a range of times or sequences only the rows in it are read: a binary search in the
//! index finds them. The cursor works in small steps, so that one reader's rare word does not delay others, and in
//! bounded memory whatever the job printed: a row and a line of each stream.
//!
//! [`lines`]: super::lines

use std::path::PathBuf;

use super::cutter::Cutter;
use super::lines::{LONGEST, Lines};
use super::query::LogQuery;
use super::row::Row;
use super::tail::Count;
use super::{Chunk, JobHistory, OutputError, OutputReader, Stream};
use crate::stream::Next;

/// Rows that are skipped in one step.
const STEP: usize = 256;

/// A cursor into the wanted part of a job's output.
#[derive(Debug)]
pub struct LogCursor {
    dir: PathBuf,
    /// The history that has the rows that the spool has released.
    history: Option<JobHistory>,
    query: LogQuery,
    stage: Stage,
    /// The row at which the output ended at first.
    edge: u64,
    /// The cutter into lines, for a filter or a tail.
    lines: Option<Cutter>,
    /// Chunks that follow the current one: the beginnings of two lines and a gap, at most.
    behind: Vec<Chunk>,
    /// Streams of a tail whose first row is still to come: the line in it is shown whole.
    unbegun: [bool; 2],
    /// The time of the last row, ns since the epoch.
    time_ns: i64,
    /// Whether the reader of a tail must still get the position at which the tail ends.
    owes_position: bool,
}

#[derive(Debug)]
enum Stage {
    /// No row exists yet, and the spool may not either.
    Before,
    /// The search for the first line of the tail is under way.
    Count(OutputReader, Count),
    Read(OutputReader),
    Ended,
}

impl LogCursor {
    /// A cursor into the spool in `dir`, which need not exist before there are rows, and into the job's history.
    pub fn new(dir: PathBuf, history: Option<JobHistory>, query: LogQuery) -> Self {
        let lines = (query.filter.is_some() || query.tail.is_some()).then(Cutter::default);
        let owes_position = query.tail.is_some();
        LogCursor {
            dir,
            history,
            query,
            stage: Stage::Before,
            edge: 0,
            lines,
            behind: Vec::new(),
            unbegun: [false; 2],
            time_ns: 0,
            owes_position,
        }
    }

    /// The time after which nothing is wanted any more, ns since the epoch.
    pub fn until_ns(&self) -> Option<i64> {
        self.query.until_ns
    }

    /// The next chunk. The reader may read `rows` rows, and more will come unless the output has `ended`.
    ///
    /// # Errors
    /// The file that could not be read.
    pub fn next(&mut self, rows: u64, ended: bool, now_ns: i64) -> Result<Next<Chunk>, OutputError> {
        if !self.behind.is_empty() {
            return Ok(Next::Item(self.behind.remove(0)));
        }
        let last = ended || self.query.no_follow || self.query.is_past(now_ns);
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Before if rows == 0 && !last => {
                self.stage = Stage::Before;
                Ok(self.idle(0))
            }
            Stage::Before if rows == 0 => Ok(Next::End),
            Stage::Before => self.begin(rows),
            Stage::Count(mut reader, mut count) => {
                self.stage = match count.step(&mut reader, &self.query)? {
                    None => Stage::Count(reader, count),
                    Some((start, skip)) => self.start(reader, start, skip),
                };
                Ok(Next::Yield)
            }
            Stage::Read(reader) => {
                let rows = if self.query.no_follow { self.edge } else { rows };
                self.read(reader, rows, last)
            }
            Stage::Ended => Ok(Next::End),
        }
    }

    fn begin(&mut self, rows: u64) -> Result<Next<Chunk>, OutputError> {
        let mut reader = OutputReader::open(&self.dir, self.history.clone())?;
        // The end first: then the history has the part in memory with which the reader begins.
        // Without a tail the first row that is too new ends the reading, so nobody needs to know where it is.
        self.edge = match (self.query.until_ns, self.query.tail) {
            (Some(until), Some(_)) => reader.older(rows, until.saturating_add(1))?,
            _ => rows,
        };
        let mut start = self.query.from_sequence.saturating_sub(1);
        if let Some(since) = self.query.since_ns {
            start = start.max(reader.older(rows, since)?);
        }
        self.stage = match self.query.tail {
            Some(lines) if start < self.edge => Stage::Count(reader, Count::new(start, self.edge, lines)),
            _ => self.start(reader, start, 0),
        };
        Ok(Next::Yield)
    }

    fn start(&mut self, mut reader: OutputReader, start: u64, skip: u64) -> Stage {
        reader.seek(start);
        if self.query.filter.is_none() && skip == 0 {
            // The tail is all output.
            self.lines = None;
        }
        if let Some(cutter) = &mut self.lines {
            cutter.skip = skip;
        }
        Stage::Read(reader)
    }

    fn read(&mut self, mut reader: OutputReader, rows: u64, last: bool) -> Result<Next<Chunk>, OutputError> {
        for _ in 0..STEP {
            let at = reader.position();
            if at >= self.edge && self.is_skipping() {
                self.skip_open_lines();
                return Ok(self.again(reader, Next::Yield));
            }
            if at >= rows {
                if last {
                    return Ok(self.end(at));
                }
                let next = self.idle(at);
                return Ok(self.again(reader, next));
            }
            let Some(row) = reader.take(rows)? else { continue };
            if self.query.is_past(row.time_ns) {
                return Ok(self.end(at));
            }
            if self.query.wants(&row) {
                self.time_ns = row.time_ns;
                let shown = match &mut self.lines {
                    None => Some(self.whole(&mut reader, row, at)?),
                    Some(_) => self.cut(&mut reader, row)?,
                };
                return Ok(self.again(reader, shown.map_or(Next::Yield, Next::Item)));
            }
        }
        Ok(self.again(reader, Next::Yield))
    }

    /// A row as it is. The first one of a tail follows the beginning of its line.
    fn whole(&mut self, reader: &mut OutputReader, row: Row, at: u64) -> Result<Chunk, OutputError> {
        let mut chunk = reader.chunk(row)?;
        if std::mem::take(&mut self.unbegun[row.stream.place()]) && at < self.edge {
            let mut lines = Lines::default();
            lines.begin(row.stream, &reader.before(&row, LONGEST - 1)?);
            chunk.bytes.splice(..0, lines.take(row.stream).unwrap_or_default());
        }
        Ok(chunk)
    }

    fn again(&mut self, reader: OutputReader, next: Next<Chunk>) -> Next<Chunk> {
        self.stage = Stage::Read(reader);
        next
    }

    /// No chunk until more rows come. The first time behind a tail, an empty chunk carries the number of rows read so far.
    /// A tail is a part of the output that existed at first, so a reader that loses its stream continues behind those rows
    /// and does not request a tail of the output that exists by then.
    fn idle(&mut self, rows: u64) -> Next<Chunk> {
        if !std::mem::take(&mut self.owes_position) {
            return Next::Pending;
        }
        Next::Item(Chunk {
            sequence: rows,
            stream: Stream::Stdout,
            time_ns: self.time_ns,
            bytes: Vec::new(),
            lost: 0,
        })
    }

    fn is_skipping(&self) -> bool {
        self.lines.as_ref().is_some_and(|cutter| cutter.skip > 0)
    }

    /// The wanted lines that end in a row, and the row's gap.
    fn cut(&mut self, reader: &mut OutputReader, row: Row) -> Result<Option<Chunk>, OutputError> {
        let Some(cutter) = &mut self.lines else { return Ok(None) };
        let (mut skip, mut bytes) = (cutter.skip, Vec::new());
        let chunk = cutter.push(reader, row, &self.query, |line| {
            if skip > 0 { skip -= 1 } else { bytes.extend_from_slice(line) }
        })?;
        cutter.skip = skip;
        let lost = if skip > 0 { 0 } else { chunk.lost };
        let Chunk { sequence, stream, time_ns, .. } = chunk;
        if skip == 0 && self.query.filter.is_none() {
            // The tail has begun and has no filter, so lines no longer matter.
            self.show_open_lines(sequence);
            // In one chunk, because a reader that loses its stream continues behind whole rows.
            if let Some(at) = self.behind.iter().position(|open| open.stream == stream) {
                bytes.extend(self.behind.remove(at).bytes);
            }
        }
        if lost > 0 {
            self.behind.push(Chunk { sequence, stream, time_ns, bytes: Vec::new(), lost });
        }
        if bytes.is_empty() {
            return Ok((!self.behind.is_empty()).then(|| self.behind.remove(0)));
        }
        Ok(Some(Chunk { sequence, stream, time_ns, bytes, lost: 0 }))
    }

    /// Stops cutting lines: bytes pass as they are from here on.
    fn show_open_lines(&mut self, sequence: u64) {
        let Some(mut cutter) = self.lines.take() else { return };
        self.unbegun = cutter.begun.map(|begun| !begun);
        for stream in [Stream::Stdout, Stream::Stderr] {
            if cutter.has_open(stream, &self.query)
                && let Some(bytes) = cutter.lines.take(stream)
            {
                self.behind.push(Chunk { sequence, stream, time_ns: self.time_ns, bytes, lost: 0 });
            }
        }
    }

    /// Skips lines that have not ended: at the edge they are the last ones that can be skipped.
    fn skip_open_lines(&mut self) {
        let Some(cutter) = &mut self.lines else { return };
        for stream in [Stream::Stdout, Stream::Stderr] {
            if cutter.skip > 0 && cutter.has_open(stream, &self.query) {
                cutter.lines.take(stream);
                cutter.skip -= 1;
            }
        }
        cutter.skip = 0;
        if self.query.filter.is_none() {
            self.show_open_lines(self.edge);
        }
    }

    fn end(&mut self, rows: u64) -> Next<Chunk> {
        self.show_open_lines(rows);
        if self.behind.is_empty() { Next::End } else { Next::Item(self.behind.remove(0)) }
    }
}

#[cfg(test)]
#[path = "cursor_tests.rs"]
mod tests;
