//! The output of a job wherever it is: released rows come from the history, the others from the spool.
//!
//! The rows of both join by their sequences, their bytes by offsets. A row that is nowhere is skipped. The next row of its
//! stream shows by its offset how many bytes are missing, and the reader gets a gap that counts them.

use std::fmt;
use std::io;
use std::path::Path;

use super::history::{History, OpenHistory};
use super::reader::SpoolReader;
use super::row::{INDEX, Row, Span, rows_stored};
use super::{OutputError, Stream};
use crate::job::JobId;

/// A run of bytes of one stream, or a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The position in the job's output, from 1 across both streams.
    pub sequence: u64,
    /// The stream that the bytes belong to.
    pub stream: Stream,
    /// The time at which the daemon read them from the job, ns since the epoch.
    pub time_ns: i64,
    /// The bytes as the job wrote them.
    pub bytes: Vec<u8>,
    /// Bytes that were discarded here. A chunk that counts such has no bytes of its own.
    pub lost: u64,
}

/// Rows that a search tries in turn where rows are missing. Beyond that it takes them for new ones.
const PROBES: u64 = 1024;

/// The history of one job, which is opened when a reader comes to a row in it.
#[derive(Clone)]
pub struct JobHistory {
    /// The id of the job.
    pub id: JobId,
    /// Opens its history.
    pub open: OpenHistory,
}

impl fmt::Debug for JobHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobHistory({})", self.id)
    }
}

/// The history of a job as one reader has it.
#[derive(Debug)]
enum Opened {
    /// No reader has come to it.
    Unopened(JobHistory),
    Open(Box<dyn History>),
    /// Nothing of the job is in it, or no history is kept.
    Nothing,
}

impl Opened {
    fn get(&mut self) -> Result<Option<&mut Box<dyn History>>, OutputError> {
        if let Opened::Unopened(history) = self {
            *self = (history.open)(history.id)?.map_or(Opened::Nothing, Opened::Open);
        }
        Ok(match self {
            Opened::Open(history) => Some(history),
            Opened::Unopened(_) | Opened::Nothing => None,
        })
    }
}

/// A cursor into the output of one job. It keeps the files open, so a deleted job can be read to its end.
#[derive(Debug)]
pub struct OutputReader {
    spool: Option<SpoolReader>,
    history: Opened,
    next: u64,
    /// The offset behind the last bytes of each stream that were taken, where that is known.
    ends: [Option<u64>; 2],
    /// Bytes of each stream, behind those ends, that the history has shown as gaps since.
    shown: [u64; 2],
}

impl OutputReader {
    /// Opens the output of a job at its first row.
    ///
    /// # Errors
    /// The file that could not be opened, an index of another version, or neither a spool nor a history of the job.
    pub fn open(dir: &Path, history: Option<JobHistory>) -> Result<Self, OutputError> {
        let mut history = history.map_or(Opened::Nothing, Opened::Unopened);
        let spool = match SpoolReader::open(dir) {
            Ok(spool) => Some(spool),
            // The index goes first. The spool of a job whose output is all in the history keeps its directory.
            Err(_) if !dir.join(INDEX).exists() && (dir.exists() || history.get()?.is_some()) => None,
            Err(why) => return Err(why),
        };
        Ok(OutputReader { spool, history, next: 0, ends: [Some(0); 2], shown: [0; 2] })
    }

