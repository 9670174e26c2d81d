//! The walls between networks, in namespaces of the test's own: one plays the host, one the outside, each job is one.
//!
//! A job here is root in its namespace and has no seccomp filter: these walls must hold against that too.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use joblet::network::router::{Router, probe};
use joblet::network::{NetworkError, Range, rules, uplink::Uplink};

use crate::helper::network::{Namespace, has_program, lines};
use crate::helper::skip::is_root;
use crate::helper::wait::{eventually, holds};
use crate::lab::{self, Lab, Reach, config};

/// The names of targets, beside the jobs of each network.
const TARGETS: [(&str, [u8; 4]); 12] = [
    ("internet", [8, 8, 8, 8]),
    ("metadata", [169, 254, 169, 254]),
    ("azure", [168, 63, 129, 16]),
    ("private", [10, 9, 9, 9]),
    ("opened", [10, 1, 1, 1]),
    ("cgnat", [100, 64, 0, 1]),
    ("host", [203, 0, 113, 2]),
    ("host-link", [169, 254, 127, 1]),
    ("router-link", [169, 254, 127, 2]),
    ("wire-end", [169, 254, 128, 1]),
    ("unused", [172, 20, 200, 200]),
    ("broadcast", [172, 20, 255, 255]),
];

/// tcp, udp, icmp: `y` arrives, `n` is refused at once, `s` is refused by the sender's own kernel.
const MATRIX: &str = "
from bridge    to bridge       y y y
from bridge    to isolated     n n n
from bridge    to lab          n n n
from bridge    to inner        n n n
from bridge    to internet     y y y
from bridge    to metadata     n n n
from bridge    to azure        n n n
from bridge    to private      n n n
from bridge    to opened       y y y
from bridge    to cgnat        n n n
from bridge    to host         n n n
from bridge    to host-link    n n n
from bridge    to router-link  n n y
from bridge    to wire-end     n n y
from bridge    to unused       n n n
from bridge    to broadcast    s s s
from bridge    to gateway      n n y
from isolated  to bridge       n n n
from isolated  to isolated     n n n
from isolated  to lab          n n n
from isolated  to inner        n n n
from isolated  to internet     y y y
from isolated  to metadata     n n n
from isolated  to azure        n n n
from isolated  to private      n n n
from isolated  to opened       y y y
from isolated  to cgnat        n n n
from isolated  to host         n n n
from isolated  to host-link    n n n
from isolated  to router-link  n n y
from isolated  to wire-end     n n y
from isolated  to unused       n n n
from isolated  to broadcast    n n n
from isolated  to gateway      n n y
from lab       to bridge       n n n
from lab       to isolated     n n n
from lab       to lab          y y y
from lab       to inner        n n n
from lab       to internet     y y y
from lab       to metadata     n n n
from lab       to azure        n n n
from lab       to private      n n n
from lab       to opened       y y y
from lab       to cgnat        n n n
from lab       to host         n n n
from lab       to host-link    n n n
from lab       to router-link  n n y
from lab       to wire-end     n n y
from lab       to unused       n n n
from lab       to broadcast    n n n
from lab       to gateway      n n y
from inner     to bridge       n n n
from inner     to isolated     n n n
from inner     to lab          n n n
from inner     to inner        y y y
from inner     to internet     n n n
from inner     to metadata     n n n
from inner     to azure        n n n
from inner     to private      n n n
from inner     to opened       n n n
from inner     to cgnat        n n n
from inner     to host         n n n
from inner     to host-link    n n n
from inner     to router-link  n n y
from inner     to wire-end     n n y
from inner     to unused       n n n
from inner     to broadcast    n n n
from inner     to gateway      n n y
";

