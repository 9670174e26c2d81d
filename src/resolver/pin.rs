//! The process pin: it puts addresses into the router's set, and knows nothing of names.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::packets::Packets;
use super::pinning::{Order, Place, encode_outcome};
use crate::network::rules::{EGRESS, EGRESS6, TABLE};
use crate::sys::netlink::Socket;
use crate::sys::nftables::Transaction;
use crate::sys::nftables::set::Element;

/// Bytes of the longest message.
const BUFFER: usize = 16 << 10;

/// Does what front says until that is gone. `filter` is a socket of the router's packet filter.
///
/// # Errors
/// Front says what is no message; the system's refusal to wait.
pub(super) fn run(front: OwnedFd, filter: OwnedFd) -> io::Result<()> {
    let (front, mut filter) = (Packets::new(front), Socket::from(filter));
    let mut buffer = vec![0; BUFFER];
    loop {
        let order = match front.receive(&mut buffer) {
            Ok(Some(bytes)) => Order::decode(bytes).ok_or(io::ErrorKind::InvalidData)?,
            Ok(None) => match poll(&mut [PollFd::new(&front.as_fd(), PollFlags::IN)], None) {
                Ok(_) | Err(Errno::INTR) => continue,
                Err(why) => return Err(why.into()),
            },
            Err(_) => return Ok(()),
        };
        let done = change(&order).commit(&mut filter);
        let errno = done.map_or_else(|why| why.errno().unwrap_or(libc::EIO), |()| 0);
        if front.send(&encode_outcome(order.number, errno)).is_err() {
            return Ok(());
        }
    }
}

/// Puts each place in with its time, also one that is there with another: where it is not there, it is for a moment that
/// nobody sees, because to take out what is not there is refused.
fn change(order: &Order) -> Transaction {
    let mut t = Transaction::default();
    for (set, is_ipv4) in [(&EGRESS, true), (&EGRESS6, false)] {
        let places = || order.places.iter().filter(|(place, _)| place.address.is_ipv4() == is_ipv4);
        let plain: Vec<Element> = places().map(|(place, _)| Element::key(&key(place))).collect();
        if plain.is_empty() {
            continue;
        }
        t.add_elements(TABLE, set, &plain);
        t.remove_elements(TABLE, set, &plain);
        let lasting = places().map(|(place, seconds)| {
            Element::key(&key(place)).lasting(Duration::from_secs(u64::from(*seconds)))
        });
        t.add_elements(TABLE, set, &lasting.collect::<Vec<_>>());
    }
    t
}

/// The key of a place: each part takes a multiple of four bytes.
pub(super) fn key(place: &Place) -> Vec<u8> {
    let [high, low] = place.port.to_be_bytes();
    let rest = [place.protocol, 0, 0, 0, high, low, 0, 0];
    let address = match place.address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    [&place.job.octets()[..], &address, &rest].concat()
}
