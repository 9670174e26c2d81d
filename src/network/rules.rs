//! The rules of the router, as constants.
//!
//! The chains never change while the daemon lives; what differs between nodes and over time are elements of sets. A
//! router that was made by another version has another mark ([`MARK`]) and gets the whole table anew, in one transaction
//! in which no packet finds it missing.
//!
//! IPv4 and IPv6 have the same rules, written once for a [`Family`]. A job is known by its IPv4 address in both: its IPv6
//! source must be the image of that ([`ipv6`]), so the last four bytes say whose a packet is, and the sets of jobs and
//! networks hold for both. Only what a job reaches outside has sets of each family.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::ipv6::{self, PREFIX};
use super::lease::Range;
use crate::sys::nftables::expression::{
    Connection, DESTINATION_CHANGED, Direction::In, Direction::Out, Expression as E, FIRST, Gauge, Header,
    Meta, Verdict, state,
};
use crate::sys::nftables::set::{Element, Field, Set};
use crate::sys::nftables::{Base, Hook, Kind, Layer, Table, Transaction};

/// The group of the router's ends of wires.
pub const JOBS: u32 = 7;
/// The router's interface towards the host.
pub const OUT: &str = "out0";
/// The host's interface towards the router.
pub const HOST_END: &str = "joblet0";
/// The address at which jobs find their resolver.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 53);
/// Connections that one job may have at a time.
pub const CONNECTIONS: u32 = 2048;
/// Questions to a resolver that one job may ask in a second, and at once.
pub const QUESTIONS: (u64, u32) = (200, 400);
/// New entries that one job may bring into the ledger in a second, and at once.
const ENTRIES: (u64, u32) = (10, 10);

/// The table, in the router and in the host.
pub const TABLE: Table<'_> = Table { layer: Layer::Inet, name: "joblet" };

/// Pairs of ranges whose addresses may speak to each other: each network with itself.
pub const NETWORKS: Set<'_> = Set::of("networks", &[Field::Ipv4, Field::Ipv4]).intervals();
/// Networks without outside.
pub const INNER: Set<'_> = Set::of("inner", &[Field::Ipv4]).intervals();
/// Ranges that the configuration opens although they are in [`NEVER`].
pub const ALLOWED: Set<'_> = Set::of("allowed4", &[Field::Ipv4]).intervals();
/// Ranges that no job reaches otherwise.
pub const NEVER: Set<'_> = Set::of("never4", &[Field::Ipv4]).intervals();
/// The host's own addresses, which jobs do not reach, also where the host's table is gone.
pub const HOST: Set<'_> = Set::of("host4", &[Field::Ipv4]);
/// The same for IPv6.
pub const NEVER6: Set<'_> = Set::of("never6", &[Field::Ipv6]).intervals();
/// The same for IPv6.
pub const HOST6: Set<'_> = Set::of("host6", &[Field::Ipv6]);
/// The resolver's address, and the name server that its questions go to.
pub const UPSTREAM: Set<'_> = Set::of("upstream", &[Field::Ipv4]).to(Field::Ipv4);
/// Jobs with an egress list: they reach only what the next three sets say.
pub const LISTED: Set<'_> = Set::of("listed", &[Field::Ipv4]);
/// Addresses of listed names, each for as long as the name's answer holds: job, address, protocol, port; port 0 is all.
pub const EGRESS: Set<'_> =
    Set::of("egress", &[Field::Ipv4, Field::Ipv4, Field::Protocol, Field::Port]).expiring(262_144);
/// Listed ranges: job, addresses, ports of TCP and UDP.
pub const EGRESS_NETS: Set<'_> = Set::of("egress_nets", &[Field::Ipv4, Field::Ipv4, Field::Port]).intervals();
/// Ranges that a list denies, which also no name opens.
pub const EGRESS_DENIED: Set<'_> =
    Set::of("egress_denied", &[Field::Ipv4, Field::Ipv4, Field::Port]).intervals();
/// The same for IPv6: each job is known by its IPv4 address.
pub const EGRESS6: Set<'_> =
    Set::of("egress6", &[Field::Ipv4, Field::Ipv6, Field::Protocol, Field::Port]).expiring(262_144);