#[test]
fn every_mode_reaches_what_the_table_says_and_nothing_else() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let mut lab = Lab::new();
    let networks = ["bridge", "isolated", "lab", "inner"];
    let first: Vec<_> = networks.iter().map(|network| lab.job(network)).collect();
    let second: Vec<_> = networks.iter().map(|network| lab.job(network)).collect();
    let sinks: Vec<_> = second.iter().map(|job| lab::Sink::open(&job.namespace)).collect();
    let host = lab::Sink::open(&lab.host);
    let outside = &lab.sink;
    let mut seen = String::new();
    for (from, network) in first.iter().zip(networks) {
        let mut row = |name: &str, to: Ipv4Addr, sinks: &[&lab::Sink]| {
            let reach = from.reach(to, sinks);
            let letters = reach.map(Reach::letter);
            seen +=
                &format!("from {network:<9} to {name:<12} {} {} {}\n", letters[0], letters[1], letters[2]);
        };
        for ((name, to), sink) in networks.iter().zip(&second).zip(&sinks) {
            row(name, to.lease.address, &[sink]);
        }
        for (name, address) in TARGETS {
            row(name, address.into(), &[outside, &host]);
        }
        row("gateway", from.lease.range.gateway(), &[outside, &host]);
    }
    let (seen, expected) = (lines(&seen), lines(MATRIX));
    let differ: Vec<_> = seen.iter().zip(&expected).filter(|(a, b)| a != b).collect();
    assert!(differ.is_empty() && seen.len() == expected.len(), "seen, expected: {differ:#?}");
}

#[test]
fn outside_and_host_reach_no_job() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let mut lab = Lab::new();
    let job = lab.job("bridge");
    let sink = lab::Sink::open(&job.namespace);
    lab.outside.shell("ip route add 172.20.0.0/16 via 203.0.113.2");
    let reach = lab::reach(&lab.outside, job.lease.address, &[&sink]);
    assert!(!reach.contains(&Reach::Arrives), "{reach:?}");
    lab.host.shell("ip route add 172.20.0.0/16 via 169.254.127.2 dev joblet0");
    for from in [&lab.host, &lab.outside] {
        let reach = lab::reach(from, job.lease.address, &[&sink]);
        assert!(!reach.contains(&Reach::Arrives), "{reach:?}");
    }
}

#[test]
fn forged_sources_go_nowhere_even_from_root_of_the_namespace() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let mut lab = Lab::new();
    let (villain, victim) = (lab.job("bridge"), lab.job("bridge"));
    let sink = lab::Sink::open(&victim.namespace);
    let other = lab.job("lab");
    let forged = [
        victim.lease.range.gateway(),
        other.lease.address,
        Ipv4Addr::new(8, 8, 8, 8),
        Ipv4Addr::new(172, 20, 99, 99),
        Ipv4Addr::new(169, 254, 127, 1),
        Ipv4Addr::new(169, 254, 1, 53),
    ];
    for source in forged {
        villain.namespace.shell(&format!("ip address add {source}/32 dev eth0"));
        let sent = villain.datagram_from(source, victim.lease.address);
        assert!(!sink.hears(Duration::from_millis(200)), "{source}: {sent:?}");
    }
    villain.datagram_from(villain.lease.address, victim.lease.address).unwrap();
    assert!(sink.hears(Duration::from_secs(5)), "the honest one arrives");
    // Another MAC and a question for the gateway's are of no use: there is no layer 2.
    villain.namespace.shell("ip link set eth0 address 02:00:00:00:00:99; ip link set eth0 arp on");
    let _ = villain.datagram_from(villain.lease.address, victim.lease.address);
    let neighbours = lab.in_router("ip neigh show nud reachable; ip neigh show nud stale");
    assert_eq!(lines(&neighbours), Vec::<&str>::new());
}

#[test]
fn ipv6_of_any_source_goes_nowhere_where_the_host_has_none() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    needs!(std::fs::exists("/proc/sys/net/ipv6").unwrap(), "this kernel has no IPv6");
    let mut lab = Lab::new();
    let (villain, victim) = (lab.job("bridge"), lab.job("bridge"));
    victim.namespace.shell("ip -6 address add fd00::2/64 dev eth0 nodad");
    villain.namespace.shell("ip -6 address add fd00::1/64 dev eth0 nodad");
    let heard = victim.namespace.run(|| std::net::UdpSocket::bind("[::]:9000").unwrap());
    heard.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    villain.namespace.run(|| {
        let socket = std::net::UdpSocket::bind("[fd00::1]:0").unwrap();
        socket.send_to(b"x", "[fd00::2]:9000").unwrap();
    });
    assert!(heard.recv_from(&mut [0; 8]).is_err());
}

#[test]
fn one_job_cannot_take_the_connections_of_others() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let mut lab = Lab::new();
    let (greedy, other, server) = (lab.job("bridge"), lab.job("bridge"), lab.job("bridge"));
    let sink = lab::Sink::open(&server.namespace);
    let refused = greedy.namespace.run(|| {
        // One after the other: a burst would be lost in the queue between interfaces.
        let more = rules::CONNECTIONS + 200;
        let tries = (0..more).map(|_| lab::held_datagram(server.lease.address, &sink)).collect::<Vec<_>>();
        tries.iter().filter(|(_, reach)| *reach == Reach::Refused(libc::EHOSTUNREACH)).count()
    });
    assert_eq!(refused, 200);
    assert!(other.reach(server.lease.address, &[&sink]).iter().all(|reach| *reach == Reach::Arrives));
}

