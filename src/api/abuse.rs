//! Connections that only cost us time are closed.
//!
//! HTTP/2 lets a client open streams for nothing: ahead of the limit (which binds it only once it has said that
//! it knows it), to be reset at once (CVE-2023-44487), or faster than it reads the refusals. Each is 10 KB of
//! C-core's for as long as the client likes, and C-core 1.56 neither bounds them nor lets us end a connection.
//! So calls that are refused, or end without a message, are counted by connection, and of the connection that
//! has too many of them the socket is shut down: C-core finds it ended and lets go of everything.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::{Shutdown, getpeername, shutdown};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use crate::diag::{Level, limited};

/// Useless calls of one connection until it is closed. An honest client has some: whoever ends while his calls
/// are on their way.
const MOST: u32 = 1000;
/// Connections that are remembered. With more of them all are forgotten: each must cost us something again.
const REMEMBERED: usize = 1024;

/// Useless calls by connection.
#[derive(Clone, Default)]
pub(super) struct AbuseCounter(Arc<Mutex<HashMap<String, u32>>>);

impl AbuseCounter {
    /// Counts one against a connection, as [`RpcContext::peer`](grpcio::RpcContext::peer) names it.
    pub(super) fn count(&self, peer: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= REMEMBERED {
            counts.clear();
        }
        match counts.get_mut(peer) {
            Some(count) if *count >= MOST => {
                counts.remove(peer);
                drop(counts);
                send_away(peer);
            }
            Some(count) => *count += 1,
            None => {
                counts.insert(peer.to_owned(), 1);
            }
        }
    }
}

fn send_away(peer: &str) {
    let Some(address) = address(peer) else { return };
    match close(address) {
        // What the connection had under way is counted too, and ends with it.
        Ok(false) => {}
        Ok(true) => {
            limited!(Level::Warn, "connection closed: too many calls without use", peer = address);
        }
        Err(why) => limited!(Level::Warn, "cannot close a connection", peer = address, error = why),
    }
}

/// Shuts the socket with this peer down. C-core's descriptors are not ours, and their numbers change hands:
/// what is looked at, and shut down, is a duplicate.
fn close(peer: SocketAddr) -> std::io::Result<bool> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    for entry in std::fs::read_dir("/proc/self/fd")?.flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Of files no duplicate: closing one lets go of the file's locks (fcntl(2)).
        if !std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:")) {
            continue;
        }
        let Ok(socket) = pidfd_getfd(&own, number, PidfdGetfdFlags::empty()) else { continue };
        let Ok(Some(found)) = getpeername(&socket) else { continue };
        if SocketAddr::try_from(found).is_ok_and(|found| canonical(found) == canonical(peer)) {
            shutdown(&socket, Shutdown::Both)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// An IPv4 address for one that is written as IPv6.
fn canonical(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

/// C-core's name of a peer: "ipv4:127.0.0.1:5000" or, as a URI, "ipv6:%5B::1%5D:5000".
fn address(peer: &str) -> Option<SocketAddr> {
    let (_, text) = peer.split_once(':')?;
    text.replace("%5B", "[").replace("%5D", "]").parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn peers_are_read_as_c_core_writes_them() {
        assert_eq!(address("ipv4:127.0.0.1:5000"), Some("127.0.0.1:5000".parse().unwrap()));
        assert_eq!(address("ipv6:%5B::1%5D:5000"), Some("[::1]:5000".parse().unwrap()));
        assert_eq!(address("unix:/run/x"), None);
    }

    #[test]
    fn only_the_connection_with_too_many_useless_calls_is_closed() {
        for host in ["127.0.0.1:0", "[::]:0"] {
            let listener = TcpListener::bind(host).unwrap();
            let to = ("127.0.0.1", listener.local_addr().unwrap().port());
            let [(mut bad, _kept), (mut good, mut here)] =
                [(); 2].map(|()| (TcpStream::connect(to).unwrap(), listener.accept().unwrap().0));
            let abuse = AbuseCounter::default();
            let peer = format!("ipv4:{}", bad.local_addr().unwrap());
            for _ in 0..MOST {
                abuse.count(&peer);
            }
            bad.set_nonblocking(true).unwrap();
            assert!(bad.read(&mut [0]).is_err(), "not yet");
            abuse.count(&peer);
            bad.set_nonblocking(false).unwrap();
            assert_eq!(bad.read(&mut [0]).unwrap(), 0);
            std::io::Write::write_all(&mut here, b"x").unwrap();
            assert_eq!(good.read(&mut [0]).unwrap(), 1);
        }
    }

    #[test]
    fn abuse_counter_remembers_a_bounded_number_of_connections() {
        let abuse = AbuseCounter::default();
        for n in 0..5000 {
            abuse.count(&format!("ipv4:192.0.2.1:{n}"));
        }
        assert!(abuse.0.lock().unwrap().len() <= REMEMBERED);
    }
}