/// The same for IPv6.
pub const EGRESS_NETS6: Set<'_> =
    Set::of("egress_nets6", &[Field::Ipv4, Field::Ipv6, Field::Port]).intervals();
/// The same for IPv6.
pub const EGRESS_DENIED6: Set<'_> =
    Set::of("egress_denied6", &[Field::Ipv4, Field::Ipv6, Field::Port]).intervals();
/// The sets of lists, which a router that gets new rules keeps.
pub const LISTS: [&Set<'_>; 7] =
    [&LISTED, &EGRESS, &EGRESS_NETS, &EGRESS_DENIED, &EGRESS6, &EGRESS_NETS6, &EGRESS_DENIED6];
/// The ledger of denials: source, destination, protocol, port.
pub const DENIALS: Set<'_> = Set::of("denials", &[Field::Ipv4, Field::Ipv4, Field::Protocol, Field::Port])
    .dynamic(65_536, Some(DENIAL_TIME));
/// The same for IPv6.
pub const DENIALS6: Set<'_> = Set::of("denials6", &[Field::Ipv4, Field::Ipv6, Field::Protocol, Field::Port])
    .dynamic(65_536, Some(DENIAL_TIME));
/// How long an entry of the ledger stays, from its first packet.
pub const DENIAL_TIME: Duration = Duration::from_secs(3600);
const PORTED: Set<'_> = Set::of("ported", &[Field::Protocol]);
const NOISY: Set<'_> = Set::of("noisy", &[Field::Ipv4]).dynamic(65_536, Some(Duration::from_secs(10)));
const QUESTIONERS: Set<'_> =
    Set::of("questioners", &[Field::Ipv4]).dynamic(65_536, Some(Duration::from_secs(10)));
const CONNECTED: Set<'_> = Set::of("connected", &[Field::Ipv4]).dynamic(65_536, None);
/// The mark of these rules: a set without a use. A change of the rules gives it another name.
pub const MARK: Set<'_> = Set::of("rules3", &[Field::Protocol]);

/// Metadata of clouds, private and shared ranges, and what is no host of the internet.
const NEVER_RANGES: [Range; 11] = [
    Range::new([0, 0, 0, 0], 8),
    Range::new([10, 0, 0, 0], 8),
    Range::new([100, 64, 0, 0], 10),
    Range::new([127, 0, 0, 0], 8),
    Range::new([168, 63, 129, 16], 32), // Azure's metadata and agent
    Range::new([169, 254, 0, 0], 16),
    Range::new([172, 16, 0, 0], 12),
    Range::new([192, 0, 0, 0], 24),
    Range::new([192, 168, 0, 0], 16),
    Range::new([198, 18, 0, 0], 15),
    Range::new([224, 0, 0, 0], 3),
];

/// Whether no job reaches the address unless the configuration opens it.
pub fn is_never(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => NEVER_RANGES.iter().any(|range| range.contains(address)),
        IpAddr::V6(address) => ipv6::is_never(address),
    }
}

/// The elements of sets: what differs between nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elements {
    /// Networks whose jobs reach each other.
    pub networks: Vec<Range>,
    /// Networks without outside.
    pub inner: Vec<Range>,
    /// Ranges that jobs reach although they are private.
    pub allowed: Vec<Range>,
    /// The host's own addresses.
    pub host: BTreeSet<IpAddr>,
    /// The name server that jobs' questions go to.
    pub upstream: Option<Ipv4Addr>,
}

