//! The same walls in IPv6, in namespaces of the test's own. A job here is root in its namespace and has no seccomp filter.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use joblet::network::ipv6::image;
use joblet::network::router::Router;
use joblet::network::{denials, rules};

use crate::egress::{list, pin, sets};
use crate::helper::network::{has_ipv6, has_program, lines};
use crate::helper::skip::is_root;
use crate::lab::{self, Job, Lab, PORT, Reach, config};

const INTERNET: Ipv6Addr = Ipv6Addr::new(0x2600, 0, 0, 0, 0, 0, 0, 8);
const HOST: Ipv6Addr = Ipv6Addr::new(0x2600, 0xf, 0, 0, 0, 0, 0, 2);
const OUTSIDE: Ipv6Addr = Ipv6Addr::new(0x2600, 0xf, 0, 0, 0, 0, 0, 1);
const ONE_ALONE: &str = "/proc/sys/net/ipv6/conf/lo/force_forwarding";

/// The names of targets, beside the jobs of each network.
const TARGETS: [(&str, &str); 13] = [
    ("internet", "2600::8"),
    ("metadata", "fd00:ec2::254"),
    ("private", "fd99::9"),
    ("documents", "2001:db8::9"),
    ("nat64", "64:ff9b::808:808"),
    ("6to4", "2002:808:808::8"),
    ("site-local", "fec0::9"),
    ("host", "2600:f::2"),
    ("host-link", "fd6a:6f62:6c65::a9fe:7f01"),
    ("router-link", "fd6a:6f62:6c65::a9fe:7f02"),
    ("wire-end", "fd6a:6f62:6c65::a9fe:8001"),
    ("unused", "fd6a:6f62:6c65::ac14:c8c8"),
    ("beside", "fd6a:6f62:6c65:1::1"),
];

/// tcp, udp, icmp: `y` arrives, `n` is refused at once.
const MATRIX: &str = "
from bridge    to bridge       y y y
from bridge    to isolated     n n n
from bridge    to lab          n n n
from bridge    to inner        n n n
from bridge    to internet     y y y
from bridge    to metadata     n n n
from bridge    to private      n n n
from bridge    to documents    n n n
from bridge    to nat64        n n n
from bridge    to 6to4         n n n
from bridge    to site-local   n n n
from bridge    to host         n n n
from bridge    to host-link    n n n
from bridge    to router-link  n n y
from bridge    to wire-end     n n y
from bridge    to unused       n n n
from bridge    to beside       n n n
from isolated  to bridge       n n n
from isolated  to isolated     n n n
from isolated  to lab          n n n
from isolated  to inner        n n n
from isolated  to internet     y y y
from isolated  to metadata     n n n
from isolated  to private      n n n
from isolated  to documents    n n n
from isolated  to nat64        n n n
from isolated  to 6to4         n n n
from isolated  to site-local   n n n
from isolated  to host         n n n
from isolated  to host-link    n n n
from isolated  to router-link  n n y
from isolated  to wire-end     n n y
from isolated  to unused       n n n
from isolated  to beside       n n n
from lab       to bridge       n n n
from lab       to isolated     n n n
from lab       to lab          y y y
from lab       to inner        n n n
from lab       to internet     y y y
from lab       to metadata     n n n
from lab       to private      n n n
from lab       to documents    n n n
from lab       to nat64        n n n
from lab       to 6to4         n n n
from lab       to site-local   n n n
from lab       to host         n n n
from lab       to host-link    n n n
from lab       to router-link  n n y
from lab       to wire-end     n n y
from lab       to unused       n n n
from lab       to beside       n n n
from inner     to bridge       n n n
from inner     to isolated     n n n
from inner     to lab          n n n
from inner     to inner        y y y
from inner     to internet     n n n
from inner     to metadata     n n n
from inner     to private      n n n
from inner     to documents    n n n
from inner     to nat64        n n n
from inner     to 6to4         n n n
from inner     to site-local   n n n
from inner     to host         n n n
from inner     to host-link    n n n
from inner     to router-link  n n y
from inner     to wire-end     n n y
from inner     to unused       n n n
from inner     to beside       n n n
";

