//! The part of a job's output that a reader wants.

use super::Stream;
use super::lines::Needle;
use super::spool::Row;

/// What a reader wants; the default is everything, to the job's end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Only this stream.
    pub stream: Option<Stream>,
    /// Only lines with this text.
    pub filter: Option<Needle>,
    /// Only what was read then or later, ns since the epoch.
    pub since_ns: Option<i64>,
    /// Only what was read then or before, ns since the epoch.
    pub until_ns: Option<i64>,
    /// Of what is there at first, only the last so many wanted lines.
    pub tail: Option<u64>,
    /// End at what is there at first.
    pub no_follow: bool,
    /// Only rows from this sequence on.
    pub from_sequence: u64,
}

impl LogQuery {
    /// Whether a row is of the wanted stream and not too old.
    pub(super) fn wants(&self, row: &Row) -> bool {
        self.stream.is_none_or(|stream| stream == row.stream)
            && self.since_ns.is_none_or(|since| row.time_ns >= since)
    }

    /// Whether a row, and so what follows it, is too new.
    pub(super) fn is_past(&self, time_ns: i64) -> bool {
        self.until_ns.is_some_and(|until| time_ns > until)
    }

    pub(super) fn wants_line(&self, line: &[u8]) -> bool {
        self.filter.as_ref().is_none_or(|needle| needle.is_in(line))
    }
}