/// The whole table of the router. `lists` are the elements of [`LISTS`] that jobs have already: no packet finds them
/// missing either.
pub fn router(elements: &Elements, lists: &[(&Set<'_>, Vec<Element>)]) -> Transaction {
    let mut t = Transaction::default();
    t.remove_table(TABLE);
    t.add_table(TABLE);
    for set in [
        &MARK,
        &NETWORKS,
        &INNER,
        &ALLOWED,
        &NEVER,
        &NEVER6,
        &HOST,
        &HOST6,
        &UPSTREAM,
        &DENIALS,
        &DENIALS6,
        &PORTED,
        &NOISY,
        &QUESTIONERS,
        &CONNECTED,
    ]
    .into_iter()
    .chain(LISTS)
    {
        t.add_set(TABLE, set);
    }
    let protocol = |protocol: i32| Element::key(&[protocol as u8]);
    t.add_elements(TABLE, &PORTED, &[protocol(libc::IPPROTO_TCP), protocol(libc::IPPROTO_UDP)]);
    t.add_elements(TABLE, &NEVER, &ranges(&NEVER_RANGES));
    let never6 = ipv6::never_ranges().map(|(first, last)| Element::range(&first.octets(), &last.octets()));
    t.add_elements(TABLE, &NEVER6, &never6.collect::<Vec<_>>());
    fill(&mut t, elements);
    lists.iter().for_each(|(set, elements)| t.add_elements(TABLE, set, elements));
    let base = |kind, hook, priority, accept| Some(Base { kind, hook, priority, accept });
    for (name, at) in [
        ("refuse", None),
        ("public", None),
        ("listed", None),
        ("outside", None),
        ("raw", base(Kind::Filter, Hook::Prerouting, -300, true)),
        ("questions", base(Kind::Nat, Hook::Prerouting, -100, true)),
        ("input", base(Kind::Filter, Hook::Input, 0, false)),
        ("forward", base(Kind::Filter, Hook::Forward, 0, false)),
        ("masquerade", base(Kind::Nat, Hook::Postrouting, 100, true)),
    ] {
        t.add_chain(TABLE, name, at);
    }
    let chains: [(&str, Vec<Vec<E<'_>>>); 9] = [
        ("refuse", refuse()),
        ("public", public()),
        ("listed", by_list()),
        ("outside", outside()),
        ("raw", raw()),
        ("questions", questions()),
        ("input", input()),
        ("forward", forward()),
        ("masquerade", vec![[E::interface(Out, true, OUT), vec![E::Masquerade]].concat()]),
    ];
    for (chain, rules) in chains {
        rules.iter().for_each(|rule| t.add_rule(TABLE, chain, rule));
    }
    t
}

/// Makes the sets of a router with these rules equal to `elements`.
pub fn refill(elements: &Elements) -> Transaction {
    let mut t = Transaction::default();
    for set in [&NETWORKS, &INNER, &ALLOWED, &HOST, &HOST6, &UPSTREAM] {
        t.empty(TABLE, set);
    }
    fill(&mut t, elements);
    t
}

fn fill(t: &mut Transaction, elements: &Elements) {
    let with_itself = |range: &Range| {
        let twice = |address: Ipv4Addr| [address.octets(), address.octets()].concat();
        Element::range(&twice(range.first()), &twice(range.last()))
    };
    t.add_elements(TABLE, &NETWORKS, &elements.networks.iter().map(with_itself).collect::<Vec<_>>());
    t.add_elements(TABLE, &INNER, &ranges(&elements.inner));
    t.add_elements(TABLE, &ALLOWED, &ranges(&merged(&elements.allowed)));
    let (mut four, mut six) = (Vec::new(), Vec::new());
    for address in &elements.host {
        match address {
            IpAddr::V4(address) => four.push(Element::key(&address.octets())),
            IpAddr::V6(address) => six.push(Element::key(&address.octets())),
        }
    }
    t.add_elements(TABLE, &HOST, &four);
    t.add_elements(TABLE, &HOST6, &six);
    if let Some(upstream) = elements.upstream {
        let pair = Element::pair(&RESOLVER.octets(), &upstream.octets());
        t.add_elements(TABLE, &UPSTREAM, &[pair]);
    }
}

fn ranges(ranges: &[Range]) -> Vec<Element> {
    ranges.iter().map(|range| Element::range(&range.first().octets(), &range.last().octets())).collect()
}

/// Ranges without those that lie within others: the kernel refuses elements that overlap.
fn merged(ranges: &[Range]) -> Vec<Range> {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| (range.prefix(), *range));
    let mut kept: Vec<Range> = Vec::new();
    for range in sorted {
        if !kept.iter().any(|wider| wider.overlaps(range)) {
            kept.push(range);
        }
    }
    kept
}

fn decide(verdict: Verdict<'_>) -> Vec<E<'_>> {
    vec![E::Verdict(verdict)]
}

const TO_REFUSE: Verdict<'_> = Verdict::Goto("refuse");

/// The packet is one of TCP or UDP, so that it has ports.
fn ported() -> Vec<E<'static>> {
    vec![E::Meta(Meta::Protocol, FIRST), E::Lookup("ported", FIRST)]
}

/// The words and sets of one family of addresses.
struct Family {
    is: fn() -> Vec<E<'static>>,
    /// The job that a packet comes from, and the one that it goes to: its IPv4 address, in one register.
    job: fn(u32) -> E<'static>,
    other: fn(u32) -> E<'static>,
    /// The destination, and the registers that it takes.
    destination: fn(u32) -> E<'static>,
    width: u32,
    denials: &'static str,
    egress: &'static str,
    egress_nets: &'static str,
    egress_denied: &'static str,
    allowed: Option<&'static str>,
    host: &'static str,
    never: &'static str,
    echo_protocol: i32,
    echo_request: u8,
}

const FAMILIES: [Family; 2] = [
    Family {
        is: E::ipv4,
        job: E::source,
        other: E::destination,
        destination: E::destination,
        width: 1,
        denials: DENIALS.name,
        egress: EGRESS.name,
        egress_nets: EGRESS_NETS.name,
        egress_denied: EGRESS_DENIED.name,
        allowed: Some(ALLOWED.name),
        host: HOST.name,
        never: NEVER.name,
        echo_protocol: libc::IPPROTO_ICMP,
        echo_request: 8,
    },
    Family {
        is: E::ipv6,
        job: |register| E::ipv6_source(12, 4, register),
        other: |register| E::ipv6_destination(12, 4, register),
        destination: |register| E::ipv6_destination(0, 16, register),
        width: 4,
        denials: DENIALS6.name,
        egress: EGRESS6.name,
        egress_nets: EGRESS_NETS6.name,
        egress_denied: EGRESS_DENIED6.name,
        allowed: None,
        host: HOST6.name,
        never: NEVER6.name,
        echo_protocol: libc::IPPROTO_ICMPV6,
        echo_request: 128,
    },
];

/// A rule for each family.
fn each<'a>(rule: impl Fn(&Family) -> Vec<E<'a>>) -> impl Iterator<Item = Vec<E<'a>>> {
    FAMILIES.iter().map(move |family| [(family.is)(), rule(family)].concat())
}

