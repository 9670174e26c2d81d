//! The rules, as constants: those of the router, and the few of the host.
//!
//! The chains never change while the daemon lives; what differs between nodes and over time are elements of sets. A
//! router that was made by another version has another mark ([`MARK`]) and gets the whole table anew, in one transaction
//! in which no packet finds it missing.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

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
/// The sets of lists, which a router that gets new rules keeps.
pub const LISTS: [&Set<'_>; 4] = [&LISTED, &EGRESS, &EGRESS_NETS, &EGRESS_DENIED];
/// The ledger of denials: source, destination, protocol, port.
pub const DENIALS: Set<'_> = Set::of("denials", &[Field::Ipv4, Field::Ipv4, Field::Protocol, Field::Port])
    .dynamic(65_536, Some(DENIAL_TIME));
/// How long an entry of the ledger stays, from its first packet.
pub const DENIAL_TIME: Duration = Duration::from_secs(3600);
const PORTED: Set<'_> = Set::of("ported", &[Field::Protocol]);
const NOISY: Set<'_> = Set::of("noisy", &[Field::Ipv4]).dynamic(65_536, Some(Duration::from_secs(10)));
const QUESTIONERS: Set<'_> =
    Set::of("questioners", &[Field::Ipv4]).dynamic(65_536, Some(Duration::from_secs(10)));
const CONNECTED: Set<'_> = Set::of("connected", &[Field::Ipv4]).dynamic(65_536, None);
/// The mark of these rules: a set without a use. A change of the rules gives it another name.
pub const MARK: Set<'_> = Set::of("rules2", &[Field::Protocol]);

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
pub fn is_never(address: Ipv4Addr) -> bool {
    NEVER_RANGES.iter().any(|range| range.contains(address))
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
    pub host: BTreeSet<Ipv4Addr>,
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
        &HOST,
        &UPSTREAM,
        &LISTED,
        &EGRESS,
        &EGRESS_NETS,
        &EGRESS_DENIED,
        &DENIALS,
        &PORTED,
        &NOISY,
        &QUESTIONERS,
        &CONNECTED,
    ] {
        t.add_set(TABLE, set);
    }
    let protocol = |protocol: i32| Element::key(&[protocol as u8]);
    t.add_elements(TABLE, &PORTED, &[protocol(libc::IPPROTO_TCP), protocol(libc::IPPROTO_UDP)]);
    t.add_elements(TABLE, &NEVER, &ranges(&NEVER_RANGES));
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
    for set in [&NETWORKS, &INNER, &ALLOWED, &HOST, &UPSTREAM] {
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
    let addresses = elements.host.iter().map(|address| Element::key(&address.octets()));
    t.add_elements(TABLE, &HOST, &addresses.collect::<Vec<_>>());
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

/// Writes the denial into the ledger, and answers. An entry that is there counts on, because it is looked up; of new ones a
/// source may bring a few in a second, so that it cannot fill the ledger. Only TCP and UDP have a port.
fn refuse() -> Vec<Vec<E<'static>>> {
    let limit = Gauge::Limit { rate: ENTRIES.0, burst: ENTRIES.1, over: false };
    let key = |port: E<'static>| {
        vec![E::source(FIRST), E::destination(FIRST + 1), E::Meta(Meta::Protocol, FIRST + 2), port]
    };
    let known = |port: &E<'static>| {
        [E::ipv4(), key(port.clone()), vec![E::Lookup("denials", FIRST), E::Reject]].concat()
    };
    let new = |port: &E<'static>| {
        let few = vec![E::source(FIRST), E::Put("noisy", FIRST, true, limit)];
        let count = vec![E::Put("denials", FIRST, false, Gauge::Counter)];
        [E::ipv4(), few, key(port.clone()), count, vec![E::Reject]].concat()
    };
    let (with, without) = (E::port(FIRST + 3), E::Load(vec![0, 0], FIRST + 3));
    vec![
        [ported(), known(&with)].concat(),
        [ported(), new(&with)].concat(),
        [ported(), vec![E::Reject]].concat(),
        known(&without),
        new(&without),
        vec![E::Reject],
    ]
}

