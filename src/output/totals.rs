//! Output of all jobs together, for the metrics endpoint.

use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers that the collecting thread keeps and anybody may read.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) stored: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) spooled: AtomicU64,
    pub(super) held: AtomicU64,
}

/// Output of all jobs since the daemon's start, and of those that are not over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes that were stored.
    pub stored: u64,
    /// Bytes that were thrown away at a limit (`joblet.spoolPolicy: drop`).
    pub dropped: u64,
    /// Bytes in spools of jobs whose output goes on, with their index; those that history has do not count.
    pub spooled: u64,
    /// Pipes that wait for room at a limit.
    pub held: u64,
}

impl Counters {
    pub(super) fn read(&self) -> Totals {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            stored: of(&self.stored),
            dropped: of(&self.dropped),
            spooled: of(&self.spooled),
            held: of(&self.held),
        }
    }
}