impl Family {
    /// The job and the destination, as the keys of sets begin; and the register behind them.
    fn path(&self) -> (Vec<E<'static>>, u32) {
        (vec![(self.job)(FIRST), (self.destination)(FIRST + 1)], FIRST + 1 + self.width)
    }

    fn of_job(&self, set: &'static str) -> Vec<E<'static>> {
        vec![(self.job)(FIRST), E::Lookup(set, FIRST)]
    }
}

/// The port of a packet, or 0 where it has none, into a register.
type Port = fn(u32) -> E<'static>;
const NO_PORT: Port = |register| E::Load(vec![0, 0], register);

/// Writes the denial into the ledger, and answers. An entry that is there counts on, because it is looked up; of new ones a
/// source may bring a few in a second, so that it cannot fill the ledger. Only TCP and UDP have a port.
fn refuse() -> Vec<Vec<E<'static>>> {
    let limit = Gauge::Limit { rate: ENTRIES.0, burst: ENTRIES.1, over: false };
    let key = |family: &Family, port: Port| {
        let (path, next) = family.path();
        [path, vec![E::Meta(Meta::Protocol, next), port(next + 1)]].concat()
    };
    let known = |port: Port| {
        each(move |family| [key(family, port), vec![E::Lookup(family.denials, FIRST), E::Reject]].concat())
    };
    let new = |port: Port| {
        each(move |family| {
            let few = vec![(family.job)(FIRST), E::Put("noisy", FIRST, true, limit)];
            let count = vec![E::Put(family.denials, FIRST, false, Gauge::Counter)];
            [few, key(family, port), count, vec![E::Reject]].concat()
        })
    };
    let with_port = |rule: Vec<E<'static>>| [ported(), rule].concat();
    let mut rules: Vec<_> = known(E::port).chain(new(E::port)).map(with_port).collect();
    rules.push([ported(), vec![E::Reject]].concat());
    rules.extend(known(NO_PORT).chain(new(NO_PORT)));
    rules.push(vec![E::Reject]);
    rules
}