fn ready() -> bool {
    is_root() && has_program("ip") && has_program("nft")
}

fn letters(lab: &Lab, job: &Job, to: impl Into<IpAddr>) -> String {
    job.reach(to, &[&lab.sink]).map(Reach::letter).iter().collect()
}

#[test]
fn every_mode_reaches_by_ipv6_what_the_table_says() {
    needs!(ready(), "needs root, ip(8) and nft(8)");
    needs!(has_ipv6(), "this kernel has no IPv6");
    let mut lab = Lab::with_ipv6();
    let networks = ["bridge", "isolated", "lab", "inner"];
    let first: Vec<_> = networks.iter().map(|network| lab.job(network)).collect();
    let second: Vec<_> = networks.iter().map(|network| lab.job(network)).collect();
    let sinks: Vec<_> = second.iter().map(|job| lab::Sink::open(&job.namespace)).collect();
    let host = lab::Sink::open(&lab.host);
    let mut targets: Vec<(&str, Ipv6Addr, Vec<&lab::Sink>)> = Vec::new();
    for ((name, to), sink) in networks.iter().zip(&second).zip(&sinks) {
        targets.push((name, to.ipv6(), vec![sink]));
    }
    for (name, address) in TARGETS {
        targets.push((name, address.parse().unwrap(), vec![&lab.sink, &host]));
    }
    let mut seen = String::new();
    for (from, network) in first.iter().zip(networks) {
        // A refused one of TCP takes a second: all at once.
        let tcp: Vec<Reach> = std::thread::scope(|scope| {
            let tries: Vec<_> = targets.iter().map(|(_, to, _)| scope.spawn(|| from.tcp(*to))).collect();
            tries.into_iter().map(|one| one.join().unwrap()).collect()
        });
        for ((name, to, sinks), tcp) in targets.iter().zip(tcp) {
            let [udp, icmp] = lab::datagrams(&from.namespace, *to, sinks);
            let [a, b, c] = [tcp, udp, icmp].map(Reach::letter);
            seen += &format!("from {network:<9} to {name:<12} {a} {b} {c}\n");
        }
    }
    let (seen, expected) = (lines(&seen), lines(MATRIX));
    let differ: Vec<_> = seen.iter().zip(&expected).filter(|(a, b)| a != b).collect();
    assert!(differ.is_empty() && seen.len() == expected.len(), "seen, expected: {differ:#?}");
}

#[test]
fn ipv6_of_any_forged_source_goes_nowhere() {
    needs!(ready(), "needs root, ip(8) and nft(8)");
    needs!(has_ipv6(), "this kernel has no IPv6");
    let mut lab = Lab::with_ipv6();
    let (villain, victim, other) = (lab.job("bridge"), lab.job("bridge"), lab.job("lab"));
    let sink = lab::Sink::open(&victim.namespace);
    let mut beside = villain.ipv6().octets();
    beside[7] = 1;
    for source in [
        other.ipv6(),
        image(Ipv4Addr::new(172, 20, 99, 99)),
        image(victim.lease.range.gateway()),
        image(Ipv4Addr::new(169, 254, 127, 1)),
        image(rules::RESOLVER),
        // Another prefix in front of its own address.
        beside.into(),
        INTERNET,
        HOST,
        "fe80::5".parse().unwrap(),
        "fe80::1".parse().unwrap(),
        "fec0::5".parse().unwrap(),
        villain.lease.address.to_ipv6_mapped(),
        "::5".parse().unwrap(),
    ] {
        villain.namespace.try_shell(&format!("ip -6 address add {source}/128 dev eth0 nodad"));
        for to in [victim.ipv6(), INTERNET] {
            let sent = villain.datagram_from(source, to);
            let heard = [&sink, &lab.sink].map(|sink| sink.hears(Duration::from_millis(100)));
            assert_eq!(heard, [false; 2], "{source} to {to}: {sent:?}");
        }
    }
    villain.datagram_from(villain.ipv6(), victim.ipv6()).unwrap();
    assert!(sink.hears(Duration::from_secs(5)), "the honest one arrives");
    // Neighbour discovery and router advertisements are of no use: there is no layer 2.
    villain.namespace.shell("ip link set eth0 address 02:00:00:00:00:99; ip link set eth0 arp on");
    let _ = villain.datagram_from(villain.ipv6(), victim.ipv6());
    let neighbours = lab.in_router("ip -6 neigh show nud reachable; ip -6 neigh show nud stale");
    assert_eq!(lines(&neighbours), Vec::<&str>::new());
}