/// From a job to the outside.
fn outside() -> Vec<Vec<E<'static>>> {
    let source = |set| vec![E::source(FIRST), E::Lookup(set, FIRST)];
    vec![
        [E::ipv4(), source("inner"), decide(TO_REFUSE)].concat(),
        [E::ipv4(), source("listed"), decide(Verdict::Goto("listed"))].concat(),
        // Only questions to the resolver have another destination than they were sent to.
        [E::connection(Connection::Status, DESTINATION_CHANGED), decide(Verdict::Accept)].concat(),
        decide(Verdict::Goto("public")),
    ]
}

/// From a job with a list to the outside: TCP and UDP to what the list says, if jobs may reach that at all.
fn by_list() -> Vec<Vec<E<'static>>> {
    let (job, address) = (E::source(FIRST), E::destination(FIRST + 1));
    let within = |set| vec![job.clone(), address.clone(), E::port(FIRST + 2), E::Lookup(set, FIRST)];
    let pinned = |port: E<'static>| {
        let protocol = E::Meta(Meta::Protocol, FIRST + 2);
        vec![job.clone(), address.clone(), protocol, port, E::Lookup("egress", FIRST)]
    };
    let on = || decide(Verdict::Goto("public"));
    vec![
        [ported(), within("egress_denied"), decide(TO_REFUSE)].concat(),
        [ported(), pinned(E::port(FIRST + 3)), on()].concat(),
        [ported(), pinned(E::Load(vec![0, 0], FIRST + 3)), on()].concat(),
        [ported(), within("egress_nets"), on()].concat(),
        decide(TO_REFUSE),
    ]
}

/// Rules for packets that leave for the outside.
fn public() -> Vec<Vec<E<'static>>> {
    let destination = |set| vec![E::destination(FIRST), E::Lookup(set, FIRST)];
    vec![
        [E::ipv4(), destination("allowed4"), decide(Verdict::Accept)].concat(),
        [E::ipv4(), destination("host4"), decide(TO_REFUSE)].concat(),
        [E::ipv4(), destination("never4"), decide(TO_REFUSE)].concat(),
        [E::ipv4(), decide(Verdict::Accept)].concat(),
    ]
}

/// Before anything else: no packet of a job with a source that is not its own. A limit of packets stands here too: behind
/// the rule for established connections it would count connections.
fn raw() -> Vec<Vec<E<'static>>> {
    let missing = vec![E::SourceIsRouted(FIRST), E::Compare(FIRST, true, vec![0; 4])];
    let (rate, burst) = QUESTIONS;
    let many = E::Put("questioners", FIRST, true, Gauge::Limit { rate, burst, over: true });
    vec![
        [E::group(In, JOBS), missing, decide(Verdict::Drop)].concat(),
        [
            E::group(In, JOBS),
            E::protocol(libc::IPPROTO_UDP),
            is_question(),
            E::ipv4(),
            vec![E::source(FIRST), many],
            decide(Verdict::Drop),
        ]
        .concat(),
    ]
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

/// From a job to the router itself: its resolver, and an echo.
fn input() -> Vec<Vec<E<'static>>> {
    let to_resolver = vec![E::destination(FIRST), E::Compare(FIRST, true, RESOLVER.octets().to_vec())];
    let echo = vec![
        E::Payload(Header::Transport, 0, 1, FIRST),
        E::Compare(FIRST, true, vec![8]), // echo request
    ];
    vec![
        [E::state(state::ESTABLISHED | state::RELATED), decide(Verdict::Accept)].concat(),
        [E::group(In, JOBS), ported(), is_question(), E::ipv4(), to_resolver, decide(Verdict::Accept)]
            .concat(),
        [E::group(In, JOBS), E::ipv4(), E::protocol(libc::IPPROTO_ICMP), echo, decide(Verdict::Accept)]
            .concat(),
        [E::group(In, JOBS), decide(TO_REFUSE)].concat(),
    ]
}

