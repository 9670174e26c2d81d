//! The history of one job for its readers: both streams by their common sequence, and the samples by number.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::ahead::Ahead;
use super::foreign::Foreign;
use super::layout::job_dirs;
use super::loaded::Loaded;
use super::member::Header;
use super::names::Kind;
use super::resume::JobEnd;
use super::series_reader::SeriesReader;
use super::{Layout, StoreError};
use crate::job::JobId;
use crate::metrics::MetricsError;
use crate::metrics::history::SampleHistory;
use crate::output::history::History;
use crate::output::spool::{Row, Span};
use crate::output::{Chunk, OutputError, Stream};

/// Members of one commit that are looked at for the end of what is stored: a commit has far fewer.
const LAST_COMMIT: usize = 1024;
const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

/// The history of one job.
#[derive(Debug)]
pub struct JobHistory {
    logs_dir: PathBuf,
    series: [SeriesReader; 3],
    /// The files of another program, where those are all that the job has.
    foreign: Option<Foreign>,
    end: Option<JobEnd>,
    through: u64,
}

impl JobHistory {
    pub(super) fn open(
        layout: &Layout,
        id: JobId,
        ahead: &Arc<Ahead>,
        foreign_text: u64,
    ) -> Result<Option<JobHistory>, StoreError> {
        let (logs, metrics) = job_dirs(layout, id);
        let end = JobEnd::read(&logs);
        let series = [
            SeriesReader::open(&logs, Kind::Stdout, ahead)?,
            SeriesReader::open(&logs, Kind::Stderr, ahead)?,
            SeriesReader::open(&metrics, Kind::Samples, ahead)?,
        ];
        if end.is_none() && !series.iter().any(SeriesReader::exists) {
            return Ok(None);
        }
        let is_own = series[..2].iter().any(|series| series.last().is_some());
        let foreign = if is_own || end.is_some() { None } else { Foreign::open(&logs, foreign_text)? };
        Ok(Some(JobHistory { logs_dir: logs, series, foreign, end, through: 0 }))
    }

    /// The end of the job, once all of it is stored.
    pub fn end(&mut self) -> Option<JobEnd> {
        if self.end.is_none() {
            self.end = JobEnd::read(&self.logs_dir);
        }
        self.end
    }