#[test]
fn denials_are_counted_and_answered_at_once() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let mut lab = Lab::new();
    let (job, noisy) = (lab.job("bridge"), lab.job("bridge"));
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(job.tcp(Ipv4Addr::new(10, 9, 9, 9)), Reach::Refused(libc::EHOSTUNREACH));
    }
    // The kernel's limit of ICMP would let one answer a second through.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    noisy.namespace.run(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        for n in 0..20_000u32 {
            let _ = socket.send_to(b"x", (Ipv4Addr::from(0x0a00_0000 + n), 9));
        }
    });
    let denials = lab.denials();
    let of = |job: &lab::Job| denials.iter().filter(|e| e.key[..4] == job.lease.address.octets()).count();
    assert_eq!(of(&job), 1, "{denials:?}");
    assert!((10..200).contains(&of(&noisy)), "{}", of(&noisy));
    let entry = denials.iter().find(|e| e.key[..4] == job.lease.address.octets()).unwrap();
    // A packet that was lost in a flood of another test was sent again.
    assert!(entry.packets.is_some_and(|packets| (20..40).contains(&packets)), "{entry:?}");
    assert_eq!(entry.key[4..8], [10, 9, 9, 9]);
    assert_eq!((entry.key[8], &entry.key[12..14]), (6, &lab::PORT.to_be_bytes()[..]));
}

#[test]
fn walls_stand_when_the_host_flushes_its_rules() {
    needs!(is_root() && has_program("nft"), "needs root, ip(8) and nft(8)");
    let mut lab = Lab::new();
    let (job, other) = (lab.job("bridge"), lab.job("lab"));
    let sink = lab::Sink::open(&other.namespace);
    let internet = Ipv4Addr::new(8, 8, 8, 8);
    assert_eq!(job.tcp(internet), Reach::Arrives);
    lab.host.shell("nft flush ruleset");
    assert!(!job.reach(other.lease.address, &[&sink]).contains(&Reach::Arrives));
    // A datagram still leaves, with a source that no answer finds.
    let [tcp, _, icmp] = job.reach(internet, &[&lab.sink]);
    assert_eq!((tcp, icmp), (Reach::Silent, Reach::Silent));
    let host = lab::Sink::open(&lab.host);
    assert!(!job.reach(Ipv4Addr::new(203, 0, 113, 2), &[&host]).contains(&Reach::Arrives));
    lab.mend();
    assert_eq!(job.tcp(internet), Reach::Arrives);
    // As docker writes it, by iptables-nft.
    lab.host.shell(
        "nft add table ip filter; nft 'add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }';
         nft add chain ip filter DOCKER-USER; nft add rule ip filter FORWARD counter jump DOCKER-USER;
         nft add rule ip filter DOCKER-USER counter return",
    );
    assert_ne!(job.tcp(internet), Reach::Arrives);
    assert!(lab.keep());
    assert!(!lab.keep(), "nothing is missing now");
    assert_eq!(job.tcp(internet), Reach::Arrives);
    let chain = lab.host.shell("nft list chain ip filter DOCKER-USER");
    assert_eq!(chain.matches("joblet0").count(), 2, "{chain}");
    lab.end();
    assert!(!lab.host.shell("nft list ruleset").contains("joblet"), "docker's chains are as before");
}

#[test]
fn forwarding_is_for_joblet_alone_where_the_host_has_none() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let mut lab = Lab::new();
    let job = lab.job("bridge");
    assert_eq!(job.tcp(Ipv4Addr::new(8, 8, 8, 8)), Reach::Arrives);
    let read = |name: &str| lab.host.shell(&format!("cat /proc/sys/net/ipv4/{name}"));
    assert_eq!(read("ip_forward").trim(), "0");
    assert_eq!((read("conf/joblet0/forwarding").trim(), read("conf/up0/forwarding").trim()), ("1", "1"));
    let before = lab.host.shell("nft list ruleset");
    assert!(before.contains("iifname \"up0\" oifname != \"joblet0\" ct state new"), "{before}");
    lab.host.shell("echo 0 >/proc/sys/net/ipv4/conf/up0/forwarding");
    assert!(lab.keep() && !lab.keep());
    // The next daemon knows by the guard that this was not the administrator's.
    lab.reopen_uplink();
    lab.mend();
    assert_eq!(job.tcp(Ipv4Addr::new(8, 8, 8, 8)), Reach::Arrives);
    drop(job);
    lab.end();
    let read = |name: &str| lab.host.shell(&format!("cat /proc/sys/net/ipv4/{name}"));
    assert_eq!(read("conf/up0/forwarding").trim(), "0");
    assert_eq!(lab.host.shell("nft list ruleset").trim(), "");
    eventually("joblet0 is gone", || holds(!lab.host.try_shell("ip link show joblet0").status.success()));
}