/// From a job to the outside.
fn outside() -> Vec<Vec<E<'static>>> {
    let inner = each(|family| [family.of_job("inner"), decide(TO_REFUSE)].concat());
    let listed = each(|family| [family.of_job("listed"), decide(Verdict::Goto("listed"))].concat());
    let mut rules: Vec<_> = inner.chain(listed).collect();
    // Only questions to the resolver have another destination than they were sent to.
    rules.push([E::connection(Connection::Status, DESTINATION_CHANGED), decide(Verdict::Accept)].concat());
    rules.push(decide(Verdict::Goto("public")));
    rules
}

/// From a job with a list to the outside: TCP and UDP to what the list says, if jobs may reach that at all.
fn by_list() -> Vec<Vec<E<'static>>> {
    let within = |family: &Family, set| {
        let (path, next) = family.path();
        [ported(), path, vec![E::port(next), E::Lookup(set, FIRST)]].concat()
    };
    let pinned = |port: Port| {
        each(move |family| {
            let (path, next) = family.path();
            let place = vec![E::Meta(Meta::Protocol, next), port(next + 1), E::Lookup(family.egress, FIRST)];
            [ported(), path, place, decide(Verdict::Goto("public"))].concat()
        })
    };
    let denied = each(|family| [within(family, family.egress_denied), decide(TO_REFUSE)].concat());
    let nets = each(|family| [within(family, family.egress_nets), decide(Verdict::Goto("public"))].concat());
    let rules = denied.chain(pinned(E::port)).chain(pinned(NO_PORT)).chain(nets);
    rules.chain([decide(TO_REFUSE)]).collect()
}

/// Rules for packets that leave for the outside.
fn public() -> Vec<Vec<E<'static>>> {
    let to = |family: &Family, set| vec![(family.destination)(FIRST), E::Lookup(set, FIRST)];
    let mut rules = Vec::new();
    for family in &FAMILIES {
        let mut rule = |words: Vec<E<'static>>| rules.push([(family.is)(), words].concat());
        if let Some(allowed) = family.allowed {
            rule([to(family, allowed), decide(Verdict::Accept)].concat());
        }
        rule([to(family, family.host), decide(TO_REFUSE)].concat());
        rule([to(family, family.never), decide(TO_REFUSE)].concat());
        rule(decide(Verdict::Accept));
    }
    rules
}

/// Before anything else: no packet of a job with a source that is not its own, and in IPv6 none that is no image: its last
/// bytes would name another job. None that names routers on its way goes on either: the kernel sees to that for IPv4
/// alone. A limit of packets stands here too: behind the rule for established connections it would
/// count connections.
fn raw() -> Vec<Vec<E<'static>>> {
    let missing = vec![E::SourceIsRouted(FIRST), E::Compare(FIRST, true, vec![0; 4])];
    let strange =
        vec![E::ipv6_source(0, PREFIX.len() as u32, FIRST), E::Compare(FIRST, false, PREFIX.to_vec())];
    let routed = vec![E::NamesRouters(FIRST), E::Compare(FIRST, true, vec![1])];
    let (rate, burst) = QUESTIONS;
    let many = Gauge::Limit { rate, burst, over: true };
    let mut rules = vec![
        [E::group(In, JOBS), missing, decide(Verdict::Drop)].concat(),
        [E::group(In, JOBS), E::ipv6(), strange, decide(Verdict::Drop)].concat(),
        [E::group(In, JOBS), E::ipv6(), routed, decide(Verdict::Drop)].concat(),
    ];
    rules.extend(each(|family| {
        [
            E::group(In, JOBS),
            E::protocol(libc::IPPROTO_UDP),
            is_question(),
            vec![(family.job)(FIRST), E::Put("questioners", FIRST, true, many)],
            decide(Verdict::Drop),
        ]
        .concat()
    }));
    rules
}

fn is_question() -> Vec<E<'static>> {
    vec![E::port(FIRST), E::Compare(FIRST, true, 53u16.to_be_bytes().to_vec())]
}

