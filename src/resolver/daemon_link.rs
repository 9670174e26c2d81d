//! Front's end of the way to the daemon, which may go and come back as another one.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::packets::Packets;
use super::protocol::{Denial, FromFront, LONGEST, ToFront};
use super::wires::Wires;

/// How long front works without a daemon before it looks whether there are jobs, again and again.
const LOOK: Duration = Duration::from_secs(10);

/// The way to the daemon.
#[derive(Debug)]
pub(super) struct DaemonLink {
    listener: OwnedFd,
    wires: Wires,
    user: u32,
    hello: String,
    connection: Option<Packets>,
    told: BTreeSet<Ipv4Addr>,
    synced: bool,
    look_at: Option<Instant>,
    buffer: Vec<u8>,
}

impl DaemonLink {
    /// Nobody is connected yet.
    /// `own` are the user whose connections are taken, besides root's, and the first word.
    pub(super) fn new(listener: OwnedFd, wires: Wires, own: (u32, String), now: Instant) -> Self {
        let (user, hello) = own;
        let (connection, told) = Default::default();
        let (synced, look_at, buffer) = (false, Some(now + LOOK), vec![0; LONGEST]);
        DaemonLink { listener, wires, user, hello, connection, told, synced, look_at, buffer }
    }

    /// Takes the connection of a daemon, in place of an earlier one's.
    pub(super) fn accept(&mut self, registry: &Registry, token: Token) {
        while let Some(connection) = Packets::accept(self.listener.as_fd(), self.user) {
            let source = connection.as_raw_fd();
            if registry.register(&mut SourceFd(&source), token, Interest::READABLE).is_err() {
                continue;
            }
            if connection.send(&FromFront::Hello(self.hello.clone()).encode()).is_ok() {
                self.connection = Some(connection);
                self.told.clear();
                self.look_at = None;
            }
        }
    }

    /// The next message of the daemon, if there is one.
    pub(super) fn next(&mut self, now: Instant) -> Option<ToFront> {
        let received = self.connection.as_ref()?.receive(&mut self.buffer);
        let message = match received {
            Ok(None) => return None,
            Ok(Some(bytes)) => ToFront::decode(bytes).ok(),
            Err(_) => None,
        };
        match &message {
            Some(ToFront::Job(asker)) => drop(self.told.insert(asker.address)),
            Some(_) => {}
            None => {
                self.connection = None;
                self.look_at = Some(now + LOOK);
            }
        }
        message
    }

    /// The daemon has told everything: these jobs.
    pub(super) fn synced(&mut self) -> BTreeSet<Ipv4Addr> {
        self.synced = true;
        std::mem::take(&mut self.told)
    }

    /// Whether a daemon has ever told everything. Nothing is answered before.
    pub(super) fn is_synced(&self) -> bool {
        self.synced
    }

    /// When [`DaemonLink::is_over`] looks again.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Whether nobody needs us: there is no daemon, and no job, or none that we know of.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        if self.look_at.is_none_or(|at| at > now) {
            return false;
        }
        self.look_at = Some(now + LOOK);
        !self.synced || !self.wires.are_there()
    }

    /// Whether somebody hears.
    pub(super) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Tells the daemon of a denial; `false`: it does not hear now.
    pub(super) fn tell(&self, denial: &Denial) -> bool {
        self.say(&FromFront::Denied(denial.clone()))
    }

    /// Tells the daemon that it knows of all denials before this request. One that does not hear now does not wait long.
    pub(super) fn confirm(&self, number: u64) {
        self.say(&FromFront::Reported(number));
    }

    fn say(&self, message: &FromFront) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.send(&message.encode()).is_ok())
    }
}
