//! The two directions of a link, between the relay and the call that holds its near end.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// Why a link did not come about, or ended before its time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// As many connections of the job are open as may be.
    #[error("the job has {} connections open, as many as one job may have; try again", super::JOB_LINKS)]
    JobFull,
    /// As many connections of the node are open as may be.
    #[error("{} connections to jobs are open, as many as the node allows; try again", super::NODE_LINKS)]
    NodeFull,
    /// Nobody listens there.
    #[error("nothing listens there inside the job")]
    Refused,
    /// The job's network did not answer in time.
    #[error("no answer within 3 s")]
    TimedOut,
    /// The job has ended.
    #[error("the job has ended")]
    Ended,
    /// The job's side broke the connection off.
    #[error("the job's side reset the connection")]
    Reset,
    /// The client may not go on.
    #[error("the client is no longer trusted")]
    Untrusted,
    /// The relay ends.
    #[error("the daemon is shutting down")]
    Closed,
    /// The job's network could not be entered, or gave no socket.
    #[error("cannot connect inside the job: {0}")]
    Dial(String),
}

impl LinkError {
    /// The meaning of a refusal of connect(2), or of the way there.
    pub(super) fn of_dial(why: &io::Error) -> Self {
        match why.kind() {
            io::ErrorKind::ConnectionRefused => LinkError::Refused,
            io::ErrorKind::NotConnected => LinkError::Ended,
            io::ErrorKind::TimedOut => LinkError::TimedOut,
            _ => LinkError::Dial(why.to_string()),
        }
    }
}

/// One direction: one chunk, or none.
#[derive(Debug, Default)]
pub(super) struct Direction {
    /// Waits to be taken.
    chunk: Option<Vec<u8>>,
    /// Whether a chunk was taken that is not written yet.
    writing: bool,
    /// Nothing comes behind the chunk.
    ended: bool,
    /// That was passed on.
    passed: bool,
}

/// The next thing in a direction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Element {
    Chunk(Vec<u8>),
    /// Once: the end of the direction.
    End,
    Nothing,
}

impl Direction {
    /// Whether a chunk may be put, or the end.
    pub(super) fn has_room(&self) -> bool {
        self.chunk.is_none() && !self.writing && !self.ended
    }

    /// Puts a chunk, where there is room.
    pub(super) fn put(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() && !self.ended {
            self.chunk = Some(bytes);
        }
    }

    /// Nothing comes any more.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Whether nothing comes behind what is there.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes the next chunk, or the end.
    pub(super) fn take(&mut self) -> Element {
        if self.writing {
            return Element::Nothing;
        }
        match self.chunk.take() {
            Some(bytes) => Element::Chunk(bytes),
            None if self.ended && !self.passed => {
                self.passed = true;
                Element::End
            }
            None => Element::Nothing,
        }
    }

    /// Whether a chunk that was taken is not written yet: there is no room for the next.
    pub(super) fn set_writing(&mut self, writing: bool) {
        self.writing = writing;
    }

    /// Nobody takes anything any more: what was there is lost.
    pub(super) fn discard(&mut self) {
        *self = Direction { ended: true, passed: true, ..Direction::default() };
    }

    /// Whether its end was passed on.
    pub(super) fn is_over(&self) -> bool {
        self.passed
    }
}

/// The state of a link that both of its ends see.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Towards the job.
    pub(super) inward: Direction,
    /// From the job.
    pub(super) outward: Direction,
    /// Whether the job's side is connected.
    pub(super) opened: bool,
    /// How the link ended.
    pub(super) over: Option<Result<(), LinkError>>,
    /// Wakes the call.
    pub(super) waker: Option<Waker>,
    /// Whether the relay knows that the call has done something.
    pub(super) notified: bool,
}

/// The state of a link, shared.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<State>);

impl Shared {
    /// The state, for as long as a few fields take: never over a system call.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the call look again.
    pub(super) fn wake(&self) {
        let waker = self.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direction_has_one_chunk_and_one_end() {
        let mut direction = Direction::default();
        assert!(direction.has_room());
        direction.put(b"a".to_vec());
        assert!(!direction.has_room());
        direction.end();
        assert_eq!(direction.take(), Element::Chunk(b"a".to_vec()));
        direction.set_writing(true);
        assert_eq!(direction.take(), Element::Nothing, "the end waits for the chunk");
        direction.set_writing(false);
        assert_eq!((direction.take(), direction.take()), (Element::End, Element::Nothing));
        direction.put(b"late".to_vec());
        assert_eq!(direction.take(), Element::Nothing);
        assert!(direction.is_over() && !direction.has_room());
    }
}
