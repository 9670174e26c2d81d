//! The words of rules. A word loads something of the packet into a register, compares or looks up a register, or does
//! something with the packet; the first one that does not hold ends its rule.
//!
//! There are sixteen registers of four bytes, 8 to 23, where the numbers 1 to 4 name four of them each. Rules here load
//! from [`FIRST`] on, one after the other, as the key of a set with several fields wants them.

use super::super::netlink::batch::Attributes;

/// The first register.
pub const FIRST: u32 = 8;
/// How the kernel names it where all sixteen bytes count.
const FIRST_WIDE: u32 = 1;

/// An entry of a list of attributes (`NFTA_LIST_ELEM`).
pub(super) const LIST_ENTRY: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;
/// A value, or a verdict, within data.
const VALUE: u16 = 1;
const VERDICT: u16 = 2;

/// A decision about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It goes on to the next chain.
    Accept,
    /// It is gone.
    Drop,
    /// The rules of that chain decide, and this chain no more.
    Goto(&'a str),
}

impl Verdict<'_> {
    pub(super) fn code(self) -> i32 {
        match self {
            Verdict::Drop => 0,
            Verdict::Accept => 1,
            Verdict::Goto(_) => -4,
        }
    }
}

/// The interface by which a packet comes in, or by which it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The one by which it comes in.
    In,
    /// The one by which it leaves.
    Out,
}

/// A fact about a packet (`enum nft_meta_keys`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meta {
    /// Name of the interface by which it came.
    InName = 6,
    /// Name of the interface by which it leaves.
    OutName = 7,
    /// IPv4 or IPv6.
    Layer = 15,
    /// TCP, UDP ...
    Protocol = 16,
    /// Group of the interface by which it came.
    InGroup = 21,
    /// Group of the interface by which it leaves.
    OutGroup = 22,
}

/// The header that an offset counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// That of IP.
    Network = 1,
    /// That of TCP, UDP or ICMP.
    Transport = 2,
}

/// A fact about the connection of a packet (`enum nft_ct_keys`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// New, established, related, invalid: one bit each.
    State = 0,
    /// Translated and other bits.
    Status = 2,
}

/// Connection states (`NF_CT_STATE_BIT`).
pub mod state {
    /// It belongs to no connection that makes sense.
    pub const INVALID: u32 = 1;
    /// Both sides have spoken.
    pub const ESTABLISHED: u32 = 2;
    /// It opens a connection that an established one speaks of, or reports an error of one.
    pub const RELATED: u32 = 4;
    /// It opens a connection.
    pub const NEW: u32 = 8;
}

/// The bit of a connection whose destination was changed (`IPS_DST_NAT`).
pub const DESTINATION_CHANGED: u32 = 32;

/// A limit or a counter that an element of a set carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gauge {
    /// Packets and bytes.
    Counter,
    /// Holds while there are no more than so many packets a second, and `burst` at once; `over`: holds beyond.
    Limit {
        /// Packets a second.
        rate: u64,
        /// Packets at once.
        burst: u32,
        /// Holds for the packets beyond.
        over: bool,
    },
    /// Holds for connections beyond this number.
    ConnectionsOver(u32),
}

