//! Files that another program wrote, read by a streaming inflater.
//!
//! Such files are never appended to: the writer sets them aside. A job that has nothing else is served from them. Their
//! sequences may be missing or occur twice, so records are numbered anew: those of the standard output first, in their
//! order, then those of the standard error. One pass over the files counts the records and notes where pages of them
//! begin; a page is then read from the member before it. Reading on from page to page inflates nothing twice.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::gzip::GzipLines;
use super::names::{Kind, Names};
use super::record::{Record, read_row};
use super::segment::is_foreign;
use crate::output::spool::{Row, Span};
use crate::output::{Chunk, Stream};

/// Bytes of content, and records, after which a page ends at the next record.
const PAGE: usize = 256 << 10;
const RECORDS: usize = 4096;

/// The place and the contents of a page.
#[derive(Debug, Clone, Copy)]
struct Page {
    stream: Stream,
    /// The file, and the offset of a member from which the page is found behind `skip` records.
    file: usize,
    member: u64,
    skip: u64,
    /// The number of its first record, from 1, and the number of records.
    first: u64,
    records: u64,
    /// Bytes of the stream before it, and in it.
    bytes_before: u64,
    bytes: u64,
}

/// The records of a file from a member on, and the number of the next one there.
#[derive(Debug)]
struct Position {
    file: usize,
    next: u64,
    lines: GzipLines,
}

/// A page in memory.
#[derive(Debug)]
struct Loaded {
    page: Page,
    records: Vec<(usize, Record)>,
    content: Vec<u8>,
}

/// The records of another program's files of one job.
#[derive(Debug)]
pub(super) struct Foreign {
    files: Vec<PathBuf>,
    pages: Vec<Page>,
    loaded: Option<Loaded>,
    position: Option<Position>,
}

/// Reads the next record of output; lines that are none are left out.
fn next_record(lines: &mut GzipLines, content: &mut Vec<u8>) -> Option<(Record, Option<u64>)> {
    loop {
        let (line, start) = lines.next()?;
        if let Some(record) = read_row(line, content) {
            return Some((record, start));
        }
    }
}

impl Foreign {
    /// Counts the records in the files of other programs in a job's directory; `None`: there are no such files. That
    /// inflates them, in the caller's thread, so they may hold `limit` bytes of text.
    pub(super) fn open(dir: &Path, limit: u64) -> Result<Option<Foreign>, StoreError> {
        let mut room = limit;
        let mut foreign = Foreign { files: Vec::new(), pages: Vec::new(), loaded: None, position: None };
        for stream in [Stream::Stdout, Stream::Stderr] {
            let names = Names { dir: dir.to_owned(), kind: Kind::from(stream) };
            let mut bytes_before = 0;
            let rotated = names.rotated();
            let rotated = rotated.map_err(|source| StoreError::Read { path: dir.to_owned(), source })?;
            for number in rotated.into_iter().map(Some).chain([None]) {
                let path = names.log(number);
                let failed = |source| StoreError::Read { path: path.clone(), source };
                let file = match File::open(&path) {
                    Err(why) if why.kind() == io::ErrorKind::NotFound => continue,
                    opened => opened.map_err(failed)?,
                };
                if is_foreign(&file, 0).map_err(failed)? {
                    foreign.files.push(path.clone());
                    let counted = foreign.count(file, stream, bytes_before, &mut room);
                    bytes_before = counted.ok_or(StoreError::Foreign { path, limit })?;
                }
            }
        }
        Ok((!foreign.files.is_empty()).then_some(foreign))
    }

    /// Notes the pages of the last file, and returns the bytes of the stream behind it. `None`: it holds more text than
    /// there is room for.
    fn count(&mut self, file: File, stream: Stream, mut bytes_before: u64, room: &mut u64) -> Option<u64> {
        let mut lines = GzipLines::new(file, 0);
        let (file, mut member, mut skip) = (self.files.len() - 1, 0, 0);
        let mut first = self.rows() + 1;
        let mut page: Option<Page> = None;
        let mut content = Vec::new();
        lines.limit(*room);
        while let Some((record, start)) = next_record(&mut lines, &mut content) {
            content.clear();
            if let Some(start) = start {
                (member, skip) = (start, 0);
            }
            let open = page.get_or_insert(Page {
                stream,
                file,
                member,
                skip,
                first,
                records: 0,
                bytes_before,
                bytes: 0,
            });
            open.records += 1;
            open.bytes += record.bytes as u64;
            bytes_before += record.bytes as u64;
            (first, skip) = (first + 1, skip + 1);
            if open.bytes as usize >= PAGE || open.records as usize >= RECORDS {
                self.pages.extend(page.take());
            }
        }
        self.pages.extend(page);
        *room = lines.room()?;
        Some(bytes_before)
    }

