//! The part of a job's output that a reader wants.

use super::Stream;
use super::lines::Needle;
use super::row::Row;

/// The wanted part of the output; the default is everything, to the job's end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// The only stream that is wanted.
    pub stream: Option<Stream>,
    /// A text that wanted lines contain.
    pub filter: Option<Needle>,
    /// The earliest time at which the daemon read it, ns since the epoch.
    pub since_ns: Option<i64>,
    /// The latest time at which the daemon read it, ns since the epoch.
    pub until_ns: Option<i64>,
    /// The number of wanted lines to keep, from the end, of the output that exists at first.
    pub tail: Option<u64>,
    /// Whether to end where the output ends at first.
    pub no_follow: bool,
    /// The first row that is wanted, by its sequence.
    pub from_sequence: u64,
}

impl LogQuery {
    /// Whether a row belongs to the wanted stream and is not too old.
    pub(super) fn wants(&self, row: &Row) -> bool {
        self.stream.is_none_or(|stream| stream == row.stream)
            && self.since_ns.is_none_or(|since| row.time_ns >= since)
    }

    /// Whether a row of this time, and so every later row, is too new.
    pub(super) fn is_past(&self, time_ns: i64) -> bool {
        self.until_ns.is_some_and(|until| time_ns > until)
    }

    pub(super) fn wants_line(&self, line: &[u8]) -> bool {
        self.filter.as_ref().is_none_or(|needle| needle.is_in(line))
    }
}
