//! Messages to the kernel, as the tools ip(8) and nft(8) see what they did.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::time::Duration;

use joblet::sys::netlink::batch::Batch;
use joblet::sys::netlink::link::{self, Born, Link, Pair};
use joblet::sys::netlink::queue;
use joblet::sys::netlink::{Family, Socket};
use joblet::sys::nftables::expression::{
    Connection, DESTINATION_CHANGED, FIRST, Gauge, Meta, Verdict, state,
};
use joblet::sys::nftables::expression::{Direction::In, Direction::Out, Expression as E};
use joblet::sys::nftables::set::{Element, Field, Set};
use joblet::sys::nftables::{self, Base, Hook, Kind, Layer, Table, Transaction};

use crate::helper::network::{Namespace, has_program, lines};
use crate::helper::skip::is_root;

const JOB: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 5);
const LOCAL: Ipv4Addr = Ipv4Addr::new(169, 254, 128, 1);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 1);
const INDEX: u32 = 0x10_0001;

fn pair(born: Born<'_>) -> Pair<'_> {
    Pair {
        name: "job-1a2b3c4d",
        index: Some(INDEX),
        group: 7,
        up: true,
        peer: "eth0",
        peer_index: Some(2),
        born,
        mac: [2, 0x6a, 172, 20, 0, 5],
        mtu: 1400,
    }
}

fn socket_in(namespace: &Namespace, family: Family) -> Socket {
    namespace.run(|| Socket::open(family).unwrap())
}

/// Connects `job` to `router`.
fn wire(router: &Namespace, job: &Namespace) -> (Socket, Socket) {
    let mut outside = socket_in(router, Family::Route);
    let mut batch = Batch::default();
    link::add_pair(&mut batch, &pair(Born::Namespace(job.as_fd())));
    link::add_address_to(&mut batch, INDEX, LOCAL, JOB);
    outside.talk(&mut batch.confirm()).unwrap();
    let mut inside = socket_in(job, Family::Route);
    let mut batch = Batch::default();
    link::set_up(&mut batch, Link::Index(1));
    link::set_up_without_ipv6(&mut batch, Link::Index(2));
    link::add_address(&mut batch, 2, JOB, 16);
    link::add_default_route(&mut batch, 2, GATEWAY);
    link::add_route(&mut batch, 2, (Ipv4Addr::new(10, 9, 0, 0), 16), 4000);
    inside.talk(&mut batch.confirm()).unwrap();
    (outside, inside)
}

#[test]
fn both_ends_of_a_wire_are_as_ip_shows_them() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let (router, job) = (Namespace::new(), Namespace::new());
    let (mut outside, mut inside) = wire(&router, &job);
    let seen = router.shell("ip -details link show job-1a2b3c4d; ip address show dev job-1a2b3c4d");
    for part in [
        "1048577: job-1a2b3c4d@if2: <BROADCAST,MULTICAST,NOARP,UP,LOWER_UP> mtu 1400",
        "group 7",
        "link/ether 02:6a:ac:14:00:05",
        "veth",
        "numtxqueues 1 ",
        "numrxqueues 1 ",
        "inet 169.254.128.1 peer 172.20.0.5/32 scope global job-1a2b3c4d",
    ] {
        assert!(seen.contains(part), "{part:?} is not in {seen}");
    }
    assert_eq!(
        lines(&router.shell("ip route")),
        ["172.20.0.5 dev job-1a2b3c4d proto kernel scope link src 169.254.128.1"]
    );
    let seen = job.shell("ip -details link show eth0; ip address show dev eth0");
    for part in [
        "2: eth0@if1048577: <BROADCAST,MULTICAST,NOARP,UP,LOWER_UP> mtu 1400",
        "link/ether 02:6a:ac:14:00:05",
        "addrgenmode none",
        "inet 172.20.0.5/16 scope global eth0",
    ] {
        assert!(seen.contains(part), "{part:?} is not in {seen}");
    }
    assert!(!seen.contains("inet6"), "{seen}");
    let routes = job.shell("ip route");
    assert_eq!(
        lines(&routes),
        [
            "default via 172.20.0.1 dev eth0 proto static onlink",
            "10.9.0.0/16 dev eth0 proto static scope link metric 4000",
            "172.20.0.0/16 dev eth0 proto kernel scope link src 172.20.0.5",
        ]
    );
    let addresses = outside.dump(&mut link::get_addresses(), link::address_entry).unwrap();
    assert!(addresses.iter().any(|a| (a.index, a.local, a.peer, a.prefix) == (INDEX, LOCAL, JOB, 32)));
    let routes = inside.dump(&mut link::get_routes(), link::route_entry).unwrap();
    let default = routes.iter().find(|route| route.destination.1 == 0).unwrap();
    assert_eq!((default.gateway, default.index, default.metric), (Some(GATEWAY), Some(2), 0));
    assert_eq!(routes.len(), 3, "{routes:?}");
    let links = outside.dump(&mut link::get_link(Link::Name("job-1a2b3c4d")), link::link_state).unwrap();
    assert_eq!((links[0].index, links[0].mtu), (INDEX, 1400));
}

