//! The rows of a job's output that another store keeps.
//!
//! The spool is a buffer where such a store exists: rows that are durable there are released here. A reader takes
//! released rows from the history and the others from the spool. The store implements the trait; this room knows
//! neither its files nor its formats.

use std::fmt;
use std::sync::Arc;

use super::row::Row;
use super::{OutputError, Stream};
use crate::job::JobId;

/// Rows of a job's output that another store keeps, by the sequence and offsets that they had in the spool.
pub trait History: fmt::Debug + Send {
    /// The last sequence up to which every row is there; it may grow between calls. 0: none.
    ///
    /// # Errors
    /// The file that could not be read.
    fn through(&mut self) -> Result<u64, OutputError>;

    /// The row with this sequence. `None`: it is not there (files removed by hand, damage), and the reader shows a gap.
    ///
    /// # Errors
    /// The file that could not be read.
    fn row(&mut self, sequence: u64) -> Result<Option<Row>, OutputError>;

    /// The number of rows before the first one of this time (ns since the epoch) or later. `None`: all rows that are there
    /// are earlier.
    ///
    /// # Errors
    /// The file that could not be read.
    fn older(&mut self, time_ns: i64) -> Result<Option<u64>, OutputError>;

    /// Exactly `length` bytes of a stream from this offset, or fewer where the store ends or is damaged.
    ///
    /// # Errors
    /// The file that could not be read.
    fn bytes(&mut self, stream: Stream, offset: u64, length: usize) -> Result<Vec<u8>, OutputError>;
}

/// Opens the history of a job; `None`: it has none.
pub type OpenHistory = Arc<dyn Fn(JobId) -> Result<Option<Box<dyn History>>, OutputError> + Send + Sync>;

#[cfg(test)]
pub(super) mod tests {
    use super::super::row::Span;
    use super::super::{JobHistory, OutputReader};
    use super::*;
    use std::path::Path;
    use std::sync::{Mutex, PoisonError};

    /// A history in memory, which copies rows of a spool.
    #[derive(Debug, Clone, Default)]
    pub(in crate::output) struct Kept(Arc<Mutex<Stored>>);

    #[derive(Debug, Default)]
    struct Stored {
        rows: Vec<Option<Row>>,
        bytes: [Vec<u8>; 2],
    }

    impl Kept {
        fn stored<T>(&self, work: impl FnOnce(&mut Stored) -> T) -> T {
            work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }

        /// Copies the rows up to this one.
        pub(in crate::output) fn store(&self, dir: &Path, through: u64) {
            let mut reader = OutputReader::open(dir, None).unwrap();
            self.stored(|stored| {
                reader.seek(stored.rows.len() as u64);
                while (stored.rows.len() as u64) < through {
                    let row = reader.take(through).unwrap().unwrap();
                    let chunk = reader.chunk(row).unwrap();
                    if let Span::Bytes { offset, .. } = row.span {
                        assert_eq!(stored.bytes[row.stream.place()].len() as u64, offset);
                    }
                    stored.rows.push(Some(row));
                    stored.bytes[row.stream.place()].extend(chunk.bytes);
                }
            });
        }

        /// Loses these rows.
        pub(in crate::output) fn forget(&self, rows: std::ops::Range<usize>) {
            self.stored(|stored| stored.rows[rows].fill(None));
        }

        /// Damages these rows of one stream: they are one gap, with gaps of nothing behind it.
        pub(in crate::output) fn damage(&self, stream: Stream, rows: std::ops::Range<usize>) {
            self.stored(|stored| {
                let rows = stored.rows[rows].iter_mut().flatten().filter(|row| row.stream == stream);
                let mut damaged: Vec<&mut Row> = rows.collect();
                let bytes = damaged.iter().map(|row| match row.span {
                    Span::Bytes { length, .. } => u64::from(length),
                    Span::Lost(lost) => lost,
                });
                let mut lost = bytes.sum();
                for row in &mut damaged {
                    row.span = Span::Lost(std::mem::take(&mut lost));
                }
            });
        }

        pub(in crate::output) fn open(&self) -> Option<JobHistory> {
            let kept = self.clone();
            let open: OpenHistory = Arc::new(move |_| Ok(Some(Box::new(kept.clone()))));
            Some(JobHistory { id: JobId::random(), open })
        }
    }

    impl History for Kept {
        fn through(&mut self) -> Result<u64, OutputError> {
            Ok(self.stored(|stored| stored.rows.len() as u64))
        }

        fn row(&mut self, sequence: u64) -> Result<Option<Row>, OutputError> {
            Ok(self.stored(|stored| stored.rows.get(sequence as usize - 1).copied().flatten()))
        }

        fn older(&mut self, time_ns: i64) -> Result<Option<u64>, OutputError> {
            let is_new = |row: &Option<Row>| row.is_some_and(|row| row.time_ns >= time_ns);
            Ok(self.stored(|stored| stored.rows.iter().position(is_new)).map(|at| at as u64))
        }

        fn bytes(&mut self, stream: Stream, offset: u64, length: usize) -> Result<Vec<u8>, OutputError> {
            let range = offset as usize..offset as usize + length;
            Ok(self.stored(|stored| stored.bytes[stream.place()].get(range).unwrap_or_default().to_vec()))
        }
    }
}
