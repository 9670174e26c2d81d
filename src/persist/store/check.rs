//! The check of one file: every member is read, whatever an index says.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::gzip::member_size;
use super::log_file::{Tail, believed_rows};
use super::member::{FIXED, LONGEST};
use super::record::{Record, lines, read_row};
use super::sample::read_sample;
use super::segment::{json_of, row_at};
use super::sidecar::Row;

/// Problems that a report lists; further ones are counted.
const LISTED: usize = 100;

/// A place in a file at which something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The offset in the file.
    pub offset: u64,
    /// The fault in words.
    pub why: String,
}

/// The result of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Members of ours.
    pub members: u64,
    /// Whole members of other programs.
    pub foreign_members: u64,
    /// Records in members of ours.
    pub records: u64,
    /// Bytes of output or of samples in them.
    pub bytes: u64,
    /// Line breaks in them.
    pub lines: u64,
    /// The first and the last sequence.
    pub sequences: Option<(u64, u64)>,
    /// Rows of the index that are right. Missing ones are no problem: they are made anew.
    pub index_rows: u64,
    /// The first problems.
    pub problems: Vec<Problem>,
    /// The number of all problems.
    pub problem_count: u64,
}

impl Report {
    fn problem(&mut self, offset: u64, why: impl Into<String>) {
        self.problem_count += 1;
        if self.problems.len() < LISTED {
            self.problems.push(Problem { offset, why: why.into() });
        }
    }
}

/// Reads a file of history, such as `stdout.log.gz`, from its start to its end.
///
/// # Errors
/// The file cannot be opened or read. Damage is no error but part of the report.
pub fn check(path: &Path) -> Result<Report, StoreError> {
    check_file(path).map_err(|source| StoreError::Read { path: path.to_owned(), source })
}

fn check_file(path: &Path) -> io::Result<Report> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut report = Report::default();
    let is_samples = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("metrics"));
    let (mut at, mut before) = (0, None);
    while at < length {
        if let Some(row) = row_at(&file, at, length)? {
            check_member(&file, &row, before, is_samples, &mut report)?;
            (at, before) = (row.end(), Some(Tail::behind(&row.header)));
            continue;
        }
        match member_size(&file, at) {
            Some((size, _)) if !is_ours(&file, at)? => {
                report.foreign_members += 1;
                at += size;
            }
            _ => {
                let next = next_member(&file, at + 1, length)?;
                report.problem(at, format!("{} bytes are no member", next.unwrap_or(length) - at));
                at = next.unwrap_or(length);
            }
        }
    }
    if let Some(index) = index_of(path) {
        report.index_rows = believed_rows(&file, &index, length)?.len() as u64;
    }
    Ok(report)
}

fn is_ours(file: &File, at: u64) -> io::Result<bool> {
    let mut block = [0; FIXED.len()];
    file.read_exact_at(&mut block, at)?;
    Ok(block.iter().zip(FIXED).filter(|(byte, fixed)| **byte == *fixed).count() + 2 >= FIXED.len())
}

/// The offset of the next member of ours whose header is right.
fn next_member(file: &File, from: u64, length: u64) -> io::Result<Option<u64>> {
    let (mut at, mut block) = (from, vec![0; LONGEST]);
    while at < length {
        let room = block.len().min((length - at) as usize);
        file.read_exact_at(&mut block[..room], at)?;
        for found in (0..room.saturating_sub(FIXED.len() - 1)).filter(|n| block[*n..].starts_with(&FIXED)) {
            if row_at(file, at + found as u64, length)?.is_some() {
                return Ok(Some(at + found as u64));
            }
        }
        // A member may begin at the very end of the block.
        at += (room - (FIXED.len() - 1).min(room - 1)) as u64;
    }
    Ok(None)
}

fn check_member(
    file: &File,
    row: &Row,
    before: Option<Tail>,
    is_samples: bool,
    report: &mut Report,
) -> io::Result<()> {
    let header = &row.header;
    report.members += 1;
    if let Some(before) = before {
        if header.first <= before.sequence {
            report.problem(row.offset, format!("sequence {} again", header.first));
        }
        if header.bytes_before != before.bytes {
            let why = format!("byte {} of the stream follows byte {}", header.bytes_before, before.bytes);
            report.problem(row.offset, why);
        }
    }
    let first = report.sequences.map_or(header.first, |(first, _)| first);
    report.sequences = Some((first, header.last));
    let Some(json) = json_of(file, row)? else {
        let why =
            format!("the member is damaged; it has {} records of {} bytes", header.records, header.bytes);
        report.problem(row.offset, why);
        return Ok(());
    };
    let (mut content, mut records) = (Vec::new(), Vec::<Record>::new());
    let read = if is_samples { read_sample } else { read_row };
    for line in lines(&json) {
        match read(line, &mut content) {
            Some(record) => records.push(record),
            None => report.problem(row.offset, "a line is no record"),
        }
    }
    let breaks = content.iter().filter(|byte| **byte == b'\n').count();
    let counted = (records.len() as u64, content.len() as u64, breaks as u64);
    let ends = (records.first().map(|r| r.sequence), records.last().map(|r| r.sequence));
    let stated = (u64::from(header.records), u64::from(header.bytes), u64::from(header.lines));
    let grows = records.is_sorted_by(|a, b| a.sequence < b.sequence);
    if counted != stated || ends != (Some(header.first), Some(header.last)) || !grows {
        report.problem(row.offset, "the header does not describe the records");
    }
    report.records += counted.0;
    report.bytes += counted.1;
    report.lines += counted.2;
    Ok(())
}

/// The index beside a file: `stdout.idx` of `stdout.log.gz`, `stdout.1.idx` of `stdout.log.1.gz`.
fn index_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_suffix(".gz")?;
    let (stem, rest) = name.split_once('.')?;
    let number = rest.split_once('.').map_or(String::new(), |(_, number)| format!(".{number}"));
    Some(path.with_file_name(format!("{stem}{number}.idx")))
}