#[test]
fn refusal_of_a_message_has_the_kernels_words() {
    needs!(is_root(), "needs root");
    let (router, job) = (Namespace::new(), Namespace::new());
    let (mut outside, _) = wire(&router, &job);
    let mut batch = Batch::default();
    link::add_default_route(&mut batch, INDEX, Ipv4Addr::new(224, 0, 0, 1));
    let why = outside.talk(&mut batch.confirm()).unwrap_err();
    assert_eq!(why.errno(), Some(libc::EINVAL));
    assert!(why.to_string().contains("gateway"), "{why}");
    let other = Namespace::new();
    let mut batch = Batch::default();
    link::add_pair(&mut batch, &pair(Born::Namespace(other.as_fd())));
    let why = outside.talk(&mut batch.confirm()).unwrap_err();
    assert_eq!(why.errno(), Some(libc::EEXIST), "{why}");
    let why = outside.dump(&mut link::get_link(Link::Name("none")), link::link_state).unwrap_err();
    assert_eq!(why.errno(), Some(libc::ENODEV), "{why}");
}

const T: Table<'_> = Table { layer: Layer::Inet, name: "t" };
const NETWORKS: Set<'_> = Set::of("networks", &[Field::Ipv4, Field::Ipv4]).intervals();
const NEVER: Set<'_> = Set::of("never", &[Field::Ipv4]).intervals();
const SOURCES: Set<'_> = Set::of("sources", &[Field::Ipv4]).dynamic(100, None);
const UPSTREAM: Set<'_> = Set::of("upstream", &[Field::Ipv4]).to(Field::Ipv4);
const LEDGER: Set<'_> = Set::of("ledger", &[Field::Ipv4, Field::Ipv4, Field::Protocol, Field::Port])
    .dynamic(65_536, Some(Duration::from_secs(3600)));

/// A table with every kind of thing that we use.
fn table() -> Transaction {
    let mut t = Transaction::default();
    t.remove_table(T);
    t.add_table(T);
    for set in [&NETWORKS, &NEVER, &SOURCES, &UPSTREAM, &LEDGER] {
        t.add_set(T, set);
    }
    let range = |from: [u8; 4], to: [u8; 4]| Element::range(&from, &to);
    t.add_elements(T, &NEVER, &[range([10, 0, 0, 0], [10, 255, 255, 255]), range([224, 0, 0, 0], [255; 4])]);
    t.add_elements(
        T,
        &NETWORKS,
        &[Element::range(&[172, 20, 0, 0, 172, 20, 0, 0], &[172, 20, 255, 255, 172, 20, 255, 255])],
    );
    t.add_elements(T, &UPSTREAM, &[Element::pair(&[169, 254, 1, 53], &[8, 8, 8, 8])]);
    t.add_chain(T, "refuse", None);
    let base = |kind, hook, priority, accept| Some(Base { kind, hook, priority, accept });
    t.add_chain(T, "raw", base(Kind::Filter, Hook::Prerouting, -300, true));
    t.add_chain(T, "through", base(Kind::Filter, Hook::Forward, 0, false));
    t.add_chain(T, "before", base(Kind::Nat, Hook::Prerouting, -100, true));
    t.add_chain(T, "after", base(Kind::Nat, Hook::Postrouting, 100, true));
    rules(&mut t);
    t
}

