//! Numbers about the work of the store, for the log and for a metrics endpoint.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::persist::remote::RemoteFigures;

/// One number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// Adds to the number.
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The numbers while they grow; [`RemoteFigures`] explains them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) requests: Counter,
    pub(super) retries: Counter,
    pub(super) throttled: Counter,
    pub(super) events: Counter,
    pub(super) bytes: Counter,
    pub(super) data: Counter,
    pub(super) rejected: Counter,
    pub(super) split: Counter,
    pub(super) lost_bytes: Counter,
    pub(super) lost_samples: Counter,
    pub(super) times_adjusted: Counter,
}

impl Counters {
    /// The numbers of this moment.
    pub(super) fn figures(&self) -> RemoteFigures {
        RemoteFigures {
            requests: self.requests.get(),
            retries: self.retries.get(),
            throttled: self.throttled.get(),
            events: self.events.get(),
            bytes: self.bytes.get(),
            data: self.data.get(),
            rejected: self.rejected.get(),
            split: self.split.get(),
            lost_bytes: self.lost_bytes.get(),
            lost_samples: self.lost_samples.get(),
            times_adjusted: self.times_adjusted.get(),
        }
    }
}
