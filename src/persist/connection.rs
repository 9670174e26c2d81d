//! The connections of writers: who they are, and how long a message may take.

use std::time::{Duration, Instant};

use mio::net::UnixStream;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::PersistError;
use super::link::{Link, Received};

/// How long a message may take from its first byte to its last.
const PATIENCE: Duration = Duration::from_secs(10);
/// Reads of one connection before the others have their turn.
const READS: usize = 64;

/// One connection of a writer.
#[derive(Debug)]
pub(super) struct Connection {
    link: Link,
    /// Whether its peer may hand over descriptors.
    is_root: bool,
    /// When the message that is coming must be there.
    deadline: Option<Instant>,
}

/// The user id behind a socket.
pub(super) fn peer_uid(socket: &impl std::os::fd::AsFd) -> Option<u32> {
    getsockopt(socket, PeerCredentials).ok().map(|peer| peer.uid())
}

impl Connection {
    /// A connection of this peer.
    pub(super) fn new(socket: UnixStream, uid: u32, longest: usize) -> Connection {
        Connection { link: Link::new(socket, longest), is_root: uid == 0, deadline: None }
    }

    /// Its end of the wire.
    pub(super) fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// Whether its peer may hand over descriptors.
    pub(super) fn is_root(&self) -> bool {
        self.is_root
    }

    /// When it is closed unless more of its message comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Lets its message take longer: we do not read it.
    pub(super) fn stall(&mut self) {
        self.deadline = None;
    }

    /// Reads what has come, and whether there may be more.
    ///
    /// # Errors
    /// The connection has ended, or sends bytes that are no message. Earlier messages are in `received`.
    pub(super) fn read(&mut self, received: &mut Vec<Received>, now: Instant) -> Result<bool, PersistError> {
        let mut more = true;
        for _ in 0..READS {
            more = self.link.receive()?;
            while let Some(message) = self.link.next_message()? {
                received.push(message);
            }
            if !more {
                break;
            }
        }
        self.deadline = match self.link.is_inside() {
            true => Some(self.deadline.unwrap_or(now + PATIENCE)),
            false => None,
        };
        Ok(more)
    }
}
