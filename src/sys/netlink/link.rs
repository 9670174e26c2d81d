//! The messages of rtnetlink(7) that networks of jobs are made of: interfaces, addresses, routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::batch::{Attributes, Batch, attribute, u32_at};

/// Message types (linux/rtnetlink.h).
const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const SETLINK: u16 = 19;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const GETADDR: u16 = 22;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const GETROUTE: u16 = 26;
/// Flags: make it, and it must be new; everything.
const NEW: u16 = 0x400 | 0x200;
const REPLACE: u16 = 0x400 | 0x100;
const DUMP: u16 = 0x300;

/// Attributes of an interface (linux/if_link.h).
const LINK_ADDRESS: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_MTU: u16 = 4;
const LINK_INFO: u16 = 18;
const LINK_NAMESPACE_PID: u16 = 19;
const LINK_OF_FAMILY: u16 = 26;
const LINK_GROUP: u16 = 27;
const LINK_NAMESPACE_FD: u16 = 28;
const LINK_TX_QUEUES: u16 = 31;
const LINK_RX_QUEUES: u16 = 32;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const INET6_ADDRESS_MODE: u16 = 8;
/// No address is made from the MAC.
const ADDRESS_MODE_NONE: u8 = 1;

/// Attributes of an address (linux/if_addr.h) and of a route (linux/rtnetlink.h).
const ADDRESS_PEER: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;
const ROUTE_DESTINATION: u16 = 1;
const ROUTE_INTERFACE: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;
const ROUTE_METRIC: u16 = 6;
const ROUTE_TABLE: u16 = 15;

const UP: u32 = libc::IFF_UP as u32;
const NO_ARP: u32 = libc::IFF_NOARP as u32;
/// The gateway is reached by the interface whatever the addresses say.
const ON_LINK: u32 = 4;

/// The namespace in which the second end of a pair is born.
#[derive(Debug, Clone, Copy)]
pub enum Born<'a> {
    /// That of this process, by its number where the sender is.
    Pid(u32),
    /// That behind this descriptor.
    Namespace(BorrowedFd<'a>),
}

/// A pair of virtual interfaces. Both ends have the same MAC and no ARP, and one queue each way: by default a pair has one
/// for every possible processor.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The name of the first end, which is in the sender's namespace.
    pub name: &'a str,
    /// The index of the first end; `None`: the kernel's choice, for the second end too.
    pub index: Option<u32>,
    /// The group of the first end.
    pub group: u32,
    /// Whether the first end is up at once.
    pub up: bool,
    /// The name of the second end.
    pub peer: &'a str,
    /// The index of the second end.
    pub peer_index: Option<u32>,
    /// Where the second end is born. To move an interface later costs ten milliseconds and more.
    pub born: Born<'a>,
    /// The MAC of both ends.
    pub mac: [u8; 6],
    /// Bytes of the largest packet.
    pub mtu: u32,
}

/// An interface by its index or its name.
#[derive(Debug, Clone, Copy)]
pub enum Link<'a> {
    /// By its index.
    Index(u32),
    /// By its name.
    Name(&'a str),
}

/// An interface as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name in its namespace.
    pub name: String,
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// The bits IFF_*.
    pub flags: u32,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Index of the interface.
    pub index: u32,
    /// The address of this end.
    pub local: Ipv4Addr,
    /// The other end, or the same address where there is none.
    pub peer: Ipv4Addr,
    /// Bits of the prefix.
    pub prefix: u8,
}

/// A route of a main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The destinations; 0.0.0.0/0 is the default route.
    pub destination: (Ipv4Addr, u8),
    /// The next hop.
    pub gateway: Option<Ipv4Addr>,
    /// Index of the interface.
    pub index: Option<u32>,
    /// The rank among routes to the same destinations: the lowest counts.
    pub metric: u32,
}

/// The fixed part of a message about an interface, `struct ifinfomsg`.
fn interface(index: u32, flags: u32) -> [u8; 16] {
    let mut fixed = [0; 16];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    // The flags that are to change.
    fixed[12..].copy_from_slice(&flags.to_ne_bytes());
    fixed
}

fn end(a: &mut Attributes<'_>, name: &str, pair: &Pair<'_>) {
    a.text(LINK_NAME, name);
    a.u32(LINK_MTU, pair.mtu);
    a.bytes(LINK_ADDRESS, &pair.mac);
    a.u32(LINK_TX_QUEUES, 1);
    a.u32(LINK_RX_QUEUES, 1);
}

