//! Egress lists in the router: what they open, how they change, and that nothing of them is left.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::time::Duration;

use joblet::network::egress::List;
use joblet::network::router::Router;
use joblet::network::{EgressSets, denials, rules};
use joblet::sys::nftables::set::Element;
use joblet::sys::nftables::{Transaction, elements};

use crate::helper::network::has_program;
use crate::helper::skip::is_root;
use crate::helper::wait::{eventually, holds};
use crate::lab::{self, Lab, Reach, config};

const INTERNET: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
const OPENED: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 1);
const PRIVATE: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);

pub fn list(texts: &[&str]) -> List {
    List::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap()
}

pub fn sets(lab: &Lab) -> EgressSets {
    EgressSets::new(lab.router.open_filter().unwrap())
}

/// Has a job reach an address at a port for a while, as the answer of a name does; port 0: all ports.
pub fn pin(lab: &Lab, job: Ipv4Addr, to: impl Into<IpAddr>, protocol: i32, port: u16, time: Duration) {
    let (set, to) = match to.into() {
        IpAddr::V4(to) => (&rules::EGRESS, to.octets().to_vec()),
        IpAddr::V6(to) => (&rules::EGRESS6, to.octets().to_vec()),
    };
    let key = [&job.octets()[..], &to, &[protocol as u8, 0, 0, 0], &port.to_be_bytes(), &[0, 0]];
    let mut t = Transaction::default();
    t.add_elements(rules::TABLE, set, &[Element::key(&key.concat()).lasting(time)]);
    t.commit(&mut lab.router.open_filter().unwrap()).unwrap();
}

fn reach(lab: &Lab, job: &lab::Job, to: Ipv4Addr) -> String {
    job.reach(to, &[&lab.sink]).map(Reach::letter).iter().collect()
}

#[test]
fn list_opens_ranges_and_ports_of_tcp_and_udp_and_nothing_else() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let mut lab = Lab::new();
    let (job, other) = (lab.job("bridge"), lab.job("bridge"));
    let neighbour = lab::Sink::open(&other.namespace);
    let mut sets = sets(&lab);
    let own = job.lease.address;
    sets.begin(own, &list(&["8.8.8.8:8080", "10.0.0.0/8"])).unwrap();
    assert!(sets.is_listed(own).unwrap() && !sets.is_listed(other.lease.address).unwrap());
    assert_eq!(reach(&lab, &job, INTERNET), "yyn");
    assert_eq!(reach(&lab, &job, OPENED), "yyn");
    assert_eq!(reach(&lab, &job, PRIVATE), "nnn", "a list opens nothing that is closed to jobs");
    assert_eq!(reach(&lab, &job, Ipv4Addr::new(203, 0, 113, 1)), "nnn");
    let within = job.reach(other.lease.address, &[&neighbour]);
    assert_eq!(within, [Reach::Arrives; 3], "its own network stays open");
    assert_eq!(reach(&lab, &other, Ipv4Addr::new(203, 0, 113, 1)), "yyy", "who has no list is as before");
    sets.change(own, &list(&["8.8.8.8:8081", "10.0.0.0/8", "!10.1.0.0/16"]), true).unwrap();
    assert_eq!((reach(&lab, &job, INTERNET), reach(&lab, &job, OPENED)), ("nnn".into(), "nnn".into()));
    sets.change(own, &list(&["10.1.1.1", "0.0.0.0/0:8080", "!8.8.8.8:53"]), true).unwrap();
    assert_eq!((reach(&lab, &job, INTERNET), reach(&lab, &job, OPENED)), ("yyn".into(), "yyn".into()));
    sets.clear(|job| job == own).unwrap();
    assert_eq!(reach(&lab, &job, INTERNET), "yyy");
}

