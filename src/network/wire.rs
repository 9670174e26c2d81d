//! The messages that make a wire: written by the spawner, sent by the child of a start, which may not allocate.
//!
//! The child sends the router's half over a socket of the router, which it inherits; the other end is born in its own
//! namespace ("pid 1" is the child itself in its new pid namespace). Then it sends the inner half over a socket of its own.

use std::net::Ipv4Addr;

use super::ipv6::{self, image};
use super::lease::Lease;
use super::rate::bucket;
use super::rules::JOBS;
use crate::job::NetRate;
use crate::sys::netlink::batch::Batch;
use crate::sys::netlink::link::{self, Born, Link, Pair, Way};
use crate::sys::netlink::queue;

/// Index of the router's end of wire 0. Interfaces that the kernel numbers itself stay far below.
const FIRST_INDEX: u32 = 1 << 20;
/// The index of eth0 in a job: only loopback is there before it.
pub const ETH0: u32 = 2;
/// Bits of an IPv6 address without a network behind it: everything else is behind the gateway.
pub(super) const ALONE: u8 = 128;
/// The local ends in the router: 169.254.128.0/17, one address for each wire. One for all would be found ever more slowly.
const LOCAL: [u8; 4] = [169, 254, 128, 0];

/// The two halves of a wire.
#[derive(Debug, Clone)]
pub struct Wire {
    /// To be sent over a socket of the router.
    pub router: Batch,
    /// To be sent over a socket of the job's namespace.
    pub inside: Batch,
}

/// The index, in the router, of the end of a wire.
pub fn index_of(wire: u16) -> u32 {
    FIRST_INDEX + u32::from(wire)
}

/// The number of the wire whose end has this index in the router.
pub fn wire_of(index: u32) -> Option<u16> {
    index.checked_sub(FIRST_INDEX).and_then(|wire| u16::try_from(wire).ok()).filter(|wire| *wire > 0)
}

/// The MAC of both ends: locally administered, and of the wire, so that ids made from it differ. The address may change.
fn mac(wire: u16) -> [u8; 6] {
    let [high, low] = wire.to_be_bytes();
    [0x02, 0x6a, 0, 0, high, low]
}

/// The address of the router's end.
fn local(wire: u16) -> Ipv4Addr {
    (u32::from_be_bytes(LOCAL) + u32::from(wire)).into()
}

/// Writes a wire for a lease: its name in the router, where the other end is born, bytes of the largest packet, and its rate.
pub fn wire(name: &str, lease: &Lease, born: Born<'_>, mtu: u32, rate: NetRate) -> Wire {
    let index = index_of(lease.wire);
    let mut router = Batch::default();
    let pair = Pair {
        name,
        index: Some(index),
        group: JOBS,
        // A rate is put on before.
        up: rate.down == 0,
        peer: "eth0",
        peer_index: Some(ETH0),
        born,
        mac: mac(lease.wire),
        mtu,
    };
    link::add_pair(&mut router, &pair);
    if let Some(down) = bucket(rate.down) {
        queue::add_bucket(&mut router, index, &down);
        link::set_up(&mut router, Link::Index(index));
    }
    link::add_address_to(&mut router, index, local(lease.wire), lease.address);
    if lease.ipv6 {
        // The sender of refusals, which stays with the wire.
        link::add_address(&mut router, index, image(local(lease.wire)), ALONE);
        link::add_route_to(&mut router, index, image(lease.address), Way::Across);
    }
    let mut inside = Batch::default();
    if let Some(up) = bucket(rate.up) {
        queue::add_bucket(&mut inside, ETH0, &up);
    }
    link::set_up_without_ipv6(&mut inside, Link::Index(ETH0));
    enter(&mut inside, lease);
    if lease.ipv6 {
        link::add_default_route(&mut inside, ETH0, ipv6::GATEWAY);
    }
    Wire { router: router.confirm(), inside: inside.confirm() }
}

