//! Wires without a daemon: made beside none and beside 900, taken apart a thousand at once, and made by ip(8).

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use joblet::job::NetRate;
use joblet::network::router::{Definition, Router};
use joblet::network::{Leases, RouterConfig, rules, wire};
use joblet::sys::netlink::link::Born;
use joblet::sys::netlink::{Family, Socket};
use joblet::sys::nftables::Transaction;
use joblet::sys::nftables::set::Element;
use joblet::sys::thread::unshare_network;
use rustix::event::{Timespec, poll};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::figures::{Values, at_least, at_most, head, row};
use crate::helper::network::Namespace;

/// Wires that live beside the measured ones.
const CROWD: usize = 900;
/// Wires that end at once.
const ENDING: usize = 1000;

/// A router and what makes wires of it.
struct Lab {
    router: Router,
    links: Socket,
    leases: Leases,
    made: usize,
}

impl Lab {
    fn new() -> Lab {
        let range = "172.20.0.0/16".parse().unwrap();
        let network = Definition { name: "bridge".to_owned(), range, together: true, inner: false };
        let router =
            Router::make(RouterConfig { networks: vec![network], ..RouterConfig::default() }).unwrap();
        let mut leases = Leases::default();
        leases.add("bridge", range).unwrap();
        let links = router.open_links().unwrap();
        Lab { router, links, leases, made: 0 }
    }

    /// Makes a wire into a namespace, and returns the microseconds that its messages took.
    fn wire(&mut self, job: &Namespace) -> f64 {
        let lease = self.leases.lease("bridge").unwrap();
        let mut inside = job.run(|| Socket::open(Family::Route).unwrap());
        self.made += 1;
        let name = format!("job-{}", self.made);
        let begin = Instant::now();
        let mut wire = wire::wire(&name, &lease, Born::Namespace(job.as_fd()), 1500, NetRate::default());
        self.links.talk(&mut wire.router).unwrap();
        inside.talk(&mut wire.inside).unwrap();
        begin.elapsed().as_secs_f64() * 1e6
    }
}

/// Microseconds of a new network namespace.
fn cold() -> f64 {
    let thread = std::thread::spawn(|| {
        let begin = Instant::now();
        unshare_network().unwrap();
        begin.elapsed().as_secs_f64() * 1e6
    });
    thread.join().unwrap()
}

pub fn measure(rounds: usize) {
    raise_descriptors();
    let mut lab = Lab::new();
    let (mut alone, mut namespaces) = (Values::default(), Values::default());
    let mut by_ip = Values::default();
    for n in 0..rounds {
        namespaces.add(cold());
        alone.add(lab.wire(&Namespace::new()));
        // One takes so long that few say enough.
        if n % 4 == 0 {
            by_ip.add(by_hand(n));
        }
    }
    let crowd: Vec<Namespace> = (0..CROWD).map(|_| Namespace::new()).collect();
    for job in &crowd {
        lab.wire(job);
    }
    let (mut beside, mut namespaces_beside) = (Values::default(), Values::default());
    for _ in 0..rounds {
        namespaces_beside.add(cold());
        beside.add(lab.wire(&Namespace::new()));
    }
    head("wires and namespaces", "us");
    row("a network namespace", &namespaces);
    row("a wire", &alone);
    row(&format!("a network namespace beside {CROWD} wires"), &namespaces_beside);
    row(&format!("a wire beside {CROWD}"), &beside);
    row("a wire by eight ip commands", &by_ip);
    at_most("a wire, to a cold network namespace", alone.p50() / namespaces.p50(), 1.1);
    at_most("a wire at 900 live ones, to a wire at none", beside.p50() / alone.p50(), 1.2);
    at_least("eight ip commands to joblet's wire", by_ip.p50() / alone.p50(), 50.0);
    elements(&lab, rounds);
    end(lab, crowd, &alone);
}

/// The time of an element of a listed name.
fn elements(lab: &Lab, rounds: usize) {
    let mut socket = lab.router.open_filter().unwrap();
    let mut taken = Values::default();
    for n in 0..rounds * 4 {
        let target = Ipv4Addr::from(0x0800_0000 + n as u32);
        let key = [&[172, 20, 0, 2][..], &target.octets(), &[6, 0, 0, 0, 0, 80, 0, 0]].concat();
        let begin = Instant::now();
        let mut change = Transaction::default();
        let element = Element::key(&key).lasting(Duration::from_secs(120));
        change.add_elements(rules::TABLE, &rules::EGRESS, &[element]);
        change.commit(&mut socket).unwrap();
        taken.add(begin.elapsed().as_secs_f64() * 1e6);
    }
    head("an element of the router's sets", "us");
    row("one address for one job", &taken);
    at_most("an element, us", taken.p50(), 40.0);
}

/// A thousand wires end at once while others are made.
fn end(mut lab: Lab, crowd: Vec<Namespace>, alone: &Values) {
    let mut ending = crowd;
    while ending.len() < ENDING {
        let job = Namespace::new();
        lab.wire(&job);
        ending.push(job);
    }
    let mut other = Lab::new();
    let begin = Instant::now();
    drop(ending);
    let mut meanwhile = Values::default();
    let mut longest: f64 = 0.0;
    while !lab.router.wires().unwrap().is_empty() {
        let taken = other.wire(&Namespace::new());
        meanwhile.add(taken);
        longest = longest.max(taken);
        let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 5_000_000 }));
    }
    let gone = begin.elapsed().as_secs_f64();
    head(&format!("the end of {ENDING} wires"), "us");
    row("a wire meanwhile", &meanwhile);
    println!("the longest {:.0} us", longest);
    at_most("1000 wires end: all gone, seconds", gone, 1.5);
    at_most("a wire meanwhile, to one alone", meanwhile.p50() / alone.p50(), 1.2);
}

/// The same wire by ip(8), with a move of the interface; microseconds.
fn by_hand(number: usize) -> f64 {
    let (router, job) = (Namespace::new(), Namespace::new());
    let holder = Sleeper(job.run(|| Command::new("sleep").arg("60").spawn().unwrap()));
    let (name, pid) = (format!("job-{number}"), holder.0.id().to_string());
    let begin = Instant::now();
    router.run(|| {
        ip(&["link", "add", &name, "type", "veth", "peer", "name", "peer0"]);
        ip(&["link", "set", "peer0", "netns", &pid]);
        ip(&["link", "set", &name, "up"]);
        ip(&["address", "add", "169.254.128.1", "peer", "172.20.0.2", "dev", &name]);
    });
    job.run(|| {
        ip(&["link", "set", "peer0", "name", "eth0"]);
        ip(&["address", "add", "172.20.0.2/16", "dev", "eth0"]);
        ip(&["link", "set", "eth0", "up"]);
        ip(&["route", "add", "default", "via", "172.20.0.1"]);
    });
    begin.elapsed().as_secs_f64() * 1e6
}

fn ip(words: &[&str]) {
    assert!(Command::new("ip").args(words).status().unwrap().success(), "ip {words:?}");
}

struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A descriptor for each of a thousand namespaces.
fn raise_descriptors() {
    let most = Some(8192);
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
}