/// Questions to the resolver's address are for its socket, or, while there is none, go on to a name server. Without one they
/// find nobody, and say so. Those of a job with a list do not go on: a name server would answer for every name, and
/// questions carry bytes out.
fn questions() -> Vec<Vec<E<'static>>> {
    let listed = vec![E::source(FIRST), E::Lookup("listed", FIRST)];
    let on = vec![E::destination(FIRST), E::Map("upstream", FIRST), E::Destination(FIRST)];
    let to_resolver = vec![E::destination(FIRST), E::Compare(FIRST, true, RESOLVER.octets().to_vec())];
    // The kernel knows by itself whether the resolver lives, also while no daemon does.
    let its_socket = vec![E::SocketTakesAny(FIRST), E::Compare(FIRST, true, vec![0])];
    let question = || [E::group(In, JOBS), ported(), is_question(), E::ipv4()].concat();
    vec![
        [E::group(In, JOBS), E::ipv4(), listed, decide(Verdict::Accept)].concat(),
        [question(), to_resolver, its_socket, decide(Verdict::Accept)].concat(),
        [question(), on].concat(),
    ]
}

/// From a job to the router itself: its resolver, and an echo. Nothing of IPv6's neighbour discovery: on a wire there is
/// nobody to discover. A job cannot use it towards another one: it has passed a router (RFC 4861, 7.1).
fn input() -> Vec<Vec<E<'static>>> {
    let to_resolver = vec![E::destination(FIRST), E::Compare(FIRST, true, RESOLVER.octets().to_vec())];
    let mut rules = vec![
        [E::state(state::ESTABLISHED | state::RELATED), decide(Verdict::Accept)].concat(),
        [E::group(In, JOBS), ported(), is_question(), E::ipv4(), to_resolver, decide(Verdict::Accept)]
            .concat(),
    ];
    rules.extend(each(|family| {
        let kind = E::Payload(Header::Transport, 0, 1, FIRST);
        let echo = vec![kind, E::Compare(FIRST, true, vec![family.echo_request])];
        [E::group(In, JOBS), E::protocol(family.echo_protocol), echo, decide(Verdict::Accept)].concat()
    }));
    rules.push([E::group(In, JOBS), decide(TO_REFUSE)].concat());
    rules
}

/// From a job to another one or to the outside, and the answers. Only images lead to a job, so the last bytes of an IPv6
/// destination there name one.
fn forward() -> Vec<Vec<E<'static>>> {
    let many = Gauge::ConnectionsOver(CONNECTIONS);
    let mut rules = vec![
        [E::state(state::ESTABLISHED | state::RELATED), decide(Verdict::Accept)].concat(),
        [E::state(state::INVALID), decide(Verdict::Drop)].concat(),
    ];
    rules.extend(each(|family| {
        let count = vec![(family.job)(FIRST), E::Put("connected", FIRST, false, many)];
        [E::group(In, JOBS), count, decide(TO_REFUSE)].concat()
    }));
    rules.extend(each(|family| {
        let both = vec![(family.job)(FIRST), (family.other)(FIRST + 1), E::Lookup("networks", FIRST)];
        [E::group(In, JOBS), E::group(Out, JOBS), both, decide(Verdict::Accept)].concat()
    }));
    rules.push([E::group(Out, JOBS), decide(TO_REFUSE)].concat());
    rules.push([E::group(In, JOBS), E::interface(Out, true, OUT), decide(Verdict::Goto("outside"))].concat());
    rules.push([E::group(In, JOBS), decide(TO_REFUSE)].concat());
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_within_others_are_left_out() {
        let range = |text: &str| text.parse::<Range>().unwrap();
        let all = ["10.1.0.0/16", "10.0.0.0/8", "192.168.1.1/32", "10.0.0.0/8"].map(range);
        assert_eq!(merged(&all), [range("10.0.0.0/8"), range("192.168.1.1/32")]);
    }

    #[test]
    fn metadata_of_clouds_and_private_ranges_are_never_reached() {
        for (address, never) in [
            ([169, 254, 169, 254], true),
            ([168, 63, 129, 16], true),
            ([10, 9, 9, 9], true),
            ([100, 100, 100, 200], true),
            ([192, 168, 0, 1], true),
            ([255, 255, 255, 255], true),
            ([8, 8, 8, 8], false),
            ([168, 63, 129, 17], false),
            ([172, 32, 0, 1], false),
        ] {
            assert_eq!(is_never(Ipv4Addr::from(address).into()), never, "{address:?}");
        }
    }
}
