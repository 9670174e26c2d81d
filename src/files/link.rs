//! The two queues between the sides of a copy.

use futures_channel::mpsc;
use futures_executor::block_on;
use futures_util::{SinkExt, StreamExt};

use super::error::FilesError;
use crate::pb::joblet::FilesMessage;

/// Messages that wait, each way.
const QUEUE: usize = 2;

/// One side's end of a copy. It belongs to a thread that may wait.
#[derive(Debug)]
pub struct Link {
    to: mpsc::Sender<FilesMessage>,
    from: mpsc::Receiver<FilesMessage>,
}

impl Link {
    /// A link, and the ends of its queues for whoever carries the messages: those that the link sends, and those that it takes.
    pub fn new() -> (Link, mpsc::Receiver<FilesMessage>, mpsc::Sender<FilesMessage>) {
        let (to, sent) = mpsc::channel(QUEUE);
        let (taken, from) = mpsc::channel(QUEUE);
        (Link { to, from }, sent, taken)
    }

    /// Waits until the message is in the queue.
    pub(super) fn send(&mut self, message: FilesMessage) -> Result<(), FilesError> {
        block_on(self.to.send(message)).map_err(|_| FilesError::Gone)
    }

    /// Waits for a message.
    pub(super) fn receive(&mut self) -> Result<FilesMessage, FilesError> {
        block_on(self.from.next()).ok_or(FilesError::Gone)
    }

    /// A message that is there already.
    pub(super) fn try_receive(&mut self) -> Result<Option<FilesMessage>, FilesError> {
        match self.from.try_recv() {
            Ok(message) => Ok(Some(message)),
            Err(mpsc::TryRecvError::Empty) => Ok(None),
            Err(mpsc::TryRecvError::Closed) => Err(FilesError::Gone),
        }
    }
}