/// Makes a pair. The second end cannot be made up at once: it is not paired yet then.
pub fn add_pair(batch: &mut Batch, pair: &Pair<'_>) {
    let up = if pair.up { UP } else { 0 };
    batch.message(NEWLINK, NEW, &interface(pair.index.unwrap_or(0), NO_ARP | up), |a| {
        end(a, pair.name, pair);
        a.u32(LINK_GROUP, pair.group);
        a.nest(LINK_INFO, |a| {
            a.text(INFO_KIND, "veth");
            a.nest(INFO_DATA, |a| {
                let peer = interface(pair.peer_index.unwrap_or(0), NO_ARP);
                a.nest_behind(VETH_PEER, &peer, |a| {
                    end(a, pair.peer, pair);
                    match pair.born {
                        Born::Pid(pid) => a.u32(LINK_NAMESPACE_PID, pid),
                        Born::Namespace(fd) => a.u32(LINK_NAMESPACE_FD, fd.as_raw_fd().cast_unsigned()),
                    }
                });
            });
        });
    });
}

/// Makes a bridge that is up.
pub fn add_bridge(batch: &mut Batch, name: &str) {
    batch.message(NEWLINK, NEW, &interface(0, UP), |a| {
        a.text(LINK_NAME, name);
        a.nest(LINK_INFO, |a| a.text(INFO_KIND, "bridge"));
    });
}

/// Sets an interface up.
pub fn set_up(batch: &mut Batch, link: Link<'_>) {
    change(batch, SETLINK, link, UP, |_| {});
}

/// Sets an interface up that shall have no IPv6 address of its own making: no neighbour discovery, no timers. These are two
/// messages, because the kernel sets an interface up before it looks at the rest of a message.
pub fn set_up_without_ipv6(batch: &mut Batch, link: Link<'_>) {
    change(batch, SETLINK, link, 0, |a| {
        a.nest(LINK_OF_FAMILY, |a| {
            a.nest(libc::AF_INET6 as u16, |a| a.bytes(INET6_ADDRESS_MODE, &[ADDRESS_MODE_NONE]));
        });
    });
    set_up(batch, link);
}

/// Changes the largest packet of an interface.
pub fn set_mtu(batch: &mut Batch, link: Link<'_>, mtu: u32) {
    change(batch, SETLINK, link, 0, |a| a.u32(LINK_MTU, mtu));
}

/// Removes an interface, and its other end. Waits for RCU under the lock of all network changes: not for jobs.
pub fn remove(batch: &mut Batch, link: Link<'_>) {
    change(batch, DELLINK, link, 0, |_| {});
}

fn change(batch: &mut Batch, kind: u16, link: Link<'_>, flags: u32, write: impl FnOnce(&mut Attributes<'_>)) {
    let index = if let Link::Index(index) = link { index } else { 0 };
    batch.message(kind, 0, &interface(index, flags), |a| {
        if let Link::Name(name) = link {
            a.text(LINK_NAME, name);
        }
        write(a);
    });
}

/// Asks for one interface; [`link_state`] reads the answer.
pub fn get_link(link: Link<'_>) -> Batch {
    let mut batch = Batch::default();
    change(&mut batch, GETLINK, link, 0, |_| {});
    batch.confirm()
}

/// Asks for all interfaces.
pub fn get_links() -> Batch {
    list(GETLINK, &interface(0, 0))
}

/// Reads an interface from an entry of an answer.
pub fn link_state(kind: u16, body: &[u8]) -> Option<LinkState> {
    let rest = body.get(16..).filter(|_| kind == NEWLINK)?;
    let name = attribute(rest, LINK_NAME)?;
    Some(LinkState {
        index: u32_at(body, 4)?,
        name: String::from_utf8_lossy(name).trim_end_matches('\0').to_owned(),
        mtu: u32_at(attribute(rest, LINK_MTU)?, 0)?,
        flags: u32_at(body, 8)?,
    })
}

/// Gives an interface an address: in a prefix, whose route comes with it.
pub fn add_address(batch: &mut Batch, index: u32, local: impl Into<IpAddr>, prefix: u8) {
    let local = local.into();
    address(batch, (NEWADDR, NEW), index, prefix, local, local);
}