    /// The last sequence up to which every row is stored; it may grow. A member states only what was durable before its
    /// own commit, so the rows of the last commit are counted: they are all there when none is missing in between.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn rows(&mut self) -> Result<u64, StoreError> {
        if let Some(foreign) = &self.foreign {
            return Ok(foreign.rows());
        }
        self.series.iter_mut().try_for_each(SeriesReader::refresh)?;
        if let Some(end) = self.end() {
            self.through = self.through.max(end.rows);
            return Ok(self.through);
        }
        let last: Vec<Header> = self.series[..2].iter().filter_map(SeriesReader::last).collect();
        let stated = last.iter().map(|header| header.through).max().unwrap_or_default().max(self.through);
        let (mut greatest, mut records) = (stated, 0);
        for series in &mut self.series[..2] {
            for header in series.newest(stated, LAST_COMMIT)? {
                greatest = greatest.max(header.last);
                let across = if header.first <= stated { series.at_sequence(stated + 1)? } else { None };
                records += match across {
                    // A crash between both streams leaves members that the next commit stands across.
                    Some(loaded) => loaded.records_behind(stated),
                    None => u64::from(header.records),
                };
            }
        }
        let is_whole = records == greatest - stated;
        self.through = if is_whole { greatest } else { stated };
        Ok(self.through)
    }

    /// The row with this sequence; `None`: it is not stored. A damaged member is one gap of its bytes at its first
    /// sequence, and gaps of nothing behind that.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn row(&mut self, sequence: u64) -> Result<Option<Row>, StoreError> {
        if let Some(foreign) = &mut self.foreign {
            return foreign.row(sequence);
        }
        let found = self.look_up(sequence)?;
        if found.is_some() {
            return Ok(found);
        }
        self.series[..2].iter_mut().try_for_each(SeriesReader::refresh)?;
        self.look_up(sequence)
    }

    fn look_up(&mut self, sequence: u64) -> Result<Option<Row>, StoreError> {
        let mut found: Option<Row> = None;
        for stream in STREAMS {
            let loaded = self.series[Kind::from(stream).place()].at_sequence(sequence)?;
            let Some(loaded) = loaded.filter(|loaded| loaded.row.header.first <= sequence) else { continue };
            let row = row_of(loaded, stream, sequence);
            let is_better = |row: &Row| matches!(row.span, Span::Bytes { .. }) || found.is_none();
            found = row.filter(is_better).or(found);
        }
        Ok(found)
    }

    /// Exactly `length` bytes of a stream from this offset, or fewer where the store ends, lacks some or is damaged.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn bytes(&mut self, stream: Stream, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        if let Some(foreign) = &mut self.foreign {
            return foreign.bytes(stream, offset, length);
        }
        let series = &mut self.series[Kind::from(stream).place()];
        let mut bytes = Vec::with_capacity(length.min(64 << 10));
        let mut is_fresh = false;
        while bytes.len() < length {
            let at = offset + bytes.len() as u64;
            let rest = series.at_offset(at)?.and_then(|loaded| {
                let start = at.checked_sub(loaded.row.header.bytes_before)?;
                loaded.content.get(start as usize..)
            });
            match rest.filter(|rest| !rest.is_empty()) {
                Some(rest) => bytes.extend_from_slice(&rest[..rest.len().min(length - bytes.len())]),
                None if is_fresh => break,
                // The row may be known from the spool, which has let its bytes go since.
                None => {
                    series.refresh()?;
                    is_fresh = true;
                }
            }
        }
        Ok(bytes)
    }

    /// The first record at or behind a sequence, of the wanted streams (stdout, stderr).
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn next(&mut self, from: u64, wanted: [bool; 2]) -> Result<Option<Chunk>, StoreError> {
        if let Some(foreign) = &mut self.foreign {
            return foreign.next(from, wanted);
        }
        let mut first: Option<Chunk> = None;
        for stream in STREAMS {
            if !wanted[Kind::from(stream).place()] {
                continue;
            }
            let chunk = self.next_of(stream, from)?;
            let is_first = |chunk: &Chunk| first.as_ref().is_none_or(|first| chunk.sequence < first.sequence);
            first = chunk.filter(is_first).or(first);
        }
        Ok(first)
    }

    fn next_of(&mut self, stream: Stream, mut from: u64) -> Result<Option<Chunk>, StoreError> {
        let series = &mut self.series[Kind::from(stream).place()];
        while let Some(loaded) = series.at_sequence(from)? {
            let chunk = chunk_from(loaded, stream, from);
            if chunk.is_some() {
                return Ok(chunk);
            }
            from = loaded.row.header.last + 1;
        }
        Ok(None)
    }

    /// The first sequence of a stream with a time of `time_ns` or later; `None`: all are earlier.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn at_time(&mut self, stream: Stream, time_ns: i64) -> Result<Option<u64>, StoreError> {
        if let Some(foreign) = &mut self.foreign {
            return foreign.at_time(stream, time_ns);
        }
        self.series[Kind::from(stream).place()].at_time(time_ns)
    }

    /// The number of the last stored sample.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn samples(&mut self) -> Result<u64, StoreError> {
        let series = &mut self.series[Kind::Samples.place()];
        series.refresh()?;
        Ok(series.last().map_or(0, |header| header.last))
    }

    /// The line of the first sample at or behind a number, without its line feed, and its number.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn sample(&mut self, from: u64) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let series = &mut self.series[Kind::Samples.place()];
        let mut from = from;
        while let Some(loaded) = series.at_sequence(from)? {
            let at = loaded.records.iter().position(|(_, record)| record.sequence >= from);
            let Some(at) = at else {
                from = loaded.row.header.last + 1;
                continue;
            };
            let line = loaded.bytes_of(at).strip_suffix(b"\n").unwrap_or_default().to_vec();
            return Ok(Some((loaded.records[at].1.sequence, line)));
        }
        Ok(None)
    }

    /// The number of the first sample of `time_ns` or later; `None`: all are earlier.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn sample_at_time(&mut self, time_ns: i64) -> Result<Option<u64>, StoreError> {
        self.series[Kind::Samples.place()].at_time(time_ns)
    }

    /// Damaged members that were met while reading.
    pub fn damaged(&self) -> u64 {
        self.series.iter().map(SeriesReader::damaged).sum()
    }

    /// Gives back the members in memory, for a reader that waits.
    pub fn forget(&mut self) {
        self.series.iter_mut().for_each(SeriesReader::forget);
    }
}

