//! The search for the first of a job's last lines.
//!
//! Lines are counted forward in a window before the end, which grows until it holds enough of them. Only their number is
//! kept, so a tail of a million lines costs no more memory than one of ten, and the last ten lines of a large log cost a
//! few reads.

use super::cutter::Cutter;
use super::query::LogQuery;
use super::{OutputError, OutputReader};

/// Rows of the first window. Each next window has [`GROWTH`] times as many.
const FIRST: u64 = 16;
const GROWTH: u64 = 8;
/// Rows that are examined in one step.
const STEP: usize = 256;

/// A count of wanted lines under way.
#[derive(Debug)]
pub(super) struct Count {
    start: u64,
    edge: u64,
    /// The number of lines that are wanted.
    wanted: u64,
    /// Rows of the window before the edge.
    window: u64,
    /// Whether the reader stands in the window.
    begun: bool,
    cutter: Cutter,
    lines: u64,
}

impl Count {
    /// Starts the search for the last `wanted` lines between the rows `start` and `edge`.
    pub(super) fn new(start: u64, edge: u64, wanted: u64) -> Self {
        let mut count =
            Count { start, edge, wanted, window: 0, begun: false, cutter: Cutter::default(), lines: 0 };
        count.look_from(FIRST);
        count
    }

    fn look_from(&mut self, window: u64) {
        self.window = window;
        self.begun = false;
        self.cutter = Cutter::default();
        self.lines = 0;
    }

    fn begin(&self) -> u64 {
        self.edge.saturating_sub(self.window).max(self.start)
    }

    /// Counts further. When it is done, it returns the row to begin at and the number of wanted lines to skip there.
    ///
    /// # Errors
    /// The file that could not be read.
    pub(super) fn step(
        &mut self,
        reader: &mut OutputReader,
        query: &LogQuery,
    ) -> Result<Option<(u64, u64)>, OutputError> {
        if !std::mem::replace(&mut self.begun, true) {
            reader.seek(self.begin());
        }
        for _ in 0..STEP {
            if reader.position() >= self.edge {
                return Ok(self.decide(query));
            }
            let Some(row) = reader.take(self.edge)? else { continue };
            if query.wants(&row) {
                let lines = &mut self.lines;
                self.cutter.push(reader, row, query, |_| *lines += 1)?;
                // A step reads the disk once.
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn decide(&mut self, query: &LogQuery) -> Option<(u64, u64)> {
        self.lines += self.cutter.open(query);
        // One line more than wanted is needed: the first one may have begun before the window.
        if self.lines <= self.wanted && self.begin() > self.start {
            self.look_from(self.window.saturating_mul(GROWTH));
            return None;
        }
        Some((self.begin(), self.lines.saturating_sub(self.wanted)))
    }
}
