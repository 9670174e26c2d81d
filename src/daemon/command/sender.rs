//! The way into the loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::request::{Command, CommandError, QUEUE};
use crate::sys::mailbox::{Mailbox, SendError};

/// The way into the loop, for any number of threads.
#[derive(Debug, Clone)]
pub struct CommandSender {
    mailbox: Mailbox<Command>,
    closed: Arc<AtomicBool>,
}

impl CommandSender {
    /// A sender into this mailbox of the loop.
    pub fn new(mailbox: Mailbox<Command>) -> Self {
        CommandSender { mailbox, closed: Arc::default() }
    }

    /// Hands a command to the loop; never waits.
    ///
    /// # Errors
    /// The mailbox is full, or the daemon is shutting down.
    pub fn submit(&self, command: Command) -> Result<(), CommandError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(CommandError::ShuttingDown);
        }
        self.mailbox.try_send(command).map_err(|e| match e {
            SendError::Full(_) => {
                CommandError::Exhausted(format!("too many requests: {QUEUE} are waiting already; try again"))
            }
            SendError::Closed(_) => CommandError::ShuttingDown,
        })
    }

    /// Accepts nothing any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}