    /// The number of rows in the complete output of a job: a power cut may have taken some from its spool that the history
    /// has.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn rows_stored(dir: &Path, history: Option<&JobHistory>) -> Result<u64, OutputError> {
        let mut history = history.cloned().map_or(Opened::Nothing, Opened::Unopened);
        let kept = history.get()?.map_or(Ok(0), |history| history.through())?;
        Ok(kept.max(rows_stored(dir)))
    }

    /// The number of rows behind which the cursor is.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Moves the cursor behind the first `rows` rows.
    pub(super) fn seek(&mut self, rows: u64) {
        if rows != self.next {
            self.ends = [(rows == 0).then_some(0); 2];
            self.shown = [0; 2];
        }
        self.next = rows;
    }

    /// The next chunk, if the first `rows` rows have one more.
    ///
    /// # Errors
    /// The file that could not be read.
    pub fn next(&mut self, rows: u64) -> Result<Option<Chunk>, OutputError> {
        while self.next < rows {
            if let Some(row) = self.take(rows)? {
                return self.chunk(row).map(Some);
            }
        }
        Ok(None)
    }

    /// The next row of the first `rows` ones, or a gap before it. `None`: there was none in this step.
    pub(super) fn take(&mut self, rows: u64) -> Result<Option<Row>, OutputError> {
        let at = self.next;
        let Some((row, is_kept)) = self.row_at(at, rows)? else { return Ok(self.pass_missing(rows)) };
        let Some(row) = self.untaken(row) else {
            self.next = at + 1;
            return Ok(None);
        };
        let place = row.stream.place();
        match row.span {
            Span::Bytes { offset, length } => {
                let end = self.ends[place].replace(offset);
                let shown = std::mem::take(&mut self.shown[place]);
                let missing = end.map_or(0, |end| offset.saturating_sub(end).saturating_sub(shown));
                if missing > 0 {
                    // Before this row in sequence, too: a reader that loses its stream now continues with the row.
                    return Ok(Some(Row { sequence: row.sequence - 1, span: Span::Lost(missing), ..row }));
                }
                self.ends[place] = Some(offset.saturating_add(u64::from(length)));
            }
            Span::Lost(lost) if is_kept => self.shown[place] += lost,
            Span::Lost(_) => {}
        }
        self.next = at + 1;
        Ok(Some(row))
    }

    /// The part of a row behind the bytes that were taken: behind a power cut the spool may have cut bytes into other rows
    /// than the history has. `None`: all of them were taken.
    fn untaken(&self, row: Row) -> Option<Row> {
        let Span::Bytes { offset, length } = row.span else { return Some(row) };
        let taken = self.ends[row.stream.place()].map_or(0, |end| end.saturating_sub(offset));
        let taken = u32::try_from(taken).unwrap_or(u32::MAX);
        let length = length.checked_sub(taken).filter(|left| taken == 0 || *left > 0)?;
        Some(Row { span: Span::Bytes { offset: offset + u64::from(taken), length }, ..row })
    }

    /// Passes a row that is nowhere. Where no history is, that is every released row, and the header of the spool tells
    /// how many bytes of each stream went with them.
    fn pass_missing(&mut self, rows: u64) -> Option<Row> {
        if matches!(self.history, Opened::Open(_)) {
            self.next += 1;
            return None;
        }
        let Some(spool) = &self.spool else {
            self.next = rows;
            return None;
        };
        let header = *spool.header();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let (Some(last), Some(end)) = (header.last[stream.place()], &mut self.ends[stream.place()])
            else {
                continue;
            };
            let missing = header.end(stream).saturating_sub(*end);
            *end = (*end).max(header.end(stream));
            if missing > 0 {
                return Some(Row { sequence: header.released, span: Span::Lost(missing), ..last });
            }
        }
        self.next = header.released.max(self.next + 1).min(rows);
        None
    }

    /// The row behind the first `at` rows, wherever it is, and whether it is in the history. The first `rows` rows may be
    /// read.
    fn row_at(&mut self, at: u64, rows: u64) -> Result<Option<(Row, bool)>, OutputError> {
        match self.spool.as_mut().map_or(Ok(None), |spool| spool.row(at, rows)) {
            Ok(Some(row)) => return Ok(Some((row, false))),
            // A power cut may have taken rows from the spool that the history has.
            Err(why) if !is_cut(&why) || self.history.get()?.is_none() => return Err(why),
            Ok(None) | Err(_) => {}
        }
        let row = self.history.get()?.map_or(Ok(None), |history| history.row(at + 1))?;
        // A damaged part of the history is one gap, with gaps of nothing behind it.
        Ok(row.filter(|row| row.span != Span::Lost(0)).map(|row| (row, true)))
    }

    /// The bytes or the gap that a row describes. A row whose bytes are gone is a gap.
    pub(super) fn chunk(&mut self, row: Row) -> Result<Chunk, OutputError> {
        let Row { sequence, stream, time_ns, span } = row;
        let (bytes, lost) = match span {
            Span::Lost(lost) => (Vec::new(), lost),
            Span::Bytes { offset, length } => match self.bytes(stream, offset, length as usize)? {
                Some(bytes) => (bytes, 0),
                None => (Vec::new(), u64::from(length)),
            },
        };
        Ok(Chunk { sequence, stream, time_ns, bytes, lost })
    }

    /// At most `length` bytes of the row's stream that precede the row; none where they are gone.
    pub(super) fn before(&mut self, row: &Row, length: usize) -> Result<Vec<u8>, OutputError> {
        let Span::Bytes { offset, .. } = row.span else { return Ok(Vec::new()) };
        let length = length.min(usize::try_from(offset).unwrap_or(usize::MAX));
        Ok(self.bytes(row.stream, offset - length as u64, length)?.unwrap_or_default())
    }

    /// Bytes of a stream; `None` where one of them is gone.
    fn bytes(&mut self, stream: Stream, offset: u64, length: usize) -> Result<Option<Vec<u8>>, OutputError> {
        let kept = self.spool.as_mut().map(|spool| spool.bytes(stream, offset, length));
        let (released, kept) = match kept {
            Some(Err(why)) if is_cut(&why) && self.history.get()?.is_some() => (length, Vec::new()),
            Some(kept) => kept?,
            None => (length, Vec::new()),
        };
        if released == 0 {
            return Ok(Some(kept));
        }
        let Some(history) = self.history.get()? else { return Ok(None) };
        let mut bytes = history.bytes(stream, offset, released)?;
        if bytes.len() < released {
            return Ok(None);
        }
        bytes.truncate(released);
        bytes.extend(kept);
        Ok(Some(bytes))
    }

    /// The number of rows, among the first `rows`, before the first one of this time (ns since the epoch) or later. The
    /// history knows where that is among its rows. A binary search finds it among those of the spool: times grow from row
    /// to row unless the clock was set back.
    pub(super) fn older(&mut self, rows: u64, time_ns: i64) -> Result<u64, OutputError> {
        let mut low = 0;
        let is_released = self.spool.as_ref().is_none_or(|spool| spool.header().released > 0);
        if is_released && let Some(history) = self.history.get()? {
            low = history.through()?.min(rows);
            // Behind the rows that are there whole, one of the other stream may be missing before it.
            if let Some(at) = history.older(time_ns)?.filter(|at| *at < low) {
                return Ok(at);
            }
        }
        let mut high = rows;
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_from(middle, high)? {
                Some((at, row)) if row.time_ns < time_ns => low = at + 1,
                Some(_) | None => high = middle,
            }
        }
        Ok(low)
    }

    /// The first row that exists among those from `at` to `to`.
    fn first_from(&mut self, mut at: u64, to: u64) -> Result<Option<(u64, Row)>, OutputError> {
        for _ in 0..PROBES {
            if at >= to {
                break;
            }
            if let Some((row, _)) = self.row_at(at, at + 1)? {
                return Ok(Some((at, row)));
            }
            let released = self.spool.as_ref().map_or(to, |spool| spool.header().released);
            let is_kept = matches!(self.history, Opened::Open(_));
            at = if is_kept { at + 1 } else { released.max(at + 1) };
        }
        Ok(None)
    }
}

fn is_cut(why: &OutputError) -> bool {
    matches!(why, OutputError::Read { source, .. } if source.kind() == io::ErrorKind::UnexpectedEof)
}
