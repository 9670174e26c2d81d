//! The cutter of wanted rows into lines.

use super::lines::{LONGEST, Lines};
use super::query::LogQuery;
use super::row::Row;
use super::{Chunk, OutputError, OutputReader, Stream};

/// The lines of the wanted rows, as far as they have been read.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    pub(super) lines: Lines,
    pub(super) begun: [bool; 2],
    /// Wanted lines that are still to be skipped.
    pub(super) skip: u64,
}

impl Cutter {
    /// Calls `line` for each wanted line that ends in a row. The first line is whole, even where it began before the first
    /// row.
    pub(super) fn push(
        &mut self,
        reader: &mut OutputReader,
        row: Row,
        query: &LogQuery,
        mut line: impl FnMut(&[u8]),
    ) -> Result<Chunk, OutputError> {
        if !std::mem::replace(&mut self.begun[row.stream.place()], true) {
            self.lines.begin(row.stream, &reader.before(&row, LONGEST - 1)?);
        }
        let chunk = reader.chunk(row)?;
        if chunk.lost > 0
            && let Some(open) = self.lines.take(row.stream)
            && query.wants_line(&open)
        {
            line(&open); // it does not continue behind the gap
        }
        match &query.filter {
            Some(text) => self.lines.push_with(row.stream, &chunk.bytes, text, line),
            None => self.lines.push(row.stream, &chunk.bytes, line),
        }
        Ok(chunk)
    }

    /// The number of wanted lines that have not ended.
    pub(super) fn open(&self, query: &LogQuery) -> u64 {
        [Stream::Stdout, Stream::Stderr].into_iter().filter(|stream| self.has_open(*stream, query)).count()
            as u64
    }

    pub(super) fn has_open(&self, stream: Stream, query: &LogQuery) -> bool {
        let line = self.lines.open(stream);
        !line.is_empty() && query.wants_line(line)
    }
}
