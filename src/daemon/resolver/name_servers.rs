//! The host's name servers: `/etc/resolv.conf`, read again whenever it changes.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

const FILE: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// As many as the C library reads (resolv.conf(5)).
const MOST: usize = 3;

/// Hears of changes of the file, however it is changed.
#[derive(Debug)]
pub(super) struct NameServers {
    events: Option<OwnedFd>,
    known: Vec<SocketAddr>,
}

impl NameServers {
    /// Reads the file. Where the kernel gives no watch, it is read this once.
    pub(super) fn new() -> Self {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        let mut servers = NameServers { events, known: Vec::new() };
        servers.read();
        servers
    }

    /// The name servers as they were last.
    pub(super) fn known(&self) -> &[SocketAddr] {
        &self.known
    }

    /// Is readable when the file may have changed.
    pub(super) fn events(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(AsFd::as_fd)
    }

    /// Reads the file again; whether the name servers are others now.
    pub(super) fn look(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let drained = |events| matches!(rustix::io::read(events, &mut buffer), Ok(0) | Err(Errno::AGAIN));
        if let Some(events) = &self.events {
            let mut drained = drained;
            // A few rounds: a file that changes all the time is looked at again.
            let _ = (0..16).any(|_| drained(events));
        }
        let before = std::mem::take(&mut self.known);
        self.read();
        before != self.known
    }

    /// Watches first, so that no change is missed, then reads.
    fn read(&mut self) {
        if let Some(events) = &self.events {
            let changes = WatchFlags::CLOSE_WRITE
                | WatchFlags::MODIFY
                | WatchFlags::CREATE
                | WatchFlags::MOVED_TO
                | WatchFlags::DELETE
                | WatchFlags::ATTRIB;
            // The file itself, which may be bound there, the directory of its name, and that of what a link leads to.
            let real = fs::canonicalize(FILE).unwrap_or_default();
            let places = [Some(Path::new(FILE)), Path::new(FILE).parent(), real.parent()];
            for place in places.into_iter().flatten() {
                let _ = inotify::add_watch(events, place, changes);
            }
        }
        self.known = name_servers(&fs::read_to_string(FILE).unwrap_or_default());
    }
}

/// The name servers of a resolv.conf(5), without those of a link.
fn name_servers(text: &str) -> Vec<SocketAddr> {
    let words = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = words.filter_map(|rest| {
        let rest = rest.strip_prefix([' ', '\t'])?;
        rest.split_whitespace().next()?.parse::<IpAddr>().ok()
    });
    addresses
        .filter(|address| !address.is_unspecified())
        .map(|ip| SocketAddr::new(ip, PORT))
        .take(MOST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_the_c_library_does() {
        let text = "# nameserver 1.1.1.1\nsearch example.org\nnameserver 127.0.0.53\n  nameserver\tfd00::1 # x\n\
                    nameserver fe80::1%eth0\nnameservers 9.9.9.9\nnameserver 8.8.8.8\nnameserver 8.8.4.4\n";
        let expected = ["127.0.0.53:53", "[fd00::1]:53", "8.8.8.8:53"].map(|s| s.parse().unwrap());
        assert_eq!(name_servers(text), expected);
        assert_eq!(name_servers("nameserver 0.0.0.0\n"), []);
    }
}