fn rules(t: &mut Transaction) {
    let limit = Gauge::Limit { rate: 200, burst: 400, over: true };
    let key = vec![
        E::source(FIRST),
        E::destination(FIRST + 1),
        E::Meta(Meta::Protocol, FIRST + 2),
        E::port(FIRST + 3),
    ];
    let missing = vec![E::SourceIsRouted(FIRST), E::Compare(FIRST, true, vec![0; 4])];
    let ledger = vec![E::Put("ledger", FIRST, true, Gauge::Counter)];
    let decide = |verdict| vec![E::Verdict(verdict)];
    let few = Gauge::ConnectionsOver(2048);
    for (chain, rule) in [
        ("refuse", [E::ipv4(), key.clone(), vec![E::Lookup("ledger", FIRST)]].concat()),
        ("refuse", [E::ipv4(), key, ledger, vec![E::Count, E::Reject]].concat()),
        ("raw", [E::group(In, 7), missing, decide(Verdict::Drop)].concat()),
        (
            "raw",
            [
                E::protocol(libc::IPPROTO_UDP),
                vec![E::port(FIRST), E::Compare(FIRST, true, vec![0, 53])],
                E::ipv4(),
                vec![E::source(FIRST), E::Put("sources", FIRST, true, limit)],
                decide(Verdict::Drop),
            ]
            .concat(),
        ),
        ("through", [E::state(state::ESTABLISHED | state::RELATED), decide(Verdict::Accept)].concat()),
        (
            "through",
            [
                E::group(In, 7),
                E::ipv4(),
                vec![E::source(FIRST), E::Put("sources", FIRST, false, few)],
                decide(Verdict::Goto("refuse")),
            ]
            .concat(),
        ),
        (
            "through",
            [
                E::group(Out, 7),
                E::ipv4(),
                vec![E::source(FIRST), E::destination(FIRST + 1), E::Lookup("networks", FIRST)],
                decide(Verdict::Accept),
            ]
            .concat(),
        ),
        (
            "through",
            [
                E::interface(Out, true, "out0"),
                E::connection(Connection::Status, DESTINATION_CHANGED),
                decide(Verdict::Accept),
            ]
            .concat(),
        ),
        (
            "before",
            [E::ipv4(), vec![E::destination(FIRST), E::Map("upstream", FIRST), E::Destination(FIRST)]]
                .concat(),
        ),
        ("after", [E::interface(Out, true, "out0"), vec![E::Masquerade]].concat()),
    ] {
        t.add_rule(T, chain, &rule);
    }
}

const LISTED: &str = "
table inet t {
    set networks {
        type ipv4_addr . ipv4_addr
        flags interval
        elements = { 172.20.0.0/16 . 172.20.0.0/16 }
    }
    set never {
        type ipv4_addr
        flags interval
        elements = { 10.0.0.0/8, 224.0.0.0/3 }
    }
    set sources {
        type ipv4_addr
        size 100
        flags dynamic
    }
    map upstream {
        type ipv4_addr : ipv4_addr
        elements = { 169.254.1.53 : 8.8.8.8 }
    }
    set ledger {
        type ipv4_addr . ipv4_addr . inet_proto . inet_service
        size 65536
        flags dynamic,timeout
        timeout 1h
    }
    chain refuse {
        ip saddr . ip daddr . meta l4proto . th dport @ledger
        update @ledger { ip saddr . ip daddr . meta l4proto . th dport counter } counter packets 0 bytes 0 reject with icmpx admin-prohibited
    }
    chain raw {
        type filter hook prerouting priority raw; policy accept;
        iifgroup 7 fib saddr . iif oif missing drop
        udp dport 53 update @sources { ip saddr limit rate over 200/second burst 400 packets } drop
    }
    chain through {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifgroup 7 add @sources { ip saddr ct count over 2048 } goto refuse
        oifgroup 7 ip saddr . ip daddr @networks accept
        oifname \"out0\" ct status dnat accept
    }
    chain before {
        type nat hook prerouting priority dstnat; policy accept;
        dnat ip to ip daddr map @upstream
    }
    chain after {
        type nat hook postrouting priority srcnat; policy accept;
        oifname \"out0\" masquerade
    }
}
";