/// From a job to another one or to the outside, and the answers.
fn forward() -> Vec<Vec<E<'static>>> {
    let many = E::Put("connected", FIRST, false, Gauge::ConnectionsOver(CONNECTIONS));
    let both = vec![E::source(FIRST), E::destination(FIRST + 1), E::Lookup("networks", FIRST)];
    vec![
        [E::state(state::ESTABLISHED | state::RELATED), decide(Verdict::Accept)].concat(),
        [E::state(state::INVALID), decide(Verdict::Drop)].concat(),
        [E::group(In, JOBS), E::ipv4(), vec![E::source(FIRST), many], decide(TO_REFUSE)].concat(),
        [E::group(In, JOBS), E::group(Out, JOBS), E::ipv4(), both, decide(Verdict::Accept)].concat(),
        [E::group(Out, JOBS), decide(TO_REFUSE)].concat(),
        [E::group(In, JOBS), E::interface(Out, true, OUT), decide(Verdict::Goto("outside"))].concat(),
        [E::group(In, JOBS), decide(TO_REFUSE)].concat(),
    ]
}

/// The whole table of the host. `guarded` is an interface on which forwarding is on for our sake only: what comes in there
/// passes to us and to nobody else, unless somebody translates it.
pub fn host(router: Ipv4Addr, guarded: Option<&str>) -> Transaction {
    let mut t = Transaction::default();
    t.remove_table(TABLE);
    t.add_table(TABLE);
    let base = |kind, hook, priority| Some(Base { kind, hook, priority, accept: true });
    t.add_chain(TABLE, "input", base(Kind::Filter, Hook::Input, -10));
    t.add_chain(TABLE, "forward", base(Kind::Filter, Hook::Forward, -10));
    t.add_chain(TABLE, "masquerade", base(Kind::Nat, Hook::Postrouting, 100));
    t.add_rule(TABLE, "input", &[E::interface(In, true, HOST_END), vec![E::Reject]].concat());
    let strange = E::state(state::NEW | state::INVALID);
    t.add_rule(
        TABLE,
        "forward",
        &[E::interface(Out, true, HOST_END), strange, decide(Verdict::Drop)].concat(),
    );
    if let Some(name) = guarded {
        let untranslated = vec![
            E::Connection(Connection::Status, FIRST),
            E::Mask(FIRST, DESTINATION_CHANGED),
            E::Compare(FIRST, true, vec![0; 4]),
        ];
        let rule = [
            E::interface(In, true, name),
            E::interface(Out, false, HOST_END),
            E::state(state::NEW),
            untranslated,
            decide(Verdict::Drop),
        ];
        t.add_rule(TABLE, "forward", &rule.concat());
    }
    let from_router = vec![E::source(FIRST), E::Compare(FIRST, true, router.octets().to_vec())];
    t.add_rule(
        TABLE,
        "masquerade",
        &[E::ipv4(), from_router, E::interface(Out, false, HOST_END), vec![E::Masquerade]].concat(),
    );
    t
}

/// The kernel modules that a router needs, with its rules, its interfaces and the host's side.
pub fn modules() -> BTreeSet<&'static str> {
    let mut all = BTreeSet::from(["bridge", "veth"]);
    all.extend(router(&Elements::default(), &[]).modules());
    all.extend(host(Ipv4Addr::UNSPECIFIED, Some("")).modules());
    all
}

/// The rules that let us through a foreign chain, in exactly the shape in which iptables writes them, so that it still
/// reads the chain: by the way in, and by the way out.
pub fn admission(direction_in: bool) -> Vec<E<'static>> {
    let direction = if direction_in { In } else { Out };
    [E::interface(direction, true, HOST_END), vec![E::Count], decide(Verdict::Accept)].concat()
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
    fn modules_are_those_of_the_words_in_the_rules() {
        let expected = "bridge nf_tables nft_chain_nat nft_connlimit nft_ct nft_fib_inet nft_limit nft_masq nft_nat \
                        nft_reject_inet nft_socket veth";
        assert_eq!(modules().into_iter().collect::<Vec<_>>().join(" "), expected);
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
            assert_eq!(is_never(address.into()), never, "{address:?}");
        }
    }
}