#[test]
fn forwarding_of_the_administrator_is_left_alone() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let mut lab = Lab::with(|host| {
        host.shell("echo 1 >/proc/sys/net/ipv4/conf/up0/forwarding");
    });
    let job = lab.job("bridge");
    assert_eq!(job.tcp(Ipv4Addr::new(8, 8, 8, 8)), Reach::Arrives);
    assert!(!lab.host.shell("nft list ruleset").contains("up0"), "no guard");
    drop(job);
    lab.end();
    assert_eq!(lab.host.shell("cat /proc/sys/net/ipv4/conf/up0/forwarding").trim(), "1");
}

#[test]
fn next_daemon_takes_the_router_with_its_wires() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let mut lab = Lab::new();
    let job = lab.job("bridge");
    let taken = lab.router.as_fd().try_clone_to_owned().unwrap();
    let rules_before = lab.in_router("nft list ruleset | grep -v 'packets\\|ct count'");
    let mut config = config();
    config.host = lab.uplink.addresses().unwrap();
    let extra = "10.77.0.0/16".parse::<Range>().unwrap();
    config.networks.push(lab::network("extra", extra, true, false));
    lab.router = Router::adopt(taken, config.clone()).unwrap();
    let wires = lab.router.wires().unwrap();
    assert_eq!(wires.iter().map(|w| (w.wire, w.address)).collect::<Vec<_>>(), [(1, job.lease.address)]);
    assert_eq!(job.tcp(Ipv4Addr::new(8, 8, 8, 8)), Reach::Arrives);
    assert!(lab.in_router("ip address show dev joblet-extra").contains("inet 10.77.0.1/32"));
    lab.router.remove("extra").unwrap();
    assert!(!lab.in_router("ip link").contains("joblet-extra"));
    assert_eq!(lab.in_router("nft list ruleset | grep -v 'packets\\|ct count'"), rules_before);
    // Rules of another version are replaced whole.
    lab.in_router("nft flush chain inet joblet forward; nft delete set inet joblet rules3");
    let taken = lab.router.as_fd().try_clone_to_owned().unwrap();
    config.networks.retain(|network| network.name != "extra");
    lab.router = Router::adopt(taken, config).unwrap();
    assert_eq!(lab.in_router("nft list ruleset | grep -v 'packets\\|ct count'"), rules_before);
}

#[test]
fn wire_of_a_warm_sandbox_moves_to_another_network() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let mut lab = Lab::new();
    let (bridged, other) = (lab.job("bridge"), lab.job("lab"));
    let (sink, other_sink) = (lab::Sink::open(&bridged.namespace), lab::Sink::open(&other.namespace));
    let mut job = lab.job("bridge");
    let old = job.lease.address;
    for network in ["lab", "inner", "isolated", "bridge", "lab"] {
        lab.renew(&mut job, network);
        assert!(job.namespace.shell("ip address show dev eth0").contains(&job.lease.address.to_string()));
    }
    let own = lab::Sink::open(&job.namespace);
    assert_eq!(job.reach(other.lease.address, &[&other_sink]), [Reach::Arrives; 3]);
    assert_eq!(other.reach(job.lease.address, &[&own]), [Reach::Arrives; 3]);
    assert_eq!(job.reach(bridged.lease.address, &[&sink]).map(Reach::letter), ['n'; 3]);
    assert_eq!(job.tcp(Ipv4Addr::new(8, 8, 8, 8)), Reach::Arrives);
    // Nothing is left of what it had: not for itself, and not for who has the address next.
    assert!(job.datagram_from(old, Ipv4Addr::new(8, 8, 8, 8)).is_err());
    let addresses = job.namespace.shell("ip -o -4 address show dev eth0; ip route");
    assert!(!addresses.contains("172.2"), "{addresses}");
    assert_eq!(lab.router.wires().unwrap().iter().filter(|wire| wire.wire == job.lease.wire).count(), 1);
}

