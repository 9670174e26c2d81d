//! One member in memory.

use std::fs::File;
use std::io;

use super::names::Kind;
use super::record::{self, Record};
use super::sample;
use super::segment::json_of;
use super::sidecar::Row;

/// A member in memory.
#[derive(Debug)]
pub(super) struct Loaded {
    /// The inode of its file.
    pub(super) inode: u64,
    pub(super) row: Row,
    /// The records with their offsets in the content. A damaged member has none.
    pub(super) records: Vec<(usize, Record)>,
    pub(super) content: Vec<u8>,
    pub(super) is_damaged: bool,
}

impl Loaded {
    /// Reads a member of a file.
    pub(super) fn read(kind: Kind, (file, inode): (&File, u64), row: Row) -> io::Result<Loaded> {
        let json = json_of(file, &row)?;
        let mut loaded =
            Loaded { inode, row, records: Vec::new(), content: Vec::new(), is_damaged: json.is_none() };
        let json = json.unwrap_or_default();
        loaded.content.reserve(row.header.bytes as usize);
        let read = if kind == Kind::Samples { sample::read_sample } else { record::read_row };
        for line in record::lines(&json) {
            let start = loaded.content.len();
            if let Some(record) = read(line, &mut loaded.content) {
                loaded.records.push((start, record));
            }
        }
        Ok(loaded)
    }

    /// The number of records with a higher sequence.
    pub(super) fn records_behind(&self, sequence: u64) -> u64 {
        self.records.iter().filter(|(_, record)| record.sequence > sequence).count() as u64
    }

    /// The offset in the stream of a record.
    pub(super) fn offset(&self, start: usize) -> u64 {
        self.row.header.bytes_before + start as u64
    }

    pub(super) fn bytes_of(&self, at: usize) -> &[u8] {
        let found = self.records.get(at).and_then(|(start, r)| self.content.get(*start..*start + r.bytes));
        found.unwrap_or_default()
    }
}