/// Gives an interface an address whose other end is `peer`: the route to that comes with it. A route of its own would
/// have the kernel look for a source address on all interfaces.
pub fn add_address_to(batch: &mut Batch, index: u32, local: Ipv4Addr, peer: Ipv4Addr) {
    address(batch, (NEWADDR, NEW), index, 32, local.into(), peer.into());
}

/// Takes an address in a prefix away. With the last one of an interface all routes over it go, the default route too.
pub fn remove_address(batch: &mut Batch, index: u32, local: impl Into<IpAddr>, prefix: u8) {
    let local = local.into();
    address(batch, (DELADDR, 0), index, prefix, local, local);
}

/// Takes an address with another end away, and the route to that.
pub fn remove_address_to(batch: &mut Batch, index: u32, local: Ipv4Addr, peer: Ipv4Addr) {
    address(batch, (DELADDR, 0), index, 32, local.into(), peer.into());
}

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn address(
    batch: &mut Batch,
    (kind, flags): (u16, u16),
    index: u32,
    prefix: u8,
    local: IpAddr,
    peer: IpAddr,
) {
    /// It does not wait to learn whether another host has the address too (no DAD).
    const AT_ONCE: u8 = libc::IFA_F_NODAD as u8;
    let own = if local.is_ipv6() { AT_ONCE } else { 0 };
    // struct ifaddrmsg: family, prefix, flags, scope, interface
    let mut fixed = [family(local), prefix, own, 0, 0, 0, 0, 0];
    fixed[4..].copy_from_slice(&index.to_ne_bytes());
    batch.message(kind, flags, &fixed, |a| {
        a.bytes(ADDRESS_LOCAL, &octets(local));
        a.bytes(ADDRESS_PEER, &octets(peer));
    });
}

/// Asks for all IPv4 addresses; [`address_entry`] reads them.
pub fn get_addresses() -> Batch {
    list(GETADDR, &[libc::AF_INET as u8, 0, 0, 0, 0, 0, 0, 0])
}

/// Reads an address from an entry of an answer.
pub fn address_entry(kind: u16, body: &[u8]) -> Option<Address> {
    let rest = body.get(8..).filter(|_| kind == NEWADDR)?;
    let local = ipv4(attribute(rest, ADDRESS_LOCAL)?)?;
    let peer = attribute(rest, ADDRESS_PEER).and_then(ipv4).unwrap_or(local);
    Some(Address { index: u32_at(body, 4)?, local, peer, prefix: *body.get(1)? })
}

/// Asks for all IPv6 addresses; [`ipv6_address_entry`] reads them.
pub fn get_ipv6_addresses() -> Batch {
    list(GETADDR, &[libc::AF_INET6 as u8, 0, 0, 0, 0, 0, 0, 0])
}

/// Reads an address of this end from an entry of an answer.
pub fn ipv6_address_entry(kind: u16, body: &[u8]) -> Option<Ipv6Addr> {
    let rest = body.get(8..).filter(|_| kind == NEWADDR && body[0] == libc::AF_INET6 as u8)?;
    // There is a local one only where there is another end.
    attribute(rest, ADDRESS_LOCAL).or_else(|| attribute(rest, ADDRESS_PEER)).and_then(ipv6)
}

/// The default route of the gateway's family, by a gateway behind the interface.
pub fn add_default_route(batch: &mut Batch, index: u32, gateway: impl Into<IpAddr>) {
    let gateway = gateway.into();
    let mut fixed = route(0, libc::RTN_UNICAST, ON_LINK);
    fixed[0] = family(gateway);
    batch.message(NEWROUTE, NEW, &fixed, |a| {
        a.bytes(ROUTE_GATEWAY, &octets(gateway));
        a.u32(ROUTE_INTERFACE, index);
    });
}

/// A route to addresses that are right behind the interface.
pub fn add_route(batch: &mut Batch, index: u32, to: (Ipv4Addr, u8), metric: u32) {
    let mut fixed = route(to.1, libc::RTN_UNICAST, 0);
    fixed[SCOPE] = libc::RT_SCOPE_LINK;
    batch.message(NEWROUTE, REPLACE, &fixed, |a| {
        a.bytes(ROUTE_DESTINATION, &to.0.octets());
        a.u32(ROUTE_INTERFACE, index);
        a.u32(ROUTE_METRIC, metric);
    });
}

/// The kind of a route to one IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the other end of the interface.
    Across,
    /// To this namespace itself. The kernel makes one for each address of ours, but later, on a thread of its own.
    Own,
}

