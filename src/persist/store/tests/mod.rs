//! A job's output through the store and back, against a model that holds all of it.
//!
//! The model is a spool in memory. A bench has a store in a directory of its own; it stores rows of the model, reads
//! them back in every way, and compares.

mod ahead;
mod basic;
mod checking;
mod faults;
mod foreign;
mod golden;
mod packing;
mod together;

use super::disk::fault::{self, Fault};
use super::names::Names;
use super::*;
use crate::output::Stream;
use crate::output::spool::Span;
use proptest::prelude::*;
use rustix::io::Errno;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::path::PathBuf;

const START_NS: i64 = 1_705_314_600_000_000_000;

/// A spool in memory: rows with their bytes.
#[derive(Debug, Default, Clone)]
struct Spool {
    rows: Vec<(Row, Vec<u8>)>,
    ends: [u64; 2],
}

fn stream(is_stderr: bool) -> Stream {
    if is_stderr { Stream::Stderr } else { Stream::Stdout }
}

impl Spool {
    fn write(&mut self, is_stderr: bool, bytes: &[u8]) {
        let (sequence, end) = (self.rows.len() as u64 + 1, &mut self.ends[usize::from(is_stderr)]);
        let span = Span::Bytes { offset: *end, length: bytes.len() as u32 };
        *end += bytes.len() as u64;
        let time_ns = START_NS + sequence as i64 * 1000;
        self.rows.push((Row { sequence, time_ns, stream: stream(is_stderr), span }, bytes.to_vec()));
    }

    fn lose(&mut self, is_stderr: bool, lost: u64) {
        let sequence = self.rows.len() as u64 + 1;
        let (time_ns, span) = (START_NS + sequence as i64 * 1000, Span::Lost(lost));
        self.rows.push((Row { sequence, time_ns, stream: stream(is_stderr), span }, Vec::new()));
    }

    /// Numbered lines on both streams.
    fn lines(rows: u32) -> Spool {
        let mut spool = Spool::default();
        for n in 0..rows {
            spool.write(n % 3 == 1, format!("line {n} {:x}\n", n.wrapping_mul(2_654_435_761)).as_bytes());
        }
        spool
    }

    fn of(&self, wanted: Stream) -> Vec<u8> {
        self.rows
            .iter()
            .filter(|(row, _)| row.stream == wanted)
            .flat_map(|(_, bytes)| bytes.clone())
            .collect()
    }
}

/// A store in a directory of its own, and one job in it.
struct Bench {
    dir: tempfile::TempDir,
    store: LocalStore,
    id: JobId,
    packer: Packer,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(StoreLimits::default())
    }

    fn with(limits: StoreLimits) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::new(Layout::below(dir.path()), limits);
        Bench { dir, store, id: JobId::random(), packer: Packer::new() }
    }

    fn open(&self) -> JobStore {
        self.store.job(self.id).unwrap()
    }

    fn logs(&self) -> PathBuf {
        self.dir.path().join("logs").join(self.id.to_string())
    }

    fn names(&self, kind: Kind) -> Names {
        Names { dir: self.logs(), kind }
    }

    /// Stages rows from the job's own position on and commits them.
    fn store(&mut self, job: &mut JobStore, rows: &[(Row, Vec<u8>)]) -> Result<Committed, StoreError> {
        for (row, bytes) in rows {
            job.stage(row, bytes, &mut self.packer, 6)?;
        }
        let through = rows.last().map_or(0, |(row, _)| row.sequence);
        job.commit(through, &mut self.packer, 6)
    }

    /// Goes on behind what is stored, in commits of some rows, until all rows are.
    fn complete(&mut self, job: &mut JobStore, spool: &Spool, rows_a_commit: usize) {
        let from = job.resume().through as usize;
        for rows in spool.rows[from.min(spool.rows.len())..].chunks(rows_a_commit) {
            self.store(job, rows).unwrap();
        }
    }

    fn history(&self) -> JobHistory {
        self.store.history(self.id).unwrap().expect("the job has a history")
    }

    /// Reads everything in three ways and compares it with the spool.
    fn check(&self, spool: &Spool) {
        let mut history = self.history();
        assert_eq!(history.rows().unwrap(), spool.rows.len() as u64);
        for (row, bytes) in &spool.rows {
            assert_eq!(history.row(row.sequence).unwrap().as_ref(), Some(row));
            if let Span::Bytes { offset, length } = row.span {
                assert_eq!(&history.bytes(row.stream, offset, length as usize).unwrap(), bytes);
            }
        }
        let read = all(&mut history, [true; 2]);
        let want: Vec<(u64, Vec<u8>)> =
            spool.rows.iter().map(|(row, bytes)| (row.sequence, bytes.clone())).collect();
        assert_eq!(read, want);
        for wanted in [Stream::Stdout, Stream::Stderr] {
            assert_eq!(
                content(&gunzip(&self.names(wanted.into()))),
                spool.of(wanted),
                "{wanted:?} by any tool"
            );
        }
    }
}

fn all(history: &mut JobHistory, wanted: [bool; 2]) -> Vec<(u64, Vec<u8>)> {
    let mut from = 0;
    std::iter::from_fn(|| {
        let chunk = history.next(from, wanted).unwrap()?;
        from = chunk.sequence + 1;
        Some((chunk.sequence, chunk.bytes))
    })
    .collect()
}

/// All files of a kind, oldest first, as `zcat` shows them.
fn gunzip(names: &Names) -> Vec<u8> {
    let mut text = Vec::new();
    for number in names.rotated().unwrap().into_iter().map(Some).chain([None]) {
        if let Ok(bytes) = fs::read(names.log(number)) {
            flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut text).unwrap();
        }
    }
    text
}

/// The bytes behind the `content` of each line, as a JSON reader sees them; sequences grow.
fn content(json: &[u8]) -> Vec<u8> {
    let (mut bytes, mut last) = (Vec::new(), 0);
    for line in json.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let value: serde_json::Value = serde_json::from_slice(line).unwrap();
        let sequence = value["sequence"].as_u64().unwrap();
        assert!(sequence > last, "{sequence} behind {last}");
        last = sequence;
        record::read_row(line, &mut bytes).unwrap();
    }
    bytes
}