#[test]
fn address_of_a_name_is_reached_for_its_time_and_denial_wins() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let mut lab = Lab::new();
    let (job, other) = (lab.job("bridge"), lab.job("isolated"));
    let mut sets = sets(&lab);
    let own = job.lease.address;
    sets.begin(own, &list(&["example.org"])).unwrap();
    sets.begin(other.lease.address, &list(&["example.org"])).unwrap();
    assert_eq!(reach(&lab, &job, INTERNET), "nnn");
    pin(&lab, own, INTERNET, libc::IPPROTO_TCP, 0, Duration::from_secs(60));
    assert_eq!(reach(&lab, &job, INTERNET), "ynn");
    pin(&lab, own, INTERNET, libc::IPPROTO_UDP, lab::PORT, Duration::from_secs(60));
    assert_eq!(reach(&lab, &job, INTERNET), "yyn");
    assert_eq!(reach(&lab, &other, INTERNET), "nnn", "an answer is for the job that asked");
    pin(&lab, own, PRIVATE, libc::IPPROTO_TCP, 0, Duration::from_secs(60));
    assert_eq!(reach(&lab, &job, PRIVATE), "nnn", "a name leads to no address that is closed to jobs");
    sets.change(own, &list(&["example.org", "!8.8.8.8"]), false).unwrap();
    assert_eq!(reach(&lab, &job, INTERNET), "nnn");
    sets.change(own, &list(&["example.org"]), true).unwrap();
    assert_eq!(reach(&lab, &job, INTERNET), "nnn", "the answers of names are forgotten");
    pin(&lab, own, INTERNET, libc::IPPROTO_TCP, lab::PORT, Duration::from_millis(700));
    eventually("the answer is too old", || holds(job.tcp(INTERNET) == Reach::Refused(libc::EHOSTUNREACH)));
}

#[test]
fn questions_of_a_listed_job_go_to_no_name_server() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let mut lab = Lab::new();
    let (listed, free) = (lab.job("bridge"), lab.job("bridge"));
    sets(&lab).begin(listed.lease.address, &list(&["example.org"])).unwrap();
    lab.router.follow(lab.uplink.addresses().unwrap(), Some(PRIVATE)).unwrap();
    let server = lab.outside.run(|| std::net::UdpSocket::bind("10.9.9.9:53").unwrap());
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let ask = |job: &lab::Job, text: &[u8]| {
        job.namespace.run(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect((rules::RESOLVER, 53)).unwrap();
            socket.send(text).unwrap();
        });
    };
    ask(&listed, b"listed");
    ask(&free, b"free");
    let mut text = [0; 16];
    let (length, _) = server.recv_from(&mut text).unwrap();
    assert_eq!(&text[..length], b"free", "the one before went nowhere");
}

#[test]
fn lists_survive_new_rules_and_go_with_their_jobs() {
    needs!(is_root() && has_program("nft"), "needs root, ip(8) and nft(8)");
    let mut lab = Lab::new();
    let (job, gone) = (lab.job("bridge"), lab.job("bridge"));
    let mut sets = sets(&lab);
    for job in [&job, &gone] {
        sets.begin(job.lease.address, &list(&["8.8.8.8:8080", "!10.0.0.0/8"])).unwrap();
        pin(&lab, job.lease.address, OPENED, libc::IPPROTO_TCP, 0, Duration::from_secs(60));
        assert_eq!(reach(&lab, job, PRIVATE), "nnn");
    }
    lab.in_router("nft delete set inet joblet rules3");
    let taken = lab.router.as_fd().try_clone_to_owned().unwrap();
    let mut config = config();
    config.host = lab.uplink.addresses().unwrap();
    lab.router = Router::adopt(taken, config).unwrap();
    assert_eq!((reach(&lab, &job, INTERNET), reach(&lab, &job, OPENED)), ("yyn".into(), "nnn".into()));
    assert_eq!(reach(&lab, &job, Ipv4Addr::new(203, 0, 113, 1)), "nnn");
    let mut filter = lab.router.open_filter().unwrap();
    let pins = elements(&mut filter, rules::TABLE, &rules::EGRESS).unwrap();
    assert!(pins.len() == 2 && pins.iter().all(|pin| pin.remaining.is_some()), "{pins:?}");
    sets.clear(|address| address == gone.lease.address).unwrap();
    let left = lab.in_router(
        "for set in listed egress egress_nets egress_denied denials; do nft list set inet joblet $set; done",
    );
    let whose = |job: &lab::Job| left.matches(&format!("{} ", job.lease.address)).count();
    assert_eq!(whose(&gone), 0, "{left}");
    assert!(whose(&job) >= 4, "{left}");
    let denied = denials::read(&mut filter).unwrap();
    assert!(denied.iter().all(|entry| entry.job == job.lease.address), "{denied:?}");
    let of = |protocol: i32| {
        denied
            .iter()
            .find(|entry| entry.target.address == OPENED && i32::from(entry.target.protocol) == protocol)
    };
    assert_eq!(of(libc::IPPROTO_TCP).map(|entry| entry.target.port), Some(lab::PORT), "{denied:?}");
    assert_eq!(of(libc::IPPROTO_ICMP).map(|entry| entry.target.port), Some(0), "{denied:?}");
    assert!(
        denied.iter().all(|entry| entry.packets > 0 && entry.age < Duration::from_secs(120)),
        "{denied:?}"
    );
}