/// One word of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression<'a> {
    /// Loads a fact about the packet.
    Meta(Meta, u32),
    /// Loads bytes of a header: offset, length, register.
    Payload(Header, u32, u32, u32),
    /// Loads a fact about the connection.
    Connection(Connection, u32),
    /// Loads whether the routing table leads to the packet's source by the interface that it came from.
    SourceIsRouted(u32),
    /// Loads whether a socket of this namespace that the packet is for takes it at any address, one byte; holds where there
    /// is such a socket.
    SocketTakesAny(u32),
    /// Loads whether an IPv6 packet names routers on its way (RFC 8200, 4.4), one byte.
    NamesRouters(u32),
    /// Loads a constant of up to four bytes.
    Load(Vec<u8>, u32),
    /// Holds where the register has these bytes; `false`: where not.
    Compare(u32, bool, Vec<u8>),
    /// Masks a register of four bytes.
    Mask(u32, u32),
    /// Holds where the registers from this one on are in the set.
    Lookup(&'a str, u32),
    /// Loads the value that belongs to the registers from this one on into it; holds where there is one.
    Map(&'a str, u32),
    /// Puts the registers from this one on into the set, with a gauge that then decides whether the rule goes on. `true`:
    /// the time of an element that is there begins anew.
    Put(&'a str, u32, bool, Gauge),
    /// Decides on the packet.
    Verdict(Verdict<'a>),
    /// Answers the sender that an administrator forbids it, with an ICMP message; the packet is gone.
    Reject,
    /// Gives the packet the address of the interface by which it leaves.
    Masquerade,
    /// Gives the packet the IPv4 destination in the register.
    Destination(u32),
    /// Counts the packets that come here.
    Count,
}

/// Combinations that rules are made of.
impl Expression<'_> {
    /// Holds where the interface is of this group.
    pub fn group(direction: Direction, group: u32) -> Vec<Self> {
        let meta = if direction == Direction::In { Meta::InGroup } else { Meta::OutGroup };
        vec![Expression::Meta(meta, FIRST), Expression::Compare(FIRST, true, group.to_ne_bytes().to_vec())]
    }

    /// Holds where the interface has this name; `is: false`: where not.
    pub fn interface(direction: Direction, is: bool, name: &str) -> Vec<Self> {
        let meta = if direction == Direction::In { Meta::InName } else { Meta::OutName };
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(libc::IFNAMSIZ, 0);
        vec![Expression::Meta(meta, FIRST), Expression::Compare(FIRST, is, bytes)]
    }

    /// Holds for IPv4.
    pub fn ipv4() -> Vec<Self> {
        vec![
            Expression::Meta(Meta::Layer, FIRST),
            Expression::Compare(FIRST, true, vec![libc::NFPROTO_IPV4 as u8]),
        ]
    }

    /// Holds for IPv6.
    pub fn ipv6() -> Vec<Self> {
        vec![
            Expression::Meta(Meta::Layer, FIRST),
            Expression::Compare(FIRST, true, vec![libc::NFPROTO_IPV6 as u8]),
        ]
    }

    /// Holds for a protocol above IP.
    pub fn protocol(protocol: i32) -> Vec<Self> {
        vec![Expression::Meta(Meta::Protocol, FIRST), Expression::Compare(FIRST, true, vec![protocol as u8])]
    }

    /// Holds for one of these states of a connection.
    pub fn state(states: u32) -> Vec<Self> {
        Self::connection(Connection::State, states)
    }

    /// Holds where the connection has one of these bits.
    pub fn connection(key: Connection, bits: u32) -> Vec<Self> {
        vec![
            Expression::Connection(key, FIRST),
            Expression::Mask(FIRST, bits),
            Expression::Compare(FIRST, false, vec![0; 4]),
        ]
    }

    /// Loads the IPv4 source.
    pub fn source(register: u32) -> Self {
        Expression::Payload(Header::Network, 12, 4, register)
    }

    /// Loads the IPv4 destination.
    pub fn destination(register: u32) -> Self {
        Expression::Payload(Header::Network, 16, 4, register)
    }

    /// Loads some bytes of the IPv6 source, from this one on.
    pub fn ipv6_source(from: u32, length: u32, register: u32) -> Self {
        Expression::Payload(Header::Network, 8 + from, length, register)
    }

    /// Loads some bytes of the IPv6 destination, from this one on.
    pub fn ipv6_destination(from: u32, length: u32, register: u32) -> Self {
        Expression::Payload(Header::Network, 24 + from, length, register)
    }

    /// Loads the destination port of TCP or UDP.
    pub fn port(register: u32) -> Self {
        Expression::Payload(Header::Transport, 2, 2, register)
    }

    /// The kernel module that has this word, where it is not nf_tables itself (Linux 6.1; before 5.17 nft_counter is one too).
    pub(super) fn module(&self) -> Option<&'static str> {
        match self {
            Expression::Connection(..) => Some("nft_ct"),
            Expression::SourceIsRouted(_) => Some("nft_fib_inet"),
            Expression::SocketTakesAny(_) => Some("nft_socket"),
            Expression::Put(_, _, _, gauge) => gauge.module(),
            Expression::Reject => Some("nft_reject_inet"),
            Expression::Masquerade => Some("nft_masq"),
            Expression::Destination(_) => Some("nft_nat"),
            Expression::Meta(..)
            | Expression::Payload(..)
            | Expression::NamesRouters(_)
            | Expression::Load(..)
            | Expression::Compare(..)
            | Expression::Mask(..)
            | Expression::Lookup(..)
            | Expression::Map(..)
            | Expression::Verdict(_)
            | Expression::Count => None,
        }
    }

    pub(super) fn write(&self, a: &mut Attributes<'_>) {
        match self {
            Expression::Meta(key, to) => word(a, "meta", |a| {
                a.be32(1, named(*to));
                a.be32(2, *key as u32);
            }),
            Expression::Payload(base, offset, length, to) => word(a, "payload", |a| {
                a.be32(1, named(*to));
                a.be32(2, *base as u32);
                a.be32(3, *offset);
                a.be32(4, *length);
            }),
            Expression::Connection(key, to) => word(a, "ct", |a| {
                a.be32(2, *key as u32);
                a.be32(1, named(*to));
            }),
            Expression::SourceIsRouted(to) => word(a, "fib", |a| fib(a, *to)),
            Expression::SocketTakesAny(to) => word(a, "socket", |a| {
                const TAKES_ANY: u32 = 2;
                a.be32(1, TAKES_ANY);
                a.be32(2, named(*to));
            }),
            Expression::NamesRouters(to) => word(a, "exthdr", |a| routing_header(a, *to)),
            Expression::Load(bytes, to) => word(a, "immediate", |a| {
                a.be32(1, named(*to));
                a.nest(DATA, |a| a.bytes(VALUE, bytes));
            }),
            Expression::Compare(register, equal, bytes) => word(a, "cmp", |a| {
                a.be32(1, named(*register));
                a.be32(2, u32::from(!equal));
                a.nest(3, |a| a.bytes(VALUE, bytes));
            }),
            Expression::Mask(register, mask) => word(a, "bitwise", |a| masked(a, *register, *mask)),
            Expression::Lookup(set, from) => word(a, "lookup", |a| {
                a.be32(2, named(*from));
                a.text(1, set);
            }),
            Expression::Map(set, register) => word(a, "lookup", |a| {
                a.be32(2, named(*register));
                a.be32(3, named(*register));
                a.text(1, set);
            }),
            Expression::Put(set, from, renew, gauge) => word(a, "dynset", |a| {
                a.be32(4, named(*from));
                a.be32(3, u32::from(*renew));
                a.text(1, set);
                a.nest(7, |a| gauge.write(a));
            }),
            Expression::Verdict(verdict) => word(a, "immediate", |a| {
                a.be32(1, 0);
                a.nest(DATA, |a| a.nest(VERDICT, |a| write_verdict(a, *verdict)));
            }),
            Expression::Reject => word(a, "reject", |a| {
                const FOR_BOTH_LAYERS: u32 = 2;
                const BY_AN_ADMINISTRATOR: u8 = 3;
                a.be32(1, FOR_BOTH_LAYERS);
                a.bytes(2, &[BY_AN_ADMINISTRATOR]);
            }),
            Expression::Masquerade => word(a, "masq", |_| {}),
            Expression::Destination(register) => word(a, "nat", |a| {
                const DESTINATION: u32 = 1;
                a.be32(1, DESTINATION);
                a.be32(2, libc::NFPROTO_IPV4 as u32);
                a.be32(3, named(*register));
            }),
            Expression::Count => word(a, "counter", |_| {}),
        }
    }
}

impl Gauge {
    fn module(self) -> Option<&'static str> {
        match self {
            Gauge::Counter => None,
            Gauge::Limit { .. } => Some("nft_limit"),
            Gauge::ConnectionsOver(_) => Some("nft_connlimit"),
        }
    }

    fn write(self, a: &mut Attributes<'_>) {
        match self {
            Gauge::Counter => word(a, "counter", |_| {}),
            Gauge::Limit { rate, burst, over } => word(a, "limit", |a| {
                const A_SECOND: u64 = 1;
                a.be64(1, rate);
                a.be64(2, A_SECOND);
                a.be32(3, burst);
                a.be32(4, 0);
                a.be32(5, u32::from(over));
            }),
            Gauge::ConnectionsOver(count) => word(a, "connlimit", |a| {
                const BEYOND: u32 = 1;
                a.be32(1, count);
                a.be32(2, BEYOND);
            }),
        }
    }
}

