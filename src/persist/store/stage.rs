//! Formatting: rows and samples become records, records become members, members wait for their commit.
//!
//! A stage knows where the stored series end, so it skips what is stored already. It touches no file: it may run ahead
//! of the commits in another thread.

use super::StoreError;
use super::log_file::Tail;
use super::member::{self, HAS_GAP, HEADER, Header, Packer, TIMES_GO_BACK};
use super::names::Kind;
use super::record::{Content, Place, row_bytes, write_row};
use super::resume::Resume;
use super::sample;
use crate::job::JobId;
use crate::output::Stream;
use crate::output::spool::{Row, Span};

/// Most bytes of one row: earlier versions of the spool wrote rows of up to 64 KiB.
const LONGEST_ROW: usize = 64 << 10;

/// Sealed members of one series.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) bytes: Vec<u8>,
    pub(super) headers: Vec<Header>,
    /// Records that stand for lost bytes.
    pub(super) gaps: u64,
    /// Bytes that are lost there.
    pub(super) lost: u64,
}

impl Part {
    /// Writes into every header that all rows up to `through` are durable.
    pub(super) fn vouch(&mut self, through: u64) {
        let mut at = 0;
        for header in &mut self.headers {
            header.through = through;
            self.bytes[at..at + HEADER].copy_from_slice(&header.encode());
            at += header.size as usize;
        }
    }
}

/// The members of one commit, for each series of a job.
#[derive(Debug)]
pub struct Batch {
    pub(super) parts: [Part; 3],
    pub(super) through: u64,
}

impl Batch {
    /// Bytes of the members.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes.len() as u64).sum()
    }
}

/// One series on its way into members.
#[derive(Debug)]
struct Series {
    tail: Tail,
    json: Vec<u8>,
    /// The member that is being filled; it has no records yet where there is none.
    open: Header,
    sealed: Part,
}

impl Series {
    fn begin(tail: Tail) -> Series {
        Series { tail, json: Vec::new(), open: Header::default(), sealed: Part::default() }
    }

    /// Counts a record that was appended to the JSON.
    fn count(&mut self, sequence: u64, time_ns: i64, bytes: usize, lines: usize, flags: u32) {
        let Series { tail, open, .. } = self;
        if open.records == 0 {
            *open = Header {
                first: sequence,
                least_ns: time_ns,
                greatest_ns: time_ns,
                bytes_before: tail.bytes,
                lines_before: tail.lines,
                ..Header::default()
            };
        }
        tail.went_back |= tail.sequence > 0 && time_ns < tail.greatest_ns;
        let backwards = if tail.went_back { TIMES_GO_BACK } else { 0 };
        open.last = sequence;
        open.least_ns = open.least_ns.min(time_ns);
        open.greatest_ns = open.greatest_ns.max(time_ns);
        open.bytes += bytes as u32;
        open.lines += lines as u32;
        open.records += 1;
        open.flags |= flags | backwards;
        tail.sequence = sequence;
        tail.bytes += bytes as u64;
        tail.lines += lines as u64;
        tail.greatest_ns = tail.greatest_ns.max(time_ns);
    }

    fn is_full(&self) -> bool {
        self.open.bytes as usize >= member::CONTENT || self.json.len() >= member::JSON
    }

    fn seal(&mut self, packer: &mut Packer, level: u32) {
        if self.open.records == 0 {
            return;
        }
        packer.pack(&self.json, level, &mut self.open, &mut self.sealed.bytes);
        self.sealed.headers.push(std::mem::take(&mut self.open));
        self.json.clear();
    }
}

/// The stage of one job.
#[derive(Debug)]
pub struct JobStage {
    job: String,
    series: [Series; 3],
    /// Rows up to this sequence may be gone from the spool, so a hole before it is a loss and no mistake.
    floor: u64,
    /// Whether the spool has cut its bytes into other rows than those that are stored, as after a power cut.
    is_recut: bool,
}

