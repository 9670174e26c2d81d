//! The work of the process in numbers: one struct, which the loop owns, the log and `Ping` show, and a metrics endpoint can
//! export.

use std::time::{Duration, Instant};

use log::Level;

use super::remote::RemoteFigures;
use super::store::Committed;
use crate::diag;

/// From one line about trouble to the next.
const REPORT: Duration = Duration::from_secs(60);

/// The numbers at one moment. Those of what waits are of now, the others count from the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Records stored: rows of output and samples.
    pub records: u64,
    /// Bytes of output and samples stored, as they came.
    pub bytes: u64,
    /// Bytes of the files they became.
    pub stored_bytes: u64,
    /// Records that stand for lost bytes.
    pub gaps: u64,
    /// Bytes that were lost before they came here, such as by `joblet.spoolPolicy: drop`.
    pub lost_bytes: u64,
    /// Bytes of output that are in a spool and not stored yet.
    pub waiting_bytes: u64,
    /// Commits and reads that failed, here or in the remote store.
    pub failures: u64,
    /// Messages of a type that nobody here knows.
    pub unknown_messages: u64,
    /// Messages of writers that send output themselves.
    pub foreign_messages: u64,
    /// Losses of such writers: messages that were thrown away, and failed commits.
    pub foreign_losses: u64,
    /// Rows that are stored here and that the remote store has not accepted yet.
    pub remote_waiting_rows: u64,
    /// The work of the remote store, where there is one.
    pub remote: Option<RemoteFigures>,
}

impl Figures {
    /// All numbers with their names, which docs/history.md explains.
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        let own = [
            ("records", self.records),
            ("bytes", self.bytes),
            ("stored_bytes", self.stored_bytes),
            ("gaps", self.gaps),
            ("lost_bytes", self.lost_bytes),
            ("waiting_bytes", self.waiting_bytes),
            ("failures", self.failures),
            ("unknown_messages", self.unknown_messages),
            ("foreign_messages", self.foreign_messages),
            ("foreign_losses", self.foreign_losses),
        ];
        let rows = [("remote_waiting_rows", self.remote_waiting_rows)];
        let remote = self.remote.iter().flat_map(|remote| rows.into_iter().chain(remote.named()));
        own.into_iter().chain(remote).collect()
    }

    /// The numbers of trouble, which stand still while all is well.
    fn trouble(&self) -> [u64; 4] {
        [self.failures, self.unknown_messages, self.foreign_losses, self.lost_bytes]
    }
}

/// The counters of the loop, and the line about what is wrong.
#[derive(Debug, Default)]
pub(super) struct Counters {
    totals: Figures,
    /// Whether the last attempt to store something failed.
    is_failing: bool,
    /// When trouble is reported next, and what was reported last.
    report_at: Option<Instant>,
    reported: Figures,
}

impl Counters {
    /// Counts a commit.
    pub(super) fn stored(&mut self, committed: &Committed, now: Instant) {
        self.totals.records += committed.records;
        self.totals.bytes += committed.bytes;
        self.totals.stored_bytes += committed.stored;
        self.totals.gaps += committed.gaps;
        self.is_failing = false;
        if committed.lost > 0 {
            self.totals.lost_bytes += committed.lost;
            self.look(now);
        }
    }

    /// Counts a failure; a line about all of them follows within a minute.
    pub(super) fn failed(&mut self, now: Instant) {
        self.totals.failures += 1;
        self.is_failing = true;
        self.look(now);
    }

    /// Counts a failure of the remote store.
    pub(super) fn remote_failed(&mut self, now: Instant) {
        self.totals.failures += 1;
        self.look(now);
    }

    /// Counts a message of an unknown type.
    pub(super) fn unknown(&mut self) {
        self.totals.unknown_messages += 1;
        self.look(Instant::now());
    }

    /// Counts a message of another writer.
    pub(super) fn foreign(&mut self) {
        self.totals.foreign_messages += 1;
    }

    /// Counts a loss of another writer.
    pub(super) fn thrown(&mut self) {
        self.totals.foreign_losses += 1;
        self.look(Instant::now());
    }

    fn look(&mut self, now: Instant) {
        self.report_at.get_or_insert(now + REPORT);
    }

    /// The totals, without what the loop alone knows.
    pub(super) fn totals(&self) -> Figures {
        self.totals
    }

    /// Whether output can be stored, as far as the last attempt tells.
    pub(super) fn is_healthy(&self) -> bool {
        !self.is_failing
    }

    /// When the next line about trouble is due.
    pub(super) fn report_at(&self) -> Option<Instant> {
        self.report_at
    }

    /// Writes that line if it is due.
    pub(super) fn report(&mut self, now: Instant, figures: impl FnOnce() -> Figures) {
        let Some([failures, unknown, losses, lost]) = self.news(now) else { return };
        let figures = figures();
        let all: Vec<String> =
            figures.named().iter().map(|(name, value)| format!("{name}={value}")).collect();
        diag::event!(
            Level::Warn,
            "trouble with history in the last minute",
            failures = failures,
            unknownMessages = unknown,
            lossesOfOtherWriters = losses,
            lostBytes = lost,
            totals = all.join(" ")
        );
    }

    /// The trouble since the last line, if the next one is due.
    fn news(&mut self, now: Instant) -> Option<[u64; 4]> {
        self.report_at.take_if(|at| *at <= now)?;
        let before = std::mem::replace(&mut self.reported, self.totals).trouble();
        let after = self.totals.trouble();
        Some(std::array::from_fn(|n| after[n] - before[n]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_reported_once_a_minute_with_what_is_new() {
        let (mut counters, start) = (Counters::default(), Instant::now());
        let committed = Committed { records: 3, bytes: 100, stored: 60, ..Committed::default() };
        counters.stored(&committed, start);
        counters.foreign();
        assert_eq!((counters.report_at(), counters.is_healthy()), (None, true));
        counters.failed(start);
        counters.failed(start + Duration::from_secs(50));
        assert!(!counters.is_healthy());
        assert_eq!(counters.news(start + REPORT / 2), None);
        assert_eq!(counters.news(start + REPORT), Some([2, 0, 0, 0]));
        assert_eq!(counters.report_at(), None);
        counters.stored(&Committed { gaps: 2, lost: 7, ..committed }, start + REPORT);
        counters.remote_failed(start + 2 * REPORT);
        assert!(counters.is_healthy(), "what is here is stored");
        assert_eq!(counters.news(start + 2 * REPORT), Some([1, 0, 0, 7]));
        let totals = counters.totals();
        assert_eq!((totals.records, totals.bytes, totals.stored_bytes, totals.gaps), (6, 200, 120, 2));
    }

    #[test]
    fn every_number_has_a_name_of_its_own() {
        let figures = Figures { remote: Some(RemoteFigures::default()), ..Figures::default() };
        let mut names: Vec<&str> = figures.named().iter().map(|(name, _)| *name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!((names.len(), Figures::default().named().len()), (count, 10));
    }
}