/// Adds a route to one IPv6 address.
pub fn add_route_to(batch: &mut Batch, index: u32, to: Ipv6Addr, way: Way) {
    route_to(batch, (NEWROUTE, NEW), index, to, way);
}

/// Takes such a route away.
pub fn remove_route_to(batch: &mut Batch, index: u32, to: Ipv6Addr, way: Way) {
    route_to(batch, (DELROUTE, 0), index, to, way);
}

fn route_to(batch: &mut Batch, (kind, flags): (u16, u16), index: u32, to: Ipv6Addr, way: Way) {
    let (table, kind_of_route) = match way {
        Way::Across => (libc::RT_TABLE_MAIN, libc::RTN_UNICAST),
        Way::Own => (libc::RT_TABLE_LOCAL, libc::RTN_LOCAL),
    };
    let mut fixed = route(128, kind_of_route, 0);
    (fixed[0], fixed[4]) = (libc::AF_INET6 as u8, table);
    batch.message(kind, flags, &fixed, |a| {
        a.bytes(ROUTE_DESTINATION, &to.octets());
        a.u32(ROUTE_INTERFACE, index);
    });
}

/// Where the scope is in `struct rtmsg`.
const SCOPE: usize = 6;

/// The fixed part of a message about a route, `struct rtmsg`.
fn route(prefix: u8, kind: u8, flags: u32) -> [u8; 12] {
    const STATIC: u8 = 4;
    let mut fixed = [0; 12];
    fixed[..2].copy_from_slice(&[libc::AF_INET as u8, prefix]);
    fixed[4..8].copy_from_slice(&[libc::RT_TABLE_MAIN, STATIC, libc::RT_SCOPE_UNIVERSE, kind]);
    fixed[8..].copy_from_slice(&flags.to_ne_bytes());
    fixed
}

/// Asks for all IPv4 routes; [`route_entry`] reads them.
pub fn get_routes() -> Batch {
    list(GETROUTE, &route(0, 0, 0))
}

/// Reads a route of the main table from an entry of an answer.
pub fn route_entry(kind: u16, body: &[u8]) -> Option<Route> {
    let rest = body.get(12..).filter(|_| kind == NEWROUTE && body[0] == libc::AF_INET as u8)?;
    let number = |kind| attribute(rest, kind).and_then(|value| u32_at(value, 0));
    if number(ROUTE_TABLE).unwrap_or(u32::from(body[4])) != u32::from(libc::RT_TABLE_MAIN) {
        return None;
    }
    let destination = attribute(rest, ROUTE_DESTINATION).and_then(ipv4).unwrap_or(Ipv4Addr::UNSPECIFIED);
    Some(Route {
        destination: (destination, body[1]),
        gateway: attribute(rest, ROUTE_GATEWAY).and_then(ipv4),
        index: number(ROUTE_INTERFACE),
        metric: number(ROUTE_METRIC).unwrap_or(0),
    })
}

/// Asks for all IPv6 routes; [`ipv6_route_entry`] reads them.
pub fn get_ipv6_routes() -> Batch {
    let mut fixed = route(0, 0, 0);
    fixed[0] = libc::AF_INET6 as u8;
    list(GETROUTE, &fixed)
}

/// A route of IPv6 that leads somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Route {
    /// The destinations; `::/0` is the default route.
    pub destination: (Ipv6Addr, u8),
    /// Index of the interface.
    pub index: u32,
    /// The rank among routes to the same destinations: the lowest counts.
    pub metric: u32,
}

/// Reads a route of the main table that leads somewhere from an entry of an answer.
pub fn ipv6_route_entry(kind: u16, body: &[u8]) -> Option<Ipv6Route> {
    let rest = body.get(12..).filter(|_| kind == NEWROUTE && body[0] == libc::AF_INET6 as u8)?;
    let number = |kind| attribute(rest, kind).and_then(|value| u32_at(value, 0));
    let is_main = number(ROUTE_TABLE).unwrap_or(u32::from(body[4])) == u32::from(libc::RT_TABLE_MAIN);
    if !is_main || body[7] != libc::RTN_UNICAST {
        return None;
    }
    let destination = attribute(rest, ROUTE_DESTINATION).and_then(ipv6).unwrap_or(Ipv6Addr::UNSPECIFIED);
    Some(Ipv6Route {
        destination: (destination, body[1]),
        index: number(ROUTE_INTERFACE)?,
        metric: number(ROUTE_METRIC).unwrap_or(0),
    })
}