#[test]
fn table_with_every_kind_of_thing_is_listed_by_nft() {
    needs!(is_root() && has_program("nft"), "needs root and nft(8)");
    let namespace = Namespace::new();
    let mut socket = socket_in(&namespace, Family::Netfilter);
    assert!(!nftables::has_table(&mut socket, T).unwrap());
    table().commit(&mut socket).unwrap();
    assert_eq!(lines(&namespace.shell("nft list ruleset")), lines(LISTED));
    // In one transaction with its removal, so that no packet finds it missing.
    table().commit(&mut socket).unwrap();
    assert_eq!(lines(&namespace.shell("nft list ruleset")), lines(LISTED));
    assert!(nftables::has_table(&mut socket, T).unwrap());
    assert!(nftables::has_chain(&mut socket, T, "raw").unwrap());
    assert!(!nftables::has_set(&mut socket, T, "raw").unwrap());
}

#[test]
fn elements_are_read_put_in_and_taken_out() {
    needs!(is_root(), "needs root");
    let namespace = Namespace::new();
    let mut socket = socket_in(&namespace, Family::Netfilter);
    table().commit(&mut socket).unwrap();
    let never = nftables::elements(&mut socket, T, &NEVER).unwrap();
    let seen: Vec<_> = never.iter().map(|e| (e.key.clone(), e.is_end)).collect();
    let expected = [(vec![224, 0, 0, 0], false), (vec![11, 0, 0, 0], true), (vec![10, 0, 0, 0], false)];
    assert_eq!(seen.len(), expected.len());
    assert!(expected.iter().all(|e| seen.contains(e)), "{seen:?}");
    let pairs = nftables::elements(&mut socket, T, &UPSTREAM).unwrap();
    assert_eq!(pairs[0].value.as_deref(), Some(&[8, 8, 8, 8][..]));
    let one = |n: u8| Element::key(&[1, 1, 1, n, 2, 2, 2, 2, 6, 0, 0, 0, 0, 80, 0, 0]);
    let mut t = Transaction::default();
    t.add_elements(T, &LEDGER, &(0..=255).chain(0..=255).map(one).collect::<Vec<_>>());
    t.commit(&mut socket).unwrap();
    let listed = nftables::elements(&mut socket, T, &LEDGER).unwrap();
    assert_eq!(listed.len(), 256);
    assert!(listed.iter().all(|e| e.remaining.is_some_and(|left| left > Duration::from_secs(3000))));
    let mut t = Transaction::default();
    t.remove_elements(T, &LEDGER, &[one(7)]);
    t.commit(&mut socket).unwrap();
    assert_eq!(nftables::elements(&mut socket, T, &LEDGER).unwrap().len(), 255);
    let mut t = Transaction::default();
    t.empty(T, &NEVER);
    t.remove_elements(T, &LEDGER, &[one(7)]);
    let why = t.commit(&mut socket).unwrap_err();
    assert_eq!(why.errno(), Some(libc::ENOENT), "{why}");
    assert_eq!(nftables::elements(&mut socket, T, &NEVER).unwrap().len(), 3, "all or nothing");
}

#[test]
fn rates_are_what_tc_shows_and_are_read_back() {
    needs!(is_root() && has_program("tc"), "needs root and tc(8)");
    let (router, job) = (Namespace::new(), Namespace::new());
    let (mut outside, mut inside) = wire(&router, &job);
    for (socket, namespace, index, rate, shown) in [
        (&mut outside, &router, INDEX, 1_250_000, "rate 10Mbit burst 25000b"),
        (&mut inside, &job, 2, 5_000_000_000, "rate 40Gbit burst"),
    ] {
        let (mut before, mut batch) = (queue::get_queues(), Batch::default());
        assert!(
            socket.dump(&mut before, |kind, body| queue::bucket_of(kind, body, index)).unwrap().is_empty()
        );
        let burst = if rate < 1 << 30 { 25_000 } else { 8 << 20 };
        queue::add_bucket(&mut batch, index, &queue::Bucket { rate, burst, limit: 2 * burst });
        socket.talk(&mut batch.confirm()).unwrap();
        let text = namespace.shell("tc qdisc show");
        assert!(text.contains("tbf") && text.contains(shown), "{text}");
        let mut after = queue::get_queues();
        let read = socket.dump(&mut after, |kind, body| queue::bucket_of(kind, body, index)).unwrap();
        assert_eq!(read, [rate]);
    }
}