/// Gives eth0 its addresses, and its way out in IPv4, which goes with the address; that in IPv6 stays.
fn enter(inside: &mut Batch, lease: &Lease) {
    link::add_address(inside, ETH0, lease.address, lease.range.prefix());
    link::add_default_route(inside, ETH0, lease.range.gateway());
    if lease.ipv6 {
        link::add_address(inside, ETH0, image(lease.address), ALONE);
        link::add_route_to(inside, ETH0, image(lease.address), Way::Own);
    }
}

/// Writes what makes a wire that is there one of another address, if it had an old one, and of another rate, if one is
/// given: the interfaces stay, and whether it has IPv6. A way without a limit keeps what it has. Where nothing changes a
/// half is empty.
pub fn renewal(old: Option<&Lease>, new: &Lease, rate: Option<NetRate>) -> Wire {
    let (index, local) = (index_of(new.wire), local(new.wire));
    let (mut router, mut inside) = (Batch::default(), Batch::default());
    let NetRate { up, down } = rate.unwrap_or_default();
    if let Some(down) = bucket(down) {
        queue::put_bucket(&mut router, index, &down);
    }
    if let Some(up) = bucket(up) {
        queue::put_bucket(&mut inside, ETH0, &up);
    }
    if let Some(old) = old {
        link::remove_address_to(&mut router, index, local, old.address);
        link::add_address_to(&mut router, index, local, new.address);
        link::remove_address(&mut inside, ETH0, old.address, old.range.prefix());
        if old.ipv6 {
            let (old, new) = (image(old.address), image(new.address));
            link::remove_route_to(&mut router, index, old, Way::Across);
            link::add_route_to(&mut router, index, new, Way::Across);
            link::remove_route_to(&mut inside, ETH0, old, Way::Own);
            link::remove_address(&mut inside, ETH0, old, ALONE);
        }
        enter(&mut inside, new);
    }
    Wire { router: router.confirm(), inside: inside.confirm() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::lease::{Leases, MOST_WIRES, Range};

    #[test]
    fn numbers_of_wires_and_indices_belong_together() {
        for wire in [1, 2, MOST_WIRES] {
            assert_eq!(wire_of(index_of(wire)), Some(wire));
            assert!(Range::new([169, 254, 128, 0], 17).contains(local(wire)));
        }
        assert_eq!((wire_of(2), wire_of(FIRST_INDEX)), (None, None));
        assert_ne!(local(MOST_WIRES), Ipv4Addr::new(169, 254, 255, 255));
    }

    #[test]
    fn rate_is_put_on_before_both_ends_are_up() {
        let range = Range::new([172, 20, 0, 0], 16);
        let mut leases = Leases::default();
        leases.add("bridge", range).unwrap();
        let lease = leases.lease("bridge").unwrap();
        let messages = |rate| {
            let Wire { router, inside } = wire("job-1", &lease, Born::Pid(1), 1500, rate);
            (router.len(), inside.len())
        };
        assert_eq!(messages(NetRate::default()), (2, 4));
        assert_eq!(messages(NetRate { up: 1024, down: 0 }), (2, 5));
        assert_eq!(messages(NetRate { up: 0, down: 1024 }), (4, 4));
        let renewed = |old: Option<&Lease>, rate| {
            let Wire { router, inside } = renewal(old, &lease, rate);
            (router.len(), inside.len())
        };
        assert_eq!(renewed(None, None), (0, 0));
        assert_eq!(renewed(None, Some(NetRate { up: 1024, down: 0 })), (0, 1));
        assert_eq!(renewed(Some(&lease), Some(NetRate { up: 1024, down: 1024 })), (3, 4));
        let six = Lease { ipv6: true, ..lease.clone() };
        let Wire { router, inside } = wire("job-1", &six, Born::Pid(1), 1500, NetRate::default());
        assert_eq!((router.len(), inside.len()), (4, 7));
        let Wire { router, inside } = renewal(Some(&six), &six, None);
        assert_eq!((router.len(), inside.len()), (4, 7));
    }
}
