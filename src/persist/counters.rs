//! The work of the process in numbers, and the line about what is wrong.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::Level;

use super::store::Committed;
use crate::diag;

/// From one line about trouble to the next.
const REPORT: Duration = Duration::from_secs(60);

/// Totals since the start of the process.
#[derive(Debug, Default)]
pub(super) struct Counters {
    records: AtomicU64,
    bytes: AtomicU64,
    stored_bytes: AtomicU64,
    failures: AtomicU64,
    unknown: AtomicU64,
    foreign: AtomicU64,
    thrown: AtomicU64,
    /// When trouble is reported next, and the totals of the last report.
    report: Mutex<(Option<Instant>, Totals)>,
}

/// The totals at one moment. A metrics endpoint can export them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    /// Records stored: rows of output and samples.
    pub records: u64,
    /// Bytes of output and samples stored, as they came.
    pub bytes: u64,
    /// Bytes of the files they became.
    pub stored_bytes: u64,
    /// Commits and reads that failed.
    pub failures: u64,
    /// Messages that nobody here knows.
    pub unknown: u64,
    /// Messages of writers that send output themselves.
    pub foreign: u64,
    /// Losses of such writers: messages that were thrown away, and failed commits.
    pub thrown: u64,
}

impl Counters {
    /// Counts a commit.
    pub(super) fn stored(&self, committed: &Committed) {
        self.records.fetch_add(committed.records, Ordering::Relaxed);
        self.bytes.fetch_add(committed.bytes, Ordering::Relaxed);
        self.stored_bytes.fetch_add(committed.stored, Ordering::Relaxed);
    }

    /// Counts a failure; a line about all of them follows within a minute.
    pub(super) fn failed(&self) {
        self.trouble(&self.failures);
    }

    /// Counts a message of an unknown type, as [`Counters::failed`] does.
    pub(super) fn unknown(&self) {
        self.trouble(&self.unknown);
    }

    fn trouble(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.0.get_or_insert_with(|| Instant::now() + REPORT);
    }

    /// Counts a message of another writer.
    pub(super) fn foreign(&self) {
        self.foreign.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a loss of another writer, as [`Counters::failed`] does.
    pub(super) fn thrown(&self) {
        self.trouble(&self.thrown);
    }

    /// The totals now.
    pub(super) fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            records: read(&self.records),
            bytes: read(&self.bytes),
            stored_bytes: read(&self.stored_bytes),
            failures: read(&self.failures),
            unknown: read(&self.unknown),
            foreign: read(&self.foreign),
            thrown: read(&self.thrown),
        }
    }

    /// When the next line about trouble is due.
    pub(super) fn report_at(&self) -> Option<Instant> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Writes that line if it is due. `waiting` counts the bytes of output that are not stored yet.
    pub(super) fn report(&self, now: Instant, waiting: u64) {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        if report.0.is_none_or(|at| at > now) {
            return;
        }
        let totals = self.totals();
        let before = std::mem::replace(&mut report.1, totals);
        report.0 = None;
        diag::event!(
            Level::Warn,
            "trouble with history in the last minute",
            failures = totals.failures - before.failures,
            unknownMessages = totals.unknown - before.unknown,
            lossesOfOtherWriters = totals.thrown - before.thrown,
            waitingBytes = waiting,
            records = totals.records,
            bytes = totals.bytes,
            storedBytes = totals.stored_bytes
        );
    }
}