impl JobStage {
    pub(super) fn new(job: JobId, resume: &Resume) -> JobStage {
        let series = resume.tails.map(Series::begin);
        JobStage { job: job.to_string(), series, floor: resume.through, is_recut: false }
    }

    /// Whether the spool has cut its bytes into other rows than those that are stored, as far as rows were staged.
    pub fn is_recut(&self) -> bool {
        self.is_recut
    }

    /// Drops what is staged and begins behind the stored series again, after a failed commit.
    pub fn reset(&mut self, resume: &Resume) {
        self.series = resume.tails.map(Series::begin);
        self.floor = self.floor.max(resume.through);
    }

    /// Notes that the spool has released its rows up to this sequence. Where the store lacks some of them, because
    /// somebody removed its files, it goes on with a gap instead of refusing later rows.
    pub fn released(&mut self, sequence: u64) {
        self.floor = self.floor.max(sequence);
    }

    /// The last sequence of both streams, stored or staged.
    pub fn last_sequence(&self) -> u64 {
        self.series[..2].iter().map(|series| series.tail.sequence).max().unwrap_or_default()
    }

    /// The number of the last sample, stored or staged.
    pub fn samples(&self) -> u64 {
        self.series[Kind::Samples.place()].tail.sequence
    }

    /// Bytes of a series, stored or staged.
    pub fn bytes(&self, kind: Kind) -> u64 {
        self.series[kind.place()].tail.bytes
    }

    /// Bytes that wait for a commit, in memory.
    pub fn staged_bytes(&self) -> u64 {
        self.series.iter().map(|series| (series.json.len() + series.sealed.bytes.len()) as u64).sum()
    }

    /// Formats a row with its bytes; a full member is compressed at `level`, 1 to 9. Rows that are stored already are
    /// skipped, by their offset and by their sequence. A row may be stored in part only, after a power cut in which
    /// the spool lost its index: its rest is stored under the next free sequence.
    ///
    /// # Errors
    /// The row would leave a hole, or its bytes do not fit it. Nothing is staged.
    pub fn stage(
        &mut self,
        row: &Row,
        bytes: &[u8],
        packer: &mut Packer,
        level: u32,
    ) -> Result<(), StoreError> {
        let kind = Kind::from(row.stream);
        let tail = self.series[kind.place()].tail;
        let Row { sequence, stream, time_ns, span } = *row;
        match span {
            Span::Lost(_) if sequence <= tail.sequence => return Ok(()),
            Span::Lost(lost) => self.gap(sequence, stream, time_ns, lost),
            Span::Bytes { offset, length } => {
                if bytes.len() != length as usize || bytes.len() > LONGEST_ROW {
                    let (stream, bytes) = (kind.name(), bytes.len());
                    return Err(StoreError::Record { sequence, stream, bytes });
                }
                let end = offset + u64::from(length);
                self.is_recut |= (sequence > tail.sequence) != (end > tail.bytes)
                    || (offset < tail.bytes && end > tail.bytes);
                if end <= tail.bytes {
                    return Ok(());
                }
                if offset > tail.bytes {
                    self.skip(row, offset, packer, level)?;
                }
                let known = tail.bytes.saturating_sub(offset) as usize;
                self.row(self.free(sequence), stream, time_ns, &bytes[known..]);
            }
        }
        if self.series[kind.place()].is_full() {
            self.seal_series(kind, packer, level);
        }
        Ok(())
    }

    /// The sequence of a row: its own, unless the rows of the spool are others than those that are stored.
    fn free(&self, sequence: u64) -> u64 {
        let last = self.series[..2].iter().map(|series| series.tail.sequence).max().unwrap_or_default();
        if self.is_recut { sequence.max(last + 1) } else { sequence }
    }