fn list(kind: u16, fixed: &[u8]) -> Batch {
    let mut batch = Batch::default();
    batch.message(kind, DUMP, fixed, |_| {});
    batch
}

fn ipv4(value: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))
}

fn ipv6(value: &[u8]) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::batch::hex;
    use super::*;

    /// A wire as the kernel took it; `ip -details link` showed what was meant.
    #[test]
    fn wire_of_a_job_is_these_bytes() {
        let pair = Pair {
            name: "job-1",
            index: Some(0x10_0001),
            group: 7,
            up: true,
            peer: "eth0",
            peer_index: Some(2),
            born: Born::Pid(1),
            mac: [2, 0x6a, 172, 20, 0, 5],
            mtu: 1500,
        };
        let mut batch = Batch::default();
        add_pair(&mut batch, &pair);
        add_address_to(&mut batch, 0x10_0001, Ipv4Addr::new(169, 254, 128, 1), Ipv4Addr::new(172, 20, 0, 5));
        let expected = "
            b8000000 1000 0106 01000000 00000000  0000 0000 01001000 81000000 81000000
            0a000300 6a6f622d3100 0000  08000400 dc050000  0a000100 026aac140005 0000
            08001f00 01000000  08002000 01000000  08001b00 07000000
            60001280 09000100 7665746800 000000
              50000280 4c000180 0000 0000 02000000 80000000 80000000
                09000300 6574683000 000000  08000400 dc050000  0a000100 026aac140005 0000
                08001f00 01000000  08002000 01000000  08001300 01000000
            28000000 1400 0506 02000000 00000000  02 20 00 00 01001000
            08000200 a9fe8001  08000100 ac140005";
        assert_eq!(batch.confirm().numbered(1), hex(expected));
    }

    #[test]
    fn inside_of_a_wire_is_these_bytes() {
        let mut batch = Batch::default();
        set_up_without_ipv6(&mut batch, Link::Index(2));
        add_address(&mut batch, 2, Ipv4Addr::new(172, 20, 0, 5), 16);
        add_default_route(&mut batch, 2, Ipv4Addr::new(172, 20, 0, 1));
        add_route(&mut batch, 2, (Ipv4Addr::new(172, 20, 0, 0), 16), 4000);
        let expected = "
            30000000 1300 0100 01000000 00000000  0000 0000 02000000 00000000 00000000
            10001a80 0c000a80 05000800 01000000
            20000000 1300 0100 02000000 00000000  0000 0000 02000000 01000000 01000000
            28000000 1400 0106 03000000 00000000  02 10 00 00 02000000
            08000200 ac140005  08000100 ac140005
            2c000000 1800 0106 04000000 00000000  02 00 00 00 fe 04 00 01 04000000
            08000500 ac140001  08000400 02000000
            34000000 1800 0505 05000000 00000000  02 10 00 00 fe 04 fd 01 00000000
            08000100 ac140000  08000400 02000000  08000600 a00f0000";
        assert_eq!(batch.confirm().numbered(1), hex(expected));
    }

    #[test]
    fn entries_of_answers_are_read_back() {
        let mut batch = Batch::default();
        add_address_to(&mut batch, 9, Ipv4Addr::new(169, 254, 128, 1), Ipv4Addr::new(172, 20, 0, 5));
        add_default_route(&mut batch, 9, Ipv4Addr::new(172, 20, 0, 1));
        let bytes = batch.numbered(1).to_vec();
        let address = address_entry(NEWADDR, &bytes[16..40]).unwrap();
        assert_eq!((address.index, address.prefix, address.peer), (9, 32, Ipv4Addr::new(172, 20, 0, 5)));
        let route = route_entry(NEWROUTE, &bytes[56..]).unwrap();
        assert_eq!((route.destination, route.index), ((Ipv4Addr::UNSPECIFIED, 0), Some(9)));
        assert_eq!(address_entry(NEWROUTE, &bytes[16..40]), None);
    }

    proptest::proptest! {
        #[test]
        fn entries_of_any_bytes_are_read_or_left(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100)
        ) {
            let _ = (link_state(NEWLINK, &bytes), address_entry(NEWADDR, &bytes), route_entry(NEWROUTE, &bytes));
        }
    }
}