#[test]
fn outside_and_host_reach_no_job_by_ipv6() {
    needs!(ready(), "needs root, ip(8) and nft(8)");
    needs!(has_ipv6(), "this kernel has no IPv6");
    let mut lab = Lab::with_ipv6();
    let job = lab.job("bridge");
    let sink = lab::Sink::open(&job.namespace);
    lab.outside.shell(&format!("ip -6 route add fd6a:6f62:6c65::/96 via {HOST}"));
    let link = image(Ipv4Addr::new(169, 254, 127, 2));
    lab.host.shell(&format!("ip -6 route add fd6a:6f62:6c65::/96 via {link} dev joblet0"));
    for from in [&lab.host, &lab.outside] {
        let reach = lab::reach(from, job.ipv6(), &[&sink]);
        assert!(!reach.contains(&Reach::Arrives), "{reach:?}");
    }
}

#[test]
fn connections_of_both_families_count_together() {
    needs!(ready(), "needs root, ip(8) and nft(8)");
    needs!(has_ipv6(), "this kernel has no IPv6");
    let mut lab = Lab::with_ipv6();
    let (greedy, other, server) = (lab.job("bridge"), lab.job("bridge"), lab.job("bridge"));
    let sink = lab::Sink::open(&server.namespace);
    let refused = greedy.namespace.run(|| {
        let more = rules::CONNECTIONS + 200;
        let to = |n| if n % 2 == 0 { IpAddr::V4(server.lease.address) } else { server.ipv6().into() };
        let tries = (0..more).map(|n| lab::held_datagram(to(n), &sink)).collect::<Vec<_>>();
        tries.iter().filter(|(_, reach)| reach.letter() == 'n').count()
    });
    assert_eq!(refused, 200);
    assert_eq!(other.reach(server.ipv6(), &[&sink]), [Reach::Arrives; 3]);
}

#[test]
fn listed_job_reaches_by_ipv6_what_its_list_names() {
    needs!(ready(), "needs root, ip(8) and nft(8)");
    needs!(has_ipv6(), "this kernel has no IPv6");
    let mut lab = Lab::with_ipv6();
    let (job, other) = (lab.job("bridge"), lab.job("bridge"));
    let neighbour = lab::Sink::open(&other.namespace);
    let mut sets = sets(&lab);
    let own = job.lease.address;
    sets.begin(own, &list(&["8.8.8.8"])).unwrap();
    assert_eq!(letters(&lab, &job, INTERNET), "nnn", "a list of IPv4 opens nothing of IPv6");
    assert_eq!(job.reach(other.ipv6(), &[&neighbour]), [Reach::Arrives; 3], "its own network stays open");
    assert_eq!(letters(&lab, &other, OUTSIDE), "yyy", "who has no list is as before");
    sets.change(own, &list(&["[2600::8]:8080", "fd00::/8"]), true).unwrap();
    assert_eq!(letters(&lab, &job, INTERNET), "yyn");
    assert_eq!(letters(&lab, &job, OUTSIDE), "nnn");
    let private: Ipv6Addr = "fd99::9".parse().unwrap();
    assert_eq!(letters(&lab, &job, private), "nnn", "a list opens nothing that is closed to jobs");
    sets.change(own, &list(&["2600::/16", "!2600:f::/32", "![2600::8]:8080"]), true).unwrap();
    assert_eq!((letters(&lab, &job, INTERNET), letters(&lab, &job, OUTSIDE)), ("nnn".into(), "nnn".into()));
    sets.change(own, &list(&["example.org"]), true).unwrap();
    pin(&lab, own, INTERNET, libc::IPPROTO_TCP, 0, Duration::from_secs(60));
    pin(&lab, own, private, libc::IPPROTO_TCP, 0, Duration::from_secs(60));
    assert_eq!((letters(&lab, &job, INTERNET), letters(&lab, &job, private)), ("ynn".into(), "nnn".into()));
    let read = denials::read(&mut lab.router.open_filter().unwrap()).unwrap();
    let of = |protocol: i32, to: Ipv6Addr| {
        let target = read.iter().find(|e| e.target.address == to && i32::from(e.target.protocol) == protocol);
        target.map(|entry| (entry.job, entry.target.port))
    };
    assert_eq!(of(libc::IPPROTO_TCP, OUTSIDE), Some((own, PORT)), "{read:?}");
    assert_eq!(of(libc::IPPROTO_ICMPV6, INTERNET), Some((own, 0)), "{read:?}");
    sets.change(own, &list(&["example.org"]), true).unwrap();
    assert_eq!(letters(&lab, &job, INTERNET), "nnn", "the answers of names are forgotten");
    // Nothing of it is left for who has the address next.
    sets.clear(|job| job == own).unwrap();
    assert_eq!(letters(&lab, &job, INTERNET), "yyy");
    let left = lab.in_router("nft list ruleset");
    assert!(!left.contains(&format!("{own} . 2600")), "{left}");
}

