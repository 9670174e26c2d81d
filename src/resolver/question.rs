//! A question under way: whose it is, and how far it has come.

use std::net::SocketAddrV4;
use std::time::Instant;

use super::flight::Key;
use super::message::Question;
use super::pinning::Place;
use super::upstream::Link;
use crate::job::egress::Ports;

/// Longest answer over TCP.
const LONGEST: usize = 65_535;

/// Where a question came from, and its answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// A datagram of this address and port.
    Udp(SocketAddrV4),
    /// A connection over TCP.
    Tcp(Key),
}

impl From {
    /// Whether it is a connection.
    pub(super) fn is_tcp(self) -> bool {
        matches!(self, From::Tcp(_))
    }

    /// Bytes that the answer may have.
    pub(super) fn room(self, question: &Question) -> usize {
        match self {
            From::Udp(_) => question.room(),
            From::Tcp(_) => LONGEST,
        }
    }
}

/// How far a question has come.
#[derive(Debug)]
pub(super) enum State {
    /// It is between two of the others.
    Waiting,
    /// It is with a name server.
    Asked {
        /// The way there.
        link: Link,
        /// The number under which it was sent.
        id: u16,
        /// The name server's number.
        server: usize,
    },
    /// It is answered once its addresses are pinned.
    Pinned {
        /// The answer for the job.
        answer: Vec<u8>,
        /// The addresses in it, each with its time to live in seconds.
        places: Vec<(Place, u32)>,
        /// The time of the question.
        asked: Instant,
    },
}

/// A question that a name server answers.
#[derive(Debug)]
pub(super) struct Underway {
    /// The question of the job.
    pub(super) question: Question,
    /// The job and the way of the answer.
    pub(super) from: From,
    /// The ports at which the job may reach the name; `None`: the job has no list.
    pub(super) look: Option<Ports>,
    /// Name servers that have the question.
    pub(super) tries: usize,
    /// How far it has come.
    pub(super) state: State,
}
