//! Closing connections that make only useless calls.
//!
//! HTTP/2 lets a client open streams that do nothing: beyond the limit (which binds the client only once it has
//! acknowledged it), to be reset at once (CVE-2023-44487), or faster than it reads the refusals. Each takes 10 KB of
//! C-core's memory for as long as the client likes, and C-core 1.56 neither bounds them nor lets us close a connection.
//! So refused calls, and calls that end without a message, are counted by connection. The socket of a connection with
//! too many of them is shut down: C-core finds it closed and frees everything.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::{Shutdown, getpeername, shutdown};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use crate::diag::{Level, limited};

/// Useless calls of one connection until it is closed. An honest client has some, when it ends while its calls are
/// under way.
const MOST: u32 = 1000;
/// Connections that are remembered. With more of them all are forgotten, and counted from zero again.
const REMEMBERED: usize = 1024;

/// A counter of useless calls by connection.
#[derive(Clone, Default)]
pub(super) struct AbuseCounter(Arc<Mutex<HashMap<String, u32>>>);

impl AbuseCounter {
    /// Counts one useless call of a connection, named as by [`RpcContext::peer`](grpcio::RpcContext::peer).
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
        // The connection is closed already: calls that were under way in it are counted too.
        Ok(false) => {}
        Ok(true) => {
            limited!(Level::Warn, "connection closed: too many calls without use", peer = address);
        }
        Err(why) => limited!(Level::Warn, "cannot close a connection", peer = address, error = why),
    }
}

/// Shuts the socket with this peer down. C-core owns the descriptors and reuses their numbers, so a duplicate is examined
/// and shut down.
fn close(peer: SocketAddr) -> std::io::Result<bool> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    for entry in std::fs::read_dir("/proc/self/fd")?.flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Files are not duplicated: closing a duplicate releases the file's locks (fcntl(2)).
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

/// An address with IPv4 in its own form, also where it is written as IPv6.
fn canonical(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

/// The address in C-core's name of a peer: "ipv4:127.0.0.1:5000" or, as a URI, "ipv6:%5B::1%5D:5000".
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
