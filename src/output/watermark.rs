//! How far a job's output has come, and what holds it back.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use super::{Full, Stream};
use crate::job::ClientId;
use crate::stream;

/// The watermark of a job's output, counted in rows of the spool's index, with the limit that holds the output back
/// or that the job was ended for. The collector publishes rows and limits, the loop the job's client and the end; both,
/// and readers, look.
pub struct Watermark {
    rows: Arc<stream::Watermark>,
    /// The limit that each stream waits for, as [`number`] encodes it.
    waits: [AtomicU8; 2],
    /// The limit for which the job is to end.
    over: AtomicU8,
    /// The client whose job writes; a warm sandbox has none yet, and its pipes are collected already.
    client: AtomicU64,
    /// Whether joblet-init stays when all output is there.
    holds: AtomicBool,
    /// Whether the spool may lack rows that the history has.
    is_cut: AtomicBool,
}

const NOTHING: u8 = 0;

fn number(full: Option<Full>) -> u8 {
    match full {
        None => NOTHING,
        Some(Full::Job) => 1,
        Some(Full::All) => 2,
        Some(Full::Disk) => 3,
    }
}

fn full(number: u8) -> Option<Full> {
    [Full::Job, Full::All, Full::Disk].get(usize::from(number).checked_sub(1)?).copied()
}

impl Watermark {
    /// The watermark of a job that has written nothing yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Watermark {
            rows: stream::Watermark::new(),
            waits: Default::default(),
            over: AtomicU8::new(NOTHING),
            client: AtomicU64::new(ClientId::default().number()),
            holds: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
        })
    }

    /// Counts the output for this client from now on.
    pub fn set_client(&self, client: ClientId) {
        self.client.store(client.number(), Ordering::SeqCst);
    }

    pub(super) fn client(&self) -> ClientId {
        ClientId::new(self.client.load(Ordering::SeqCst))
    }

    /// Leaves it to somebody else to let joblet-init end. Set before the payload starts.
    pub fn hold(&self) {
        self.holds.store(true, Ordering::SeqCst);
    }

    pub(super) fn holds(&self) -> bool {
        self.holds.load(Ordering::SeqCst)
    }

    /// The host has restarted since the job wrote: its spool is never synced, so the history may have more rows.
    pub fn set_cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::SeqCst)
    }

    /// The rows alone, for readers that know neither limits nor jobs.
    pub fn rows(&self) -> &Arc<stream::Watermark> {
        &self.rows
    }

    /// Lets readers read so many rows.
    pub fn publish(&self, rows: u64) {
        self.rows.publish(rows);
    }

    /// Ends the output, which is complete: readers end when they have read all rows.
    pub fn end(&self) {
        self.rows.end();
    }

    /// The rows that may be read, and whether the output has ended.
    pub fn look(&self) -> (u64, bool) {
        self.rows.look()
    }

    /// The limit that the output waits for, if it does. The job's pipes stay full meanwhile.
    pub fn waits(&self) -> Option<Full> {
        self.waits.iter().find_map(|of_stream| full(of_stream.load(Ordering::SeqCst)))
    }

    /// Sets the limit that a stream waits for, and notifies readers where the job waits for another one now.
    pub fn set_waits(&self, stream: Stream, what: Option<Full>) {
        let before = self.waits();
        self.waits[stream.place()].store(number(what), Ordering::SeqCst);
        if self.waits() != before {
            self.rows.notify();
        }
    }

    /// The limit that the job was ended for.
    pub fn over(&self) -> Option<Full> {
        full(self.over.load(Ordering::SeqCst))
    }

    pub(super) fn set_over(&self, what: Full) {
        self.over.store(number(Some(what)), Ordering::SeqCst);
    }
}

impl fmt::Debug for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, ended) = self.look();
        write!(f, "Watermark({rows} rows, ended {ended})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_waits_while_one_of_its_streams_does() {
        let watermark = Watermark::new();
        assert_eq!((watermark.waits(), watermark.over()), (None, None));
        for what in [Full::Job, Full::All, Full::Disk] {
            watermark.set_waits(Stream::Stderr, Some(what));
            watermark.set_over(what);
            assert_eq!((watermark.waits(), watermark.over()), (Some(what), Some(what)));
        }
        watermark.set_waits(Stream::Stderr, None);
        assert_eq!(watermark.waits(), None);
    }
}