#[test]
fn wire_with_ipv6_moves_to_another_network() {
    needs!(ready(), "needs root, ip(8) and nft(8)");
    needs!(has_ipv6(), "this kernel has no IPv6");
    let mut lab = Lab::with_ipv6();
    let (bridged, other) = (lab.job("bridge"), lab.job("lab"));
    let (sink, other_sink) = (lab::Sink::open(&bridged.namespace), lab::Sink::open(&other.namespace));
    let mut job = lab.job("bridge");
    let old = job.ipv6();
    for network in ["lab", "inner", "isolated", "bridge", "lab"] {
        lab.renew(&mut job, network);
        assert!(lab.router.has_image(&job.lease).unwrap());
    }
    assert_eq!(job.reach(other.ipv6(), &[&other_sink]), [Reach::Arrives; 3]);
    assert_eq!(job.reach(bridged.ipv6(), &[&sink]).map(Reach::letter), ['n'; 3]);
    assert_eq!(letters(&lab, &job, INTERNET), "yyy");
    assert!(job.datagram_from(old, INTERNET).is_err());
    let addresses =
        job.namespace.shell("ip -o -6 address show dev eth0 | wc -l; ip -6 route show default | wc -l");
    assert_eq!(lines(&addresses), ["1", "1"]);
    assert!(!lab.in_router("ip -6 route").contains(&old.to_string()));
}

#[test]
fn next_daemon_takes_a_router_with_ipv6() {
    needs!(ready(), "needs root, ip(8) and nft(8)");
    needs!(has_ipv6(), "this kernel has no IPv6");
    let mut lab = Lab::with_ipv6();
    let job = lab.job("bridge");
    let mut config = config();
    config.host = lab.uplink.addresses().unwrap();
    assert!(config.host.contains(&IpAddr::from(HOST)), "{:?}", config.host);
    let taken = lab.router.as_fd().try_clone_to_owned().unwrap();
    lab.router = Router::adopt(taken, config).unwrap();
    assert!(lab.router.has_ipv6());
    lab.host.shell("nft flush ruleset");
    lab.reopen_uplink();
    lab.mend();
    assert_eq!(letters(&lab, &job, INTERNET), "yyy");
    assert_eq!(letters(&lab, &job, HOST), "nnn");
}