/// Whether a packet has a routing header: extension header 43 (RFC 8200), by its presence.
fn routing_header(a: &mut Attributes<'_>, to: u32) {
    const ROUTING: u8 = 43;
    const IS_PRESENT: u32 = 1;
    a.be32(1, named(to));
    a.bytes(2, &[ROUTING]);
    a.be32(3, 0);
    a.be32(4, 1);
    a.be32(5, IS_PRESENT);
}

fn masked(a: &mut Attributes<'_>, register: u32, mask: u32) {
    a.be32(1, named(register));
    a.be32(2, named(register));
    a.be32(3, 4);
    a.nest(4, |a| a.bytes(VALUE, &mask.to_ne_bytes()));
    a.nest(5, |a| a.bytes(VALUE, &[0; 4]));
}

/// A kind of expression, by its name, and its attributes.
fn word(a: &mut Attributes<'_>, name: &str, write: impl FnOnce(&mut Attributes<'_>)) {
    a.text(NAME, name);
    a.nest(DATA, write);
}

fn write_verdict(a: &mut Attributes<'_>, verdict: Verdict<'_>) {
    a.be32(1, verdict.code().cast_unsigned());
    if let Verdict::Goto(chain) = verdict {
        a.text(2, chain);
    }
}

/// Source and incoming interface; the result is a byte, whether there is a route.
fn fib(a: &mut Attributes<'_>, to: u32) {
    const BY_INTERFACE: u32 = 1;
    const SOURCE: u32 = 1;
    const INCOMING: u32 = 8;
    const IS_PRESENT: u32 = 32;
    a.be32(3, SOURCE | INCOMING | IS_PRESENT);
    a.be32(2, BY_INTERFACE);
    a.be32(1, named(to));
}

/// As nft names it.
fn named(register: u32) -> u32 {
    if register == FIRST { FIRST_WIDE } else { register }
}