#[test]
fn next_daemon_takes_out_what_is_no_network_any_more() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let mut lab = Lab::new();
    let job = lab.job("bridge");
    let list = "ip -o link | cut -d: -f2; ip route; nft list ruleset | grep -v 'packets\\|ct count'";
    let before = lab.in_router(list);
    // Killed between the database and the router: one is gone, one has another range.
    let range = |text: &str| text.parse::<Range>().unwrap();
    lab.router.add(lab::network("gone", range("10.77.0.0/16"), true, false)).unwrap();
    lab.router.add(lab::network("moved", range("10.78.0.0/16"), true, false)).unwrap();
    let mut config = config();
    config.host = lab.uplink.addresses().unwrap();
    config.networks.push(lab::network("moved", range("10.78.0.0/24"), true, true));
    let taken = lab.router.as_fd().try_clone_to_owned().unwrap();
    lab.router = Router::adopt(taken, config).unwrap();
    assert!(!lab.in_router("ip link").contains("joblet-gone"));
    let routes = lab.in_router("ip route");
    assert!(routes.contains("10.78.0.0/24") && !routes.contains("10.78.0.0/16"), "{routes}");
    assert_eq!(job.tcp(Ipv4Addr::new(8, 8, 8, 8)), Reach::Arrives);
    lab.router.remove("moved").unwrap();
    assert_eq!(lab.in_router(list), before);
}

#[test]
fn foreign_interface_of_our_name_is_left_alone() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let host = Namespace::new();
    host.shell("ip link add joblet0 type bridge");
    let (mut router, mut uplink) = host.run(|| (Router::make(config()).unwrap(), Uplink::open().unwrap()));
    let why = router.connect(&mut uplink).unwrap_err();
    assert!(matches!(why, NetworkError::Taken("joblet0")), "{why}");
    assert!(host.shell("ip -details link show joblet0").contains(" bridge "));
}

#[test]
fn questions_go_to_the_name_server_and_a_flood_of_them_does_not() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let mut lab = Lab::new();
    let (job, inner) = (lab.job("bridge"), lab.job("inner"));
    let server = lab.outside.run(|| std::net::UdpSocket::bind("10.9.9.9:53").unwrap());
    server.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let ask = |job: &lab::Job, times: u32| {
        job.namespace.run(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect((rules::RESOLVER, 53)).unwrap();
            (0..times).filter(|_| socket.send(b"question").is_ok()).count()
        });
        let mut heard = 0;
        while server.recv_from(&mut [0; 64]).is_ok() {
            heard += 1;
        }
        heard
    };
    assert_eq!(ask(&job, 1), 0, "no name server is known");
    lab.router.follow(lab.uplink.addresses().unwrap(), Some(Ipv4Addr::new(10, 9, 9, 9))).unwrap();
    assert_eq!(ask(&job, 1), 1, "although its address is private");
    assert_eq!(ask(&inner, 1), 0, "an inner network asks nobody outside");
    let heard = ask(&job, 5000);
    assert!((1..1500).contains(&heard), "{heard} of 5000");
}

#[test]
fn networks_come_and_go_beside_traffic_and_leave_nothing() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let mut lab = Lab::new();
    let job = lab.job("bridge");
    let before =
        lab.in_router("ip route; ip -o link | cut -d: -f2; nft list ruleset | grep -v 'packets\\|ct count'");
    let range = |text: &str| text.parse::<Range>().unwrap();
    for n in 0..crate::helper::soak::rounds(20, 1000) {
        lab.router.add(lab::network("passing", range("10.88.0.0/16"), true, n % 2 == 0)).unwrap();
        lab.router.add(lab::network("another", range("10.89.0.0/24"), true, n % 3 == 0)).unwrap();
        assert_eq!(job.tcp(Ipv4Addr::new(8, 8, 8, 8)), Reach::Arrives);
        lab.router.remove("passing").unwrap();
        lab.router.remove("another").unwrap();
    }
    let after =
        lab.in_router("ip route; ip -o link | cut -d: -f2; nft list ruleset | grep -v 'packets\\|ct count'");
    assert_eq!(after, before);
}

#[test]
fn whole_table_fits_this_kernel() {
    needs!(is_root(), "needs root");
    probe().unwrap();
}