#[test]
fn router_gets_ipv6_when_the_host_does() {
    needs!(ready(), "needs root, ip(8) and nft(8)");
    needs!(has_ipv6(), "this kernel has no IPv6");
    let mut lab = Lab::new();
    let before = lab.job("bridge");
    crate::helper::network::add_ipv6((&lab.host, &lab.outside));
    lab.host.shell("echo 1 >/proc/sys/net/ipv6/conf/all/forwarding");
    let Lab { host, router, uplink, .. } = &mut lab;
    host.run(|| router.give_ipv6(uplink).unwrap());
    lab.mend();
    lab.router.follow(lab.uplink.addresses().unwrap(), None).unwrap();
    let job = lab.job("bridge");
    assert_eq!(letters(&lab, &job, INTERNET), "yyy");
    assert_eq!(letters(&lab, &job, HOST), "nnn");
    assert_eq!(letters(&lab, &before, Ipv4Addr::new(8, 8, 8, 8)), "yyy", "the one before goes on");
    assert!(
        before.namespace.run(|| UdpSocket::bind("[::]:0").unwrap().send_to(b"x", (INTERNET, 9))).is_err()
    );
}

#[test]
fn ipv6_is_forwarded_for_joblet_alone() {
    needs!(ready(), "needs root, ip(8) and nft(8)");
    needs!(std::fs::exists(ONE_ALONE).unwrap(), "this kernel has no force_forwarding (6.17)");
    let mut lab = Lab::of(true, |_| {});
    let job = lab.job("bridge");
    assert_eq!(letters(&lab, &job, INTERNET), "yyy");
    let read = |lab: &Lab, name: &str| {
        lab.host.shell(&format!("cat /proc/sys/net/ipv6/conf/{name}")).trim().to_owned()
    };
    assert_eq!(read(&lab, "all/forwarding"), "0");
    assert_eq!(["joblet0", "up0"].map(|name| read(&lab, &format!("{name}/force_forwarding"))), ["1", "1"]);
    let rules = lab.host.shell("nft list chain inet joblet forward6");
    assert!(
        rules.contains("meta nfproto ipv6 iifname \"up0\" oifname != \"joblet0\" ct state new"),
        "{rules}"
    );
    lab.host.shell("echo 0 >/proc/sys/net/ipv6/conf/up0/force_forwarding");
    assert!(lab.keep() && !lab.keep());
    // The next daemon knows by the guard that this was not the administrator's.
    lab.reopen_uplink();
    lab.mend();
    assert_eq!(letters(&lab, &job, INTERNET), "yyy");
    // Packets from the outside pass to nobody else.
    lab.host.shell("ip link add other0 type bridge; ip link set other0 up; ip -6 address add 2600:e::1/64 dev other0 nodad");
    lab.outside.shell(&format!("ip -6 route add 2600:e::/64 via {HOST}"));
    lab.outside.try_shell("bash -c 'echo x >/dev/udp/2600:e::9/9'");
    let dropped = lab.host.shell("nft list chain inet joblet forward6");
    assert!(dropped.contains("up0"), "{dropped}");
    drop(job);
    lab.end();
    assert_eq!(read(&lab, "up0/force_forwarding"), "0");
    assert_eq!(lab.host.shell("nft list ruleset").trim(), "");
}

#[test]
fn ipv6_forwarding_of_the_administrator_is_left_alone() {
    needs!(ready(), "needs root, ip(8) and nft(8)");
    needs!(has_ipv6(), "this kernel has no IPv6");
    let mut lab = Lab::with_ipv6();
    assert!(!lab.host.shell("nft list chain inet joblet forward6").contains("up0"), "no guard");
    // As docker writes it for IPv6.
    lab.host.shell(
        "nft add table ip6 filter; nft 'add chain ip6 filter FORWARD { type filter hook forward priority 0; policy drop; }';
         nft add chain ip6 filter DOCKER-USER; nft add rule ip6 filter FORWARD counter jump DOCKER-USER;
         nft add rule ip6 filter DOCKER-USER counter return",
    );
    let job = lab.job("bridge");
    assert_ne!(job.tcp(INTERNET), Reach::Arrives);
    assert!(lab.keep() && !lab.keep());
    assert_eq!(letters(&lab, &job, INTERNET), "yyy");
    drop(job);
    lab.end();
    let left = lab.host.shell("cat /proc/sys/net/ipv6/conf/all/forwarding; nft list ruleset");
    assert!(left.starts_with("1\n") && !left.contains("joblet"), "{left}");
}