/// The row with a sequence in a member.
fn row_of(loaded: &Loaded, stream: Stream, sequence: u64) -> Option<Row> {
    let header = &loaded.row.header;
    if loaded.is_damaged {
        let lost = if sequence == header.first { u64::from(header.bytes) } else { 0 };
        return Some(Row { sequence, time_ns: header.least_ns, stream, span: Span::Lost(lost) });
    }
    let at = loaded.records.binary_search_by_key(&sequence, |(_, record)| record.sequence).ok()?;
    let (start, record) = loaded.records.get(at)?;
    let span = match record.lost {
        0 => Span::Bytes { offset: loaded.offset(*start), length: record.bytes as u32 },
        lost => Span::Lost(lost),
    };
    Some(Row { sequence, time_ns: record.time_ns, stream, span })
}

/// The first record of a member at or behind a sequence.
fn chunk_from(loaded: &Loaded, stream: Stream, from: u64) -> Option<Chunk> {
    let header = &loaded.row.header;
    if loaded.is_damaged {
        // Once: later sequences of the member have nothing.
        let (sequence, lost) = (header.first, u64::from(header.bytes));
        let gap = Chunk { sequence, stream, time_ns: header.least_ns, bytes: Vec::new(), lost };
        return (from <= sequence).then_some(gap);
    }
    let at = loaded.records.partition_point(|(_, record)| record.sequence < from);
    let (_, record) = loaded.records.get(at)?;
    let bytes = loaded.bytes_of(at).to_vec();
    Some(Chunk { sequence: record.sequence, stream, time_ns: record.time_ns, bytes, lost: record.lost })
}

pub(super) fn unread(why: StoreError) -> OutputError {
    match why {
        StoreError::Read { path, source } | StoreError::Open { path, source } => {
            OutputError::History { path, source }
        }
        other => OutputError::History { path: PathBuf::new(), source: io::Error::other(other) },
    }
}

impl History for JobHistory {
    fn through(&mut self) -> Result<u64, OutputError> {
        self.rows().map_err(unread)
    }

    fn row(&mut self, sequence: u64) -> Result<Option<Row>, OutputError> {
        JobHistory::row(self, sequence).map_err(unread)
    }

    fn older(&mut self, time_ns: i64) -> Result<Option<u64>, OutputError> {
        let mut first: Option<u64> = None;
        for stream in STREAMS {
            let found = self.at_time(stream, time_ns).map_err(unread)?;
            first = first.into_iter().chain(found).min();
        }
        Ok(first.map(|sequence| sequence.saturating_sub(1)))
    }

    fn bytes(&mut self, stream: Stream, offset: u64, length: usize) -> Result<Vec<u8>, OutputError> {
        JobHistory::bytes(self, stream, offset, length).map_err(unread)
    }
}

impl SampleHistory for JobHistory {
    fn lines(&mut self) -> Result<u64, MetricsError> {
        self.samples().map_err(unread_sample)
    }

    fn line(&mut self, number: u64) -> Result<Option<Vec<u8>>, MetricsError> {
        let found = self.sample(number).map_err(unread_sample)?;
        Ok(found.filter(|(found, _)| *found == number).map(|(_, line)| line))
    }
}

pub(super) fn unread_sample(why: StoreError) -> MetricsError {
    match why {
        StoreError::Read { path, source } | StoreError::Open { path, source } => {
            MetricsError::Read { path, source }
        }
        other => MetricsError::Read { path: PathBuf::new(), source: io::Error::other(other) },
    }
}
