//! The way in which other threads than the loop have networks and volumes recorded, and what counts records on it.

use crossbeam_channel::{Sender, bounded};

use super::token::Token;
use crate::state::{Change, StandingChange};

/// Counts one record until the loop has heard whether it is on disk.
#[derive(Debug)]
pub(super) struct PendingWrite(#[expect(dead_code, reason = "counts as long as it lives")] Token);

impl PendingWrite {
    /// Counts as long as the token does.
    pub(super) fn new(token: Token) -> PendingWrite {
        PendingWrite(token)
    }
}

/// Records networks and volumes, for a thread that may wait for the disk.
#[derive(Debug)]
pub(super) struct StandingStore(Option<Sender<Change<PendingWrite>>>);

impl StandingStore {
    /// Sends changes to the thread that reads them; `None`: everything is kept in memory only.
    pub(super) fn new(changes: Option<Sender<Change<PendingWrite>>>) -> StandingStore {
        StandingStore(changes)
    }

    /// Whether a later daemon will know what is recorded.
    pub(super) fn is_on_disk(&self) -> bool {
        self.0.is_some()
    }

    /// Waits until a change is durable, or is as durable as it gets in memory.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub(super) fn put(&self, change: impl Into<StandingChange>) -> Result<(), String> {
        let Some(changes) = &self.0 else { return Ok(()) };
        let gone = || "the state thread is gone".to_owned();
        let (tell, decided) = bounded(1);
        let decided_there = Box::new(move |result| {
            // The receiver waits right below.
            let _ = tell.send(result);
        });
        let change = change.into();
        changes.send(Change::Standing { change, decided: decided_there }).map_err(|_| gone())?;
        decided.recv().unwrap_or_else(|_| Err(gone()))
    }
}