    /// Leaves out the bytes before a row, which are nowhere any more, with a gap in their place.
    fn skip(&mut self, row: &Row, offset: u64, packer: &mut Packer, level: u32) -> Result<(), StoreError> {
        let Row { sequence, stream, time_ns, .. } = *row;
        let kind = Kind::from(stream);
        let Tail { sequence: last, bytes: end, .. } = self.series[kind.place()].tail;
        if last >= self.floor {
            return Err(StoreError::Hole { sequence, stream: kind.name(), offset, end });
        }
        // The rows that are gone had sequences that nobody knows any more. The last one of the other stream is none.
        let others = self.series[..2].iter().map(|series| series.tail.sequence).max().unwrap_or_default();
        let mut gap = sequence.saturating_sub(1).min(self.floor);
        if gap == others && gap > last + 1 {
            gap -= 1;
        }
        self.gap(gap, stream, time_ns, offset - end);
        self.seal_series(kind, packer, level);
        self.series[kind.place()].tail.bytes = offset;
        Ok(())
    }

    fn row(&mut self, sequence: u64, stream: Stream, time_ns: i64, bytes: &[u8]) {
        let series = &mut self.series[Kind::from(stream).place()];
        series.json.reserve(row_bytes(bytes.len()));
        let place = Place { stream, time_ns, sequence };
        write_row(&self.job, place, Content::Bytes(bytes), &mut series.json);
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        series.count(sequence, time_ns, bytes.len(), lines, 0);
    }

    fn gap(&mut self, sequence: u64, stream: Stream, time_ns: i64, lost: u64) {
        let series = &mut self.series[Kind::from(stream).place()];
        let place = Place { stream, time_ns, sequence };
        write_row(&self.job, place, Content::Lost(lost), &mut series.json);
        series.count(sequence, time_ns, 0, 0, HAS_GAP);
        // The member that is being filled is sealed before anybody takes these numbers.
        series.sealed.gaps += 1;
        series.sealed.lost += lost;
    }

    /// Formats the line of a sample, without its line feed. Numbers count from 1; samples that are stored already are
    /// skipped.
    ///
    /// # Errors
    /// The line is no sample, or too long. Nothing is staged.
    pub fn stage_sample(
        &mut self,
        number: u64,
        line: &[u8],
        packer: &mut Packer,
        level: u32,
    ) -> Result<(), StoreError> {
        let series = &mut self.series[Kind::Samples.place()];
        if number <= series.tail.sequence {
            return Ok(());
        }
        let wrong =
            || StoreError::Record { sequence: number, stream: Kind::Samples.name(), bytes: line.len() };
        if line.len() >= sample::LONGEST {
            return Err(wrong());
        }
        let time_ns = sample::write_sample(&self.job, number, line, &mut series.json).ok_or_else(wrong)?;
        series.count(number, time_ns, line.len() + 1, 1, 0);
        if series.is_full() {
            series.seal(packer, level);
        }
        Ok(())
    }

    fn seal_series(&mut self, kind: Kind, packer: &mut Packer, level: u32) {
        self.series[kind.place()].seal(packer, level);
    }

    /// Seals what is staged into members.
    pub fn seal(&mut self, packer: &mut Packer, level: u32) {
        self.series.iter_mut().for_each(|series| series.seal(packer, level));
    }

    /// Seals what is staged and takes it for a commit. After that commit all rows up to `through` of both streams are
    /// stored, and all that were staged: their sequences are others than the spool's where that has cut its rows anew.
    pub fn take(&mut self, through: u64, packer: &mut Packer, level: u32) -> Batch {
        let through = if self.is_recut { through.max(self.last_sequence()) } else { through };
        let parts = [0, 1, 2].map(|place| {
            let series = &mut self.series[place];
            series.seal(packer, level);
            // The room goes too: many jobs are quiet for a long time.
            series.json = Vec::new();
            std::mem::take(&mut series.sealed)
        });
        self.floor = self.floor.max(through);
        Batch { parts, through }
    }
}
