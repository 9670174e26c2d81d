//! The reason why a followed job waits, as a note on stderr: a job that waits for room for its output prints nothing, and
//! no reader can tell that from a job that computes. The server sends the reason with the output.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::out::Out;
use super::render::short;
use super::terminal::one_line;
use crate::pb::joblet::DataChunk;

/// How long a wait lasts before it is worth a note: a job may wait for moments, again and again.
const SETTLE: Duration = Duration::from_secs(1);
/// Most changes on their way to the thread that writes notes. With more of them, while stderr takes nothing, output
/// waits too.
const CHANGES: usize = 8;

/// The wait of one job that is followed.
pub(crate) struct WaitNote {
    uuid: String,
    /// The reason of its wait as of the last chunk; empty where it does not wait.
    reason: String,
    /// The thread that writes notes, from the first wait on.
    notes: Option<SyncSender<String>>,
}

impl WaitNote {
    /// A job that does not wait yet.
    pub(crate) fn new(uuid: &str) -> WaitNote {
        WaitNote { uuid: uuid.to_owned(), reason: String::new(), notes: None }
    }

    /// Takes note of a chunk, which says whether the job waits.
    pub(crate) fn chunk(&mut self, chunk: &DataChunk) {
        if chunk.wait_reason == self.reason {
            return;
        }
        self.reason.clone_from(&chunk.wait_reason);
        let notes = self.notes.get_or_insert_with(|| {
            let (notes, changes) = sync_channel(CHANGES);
            let id = one_line(short(&self.uuid));
            let write = move |reason: &str| {
                let text = one_line(reason);
                Out { json: false, colour: false }
                    .note(&format!("rnx: job {id} waits: {text}; to end it: rnx job stop {id}"));
            };
            // Without a thread there are no notes.
            let _ = thread::Builder::new()
                .name("wait-note".into())
                .spawn(move || note_waits(&changes, SETTLE, write));
            notes
        });
        let _ = notes.send(self.reason.clone());
    }
}

/// Writes each reason that stays in force for the time `settle`, until nobody can send another one.
fn note_waits(changes: &Receiver<String>, settle: Duration, write: impl Fn(&str)) {
    while let Ok(mut reason) = changes.recv() {
        loop {
            match changes.recv_timeout(settle) {
                Ok(newer) => reason = newer,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        if !reason.is_empty() {
            write(&reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn waits_that_last_are_noted_and_moments_are_not() {
        let (send, changes) = sync_channel(CHANGES);
        let (noted, notes) = channel();
        for reason in ["", "a moment", "", "the disk"] {
            send.send(reason.to_owned()).unwrap();
        }
        let thread = thread::spawn(move || {
            note_waits(&changes, Duration::from_millis(20), |reason| noted.send(reason.to_owned()).unwrap());
        });
        assert_eq!(notes.recv().unwrap(), "the disk");
        // It went on and waits for the same again.
        send.send(String::new()).unwrap();
        send.send("the disk".into()).unwrap();
        assert_eq!(notes.recv().unwrap(), "the disk");
        drop(send);
        thread.join().unwrap();
        assert!(notes.recv().is_err());
    }
}