    /// The number of records.
    pub(super) fn rows(&self) -> u64 {
        self.pages.last().map_or(0, |page| page.first + page.records - 1)
    }

    fn load(&mut self, at: usize) -> Result<Option<&Loaded>, StoreError> {
        let Some(page) = self.pages.get(at).copied() else { return Ok(None) };
        if self.loaded.as_ref().is_none_or(|loaded| loaded.page.first != page.first) {
            let known = self.position.take().filter(|it| it.file == page.file && it.next == page.first);
            let mut position = match known {
                Some(position) => position,
                None => self.seek(&page)?,
            };
            let mut loaded = Loaded { page, records: Vec::new(), content: Vec::new() };
            while (loaded.records.len() as u64) < page.records {
                let start = loaded.content.len();
                let Some((record, _)) = next_record(&mut position.lines, &mut loaded.content) else { break };
                loaded.records.push((start, record));
            }
            position.next = page.first + page.records;
            (self.loaded, self.position) = (Some(loaded), Some(position));
        }
        Ok(self.loaded.as_ref())
    }

    fn seek(&self, page: &Page) -> Result<Position, StoreError> {
        let path = &self.files[page.file];
        let file = File::open(path).map_err(|source| StoreError::Read { path: path.clone(), source })?;
        let mut lines = GzipLines::new(file, page.member);
        let mut content = Vec::new();
        for _ in 0..page.skip {
            content.clear();
            next_record(&mut lines, &mut content);
        }
        Ok(Position { file: page.file, next: page.first, lines })
    }

    /// The first record at or behind a number, of the wanted streams, with its offset in its stream.
    fn find(&mut self, number: u64, wanted: [bool; 2]) -> Result<Option<(Chunk, u64)>, StoreError> {
        let is_wanted = |page: &Page| wanted[Kind::from(page.stream).place()];
        let from = self.pages.partition_point(|page| page.first + page.records <= number);
        let Some(behind) = self.pages[from..].iter().position(is_wanted) else { return Ok(None) };
        let Some(Loaded { page, records, content }) = self.load(from + behind)? else { return Ok(None) };
        let sequence = number.max(page.first);
        let Some((start, record)) = records.get((sequence - page.first) as usize) else { return Ok(None) };
        let bytes = content[*start..*start + record.bytes].to_vec();
        let Record { time_ns, lost, .. } = *record;
        let chunk = Chunk { sequence, stream: page.stream, time_ns, bytes, lost };
        Ok(Some((chunk, page.bytes_before + *start as u64)))
    }

    /// The row with a number.
    pub(super) fn row(&mut self, number: u64) -> Result<Option<Row>, StoreError> {
        let found = self.find(number, [true; 2])?.filter(|(chunk, _)| chunk.sequence == number);
        Ok(found.map(|(Chunk { sequence, stream, time_ns, bytes, lost }, offset)| {
            let length = bytes.len() as u32;
            let span = if lost > 0 { Span::Lost(lost) } else { Span::Bytes { offset, length } };
            Row { sequence, time_ns, stream, span }
        }))
    }

    /// The first record at or behind a number, of the wanted streams.
    pub(super) fn next(&mut self, from: u64, wanted: [bool; 2]) -> Result<Option<Chunk>, StoreError> {
        Ok(self.find(from.max(1), wanted)?.map(|(chunk, _)| chunk))
    }

    /// At most `length` bytes of a stream from an offset.
    pub(super) fn bytes(
        &mut self,
        stream: Stream,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let at = offset + bytes.len() as u64;
            let holds = |page: &Page| page.stream == stream && page.bytes_before + page.bytes > at;
            let Some(found) = self.pages.iter().position(holds) else { break };
            let Some(Loaded { page, content, .. }) = self.load(found)? else { break };
            let rest = content.get(at.saturating_sub(page.bytes_before) as usize..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            bytes.extend_from_slice(&rest[..rest.len().min(length - bytes.len())]);
        }
        Ok(bytes)
    }

    /// The number of a stream's first record of `time_ns` or later; `None`: all are earlier.
    pub(super) fn at_time(&mut self, stream: Stream, time_ns: i64) -> Result<Option<u64>, StoreError> {
        for at in 0..self.pages.len() {
            if self.pages[at].stream != stream {
                continue;
            }
            let Some(loaded) = self.load(at)? else { break };
            let first = loaded.records.iter().position(|(_, record)| record.time_ns >= time_ns);
            if let Some(first) = first {
                return Ok(Some(loaded.page.first + first as u64));
            }
        }
        Ok(None)
    }
}
