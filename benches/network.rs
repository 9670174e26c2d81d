//! The cost of a job's network: bytes and round trips from job to job and to the outside, and the making of a wire, each
//! beside what it is compared with, in the same run.
//!
//! `cargo bench --bench network [-- --rounds N]`, as root. Host and outside are namespaces of the benchmark's own: nothing
//! of the machine's network is touched. Sender, receiver and everything between share the machine's processors.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on panics; figures are printed"
)]

#[path = "../tests/helper/mod.rs"]
#[macro_use]
mod helper;

use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Instant;

use helper::TestDaemon;
use helper::network::{Namespace, host_and_outside};
use helper::programs;
use joblet::job::NetRate;
use joblet::network::router::{Definition, Router};
use joblet::network::{Leases, RouterConfig, wire};
use joblet::sys::netlink::link::Born;
use joblet::sys::netlink::{Family, Socket};

/// A host of the outside, see `tests/helper/network.rs`.
const OUTSIDE: &str = "8.8.8.8";
const PORT: &str = "7000";
const SECONDS: &str = "1";
const TRIPS: &str = "3000";

/// A path that is measured: its name, and the figures of each round.
struct Way {
    name: &'static str,
    rates: Vec<f64>,
    trips: Vec<f64>,
}

impl Way {
    fn new(name: &'static str) -> Self {
        Way { name, rates: Vec::new(), trips: Vec::new() }
    }

    fn add(&mut self, measure: impl Fn(&[&str]) -> f64, host: &str) {
        self.rates.push(measure(&["stream", host, PORT, SECONDS]));
        self.trips.push(measure(&["rtt", host, PORT, TRIPS]));
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// A server in a namespace, which ends with this value.
struct Server(Child);

impl Server {
    fn start(namespace: &Namespace, pump: &Path) -> Server {
        Server(namespace.run(|| Command::new(pump).args(["serve", PORT]).spawn().unwrap()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn figure(text: &str) -> f64 {
    text.trim().parse().unwrap_or_else(|_| panic!("no figure: {text}"))
}

/// The figure of a pump in a namespace of ours.
fn in_namespace(namespace: &Namespace, pump: &Path, words: &[&str]) -> f64 {
    let out = namespace.run(|| Command::new(pump).args(words).output().unwrap());
    figure(&String::from_utf8_lossy(&out.stdout))
}

/// The figure of a pump in a job.
fn in_job(d: &TestDaemon, pump: &str, words: &[&str]) -> f64 {
    let args = ["--network", "bridge", "--upload", pump, "./pump"];
    figure(&d.run(args.iter().chain(words)).ok())
}

/// The figure of a pump in a job that is its own server.
fn within_job(d: &TestDaemon, pump: &str, words: &[&str]) -> f64 {
    let script = format!("./pump serve {PORT} & ./pump {}; kill %1", words.join(" "));
    figure(&d.run(["--network", "bridge", "--upload", pump, "bash", "-c", &script]).ok())
}

fn paths(rounds: usize) {
    let pump = programs::c("pump");
    let text = pump.display().to_string();
    let (host, outside) = host_and_outside();
    let _served = Server::start(&outside, &pump);
    host.run(|| {
        let mut d = TestDaemon::start();
        let id = d.submit(["--network", "bridge", "--upload", &text, "./pump", "serve", PORT]);
        let address = d.status(&id)["address"].as_str().unwrap().split('/').next().unwrap().to_owned();
        let [mut own, mut job, mut to_host, mut out] =
            ["loopback of a job", "job to job", "host to outside", "job to outside"].map(Way::new);
        for _ in 0..rounds {
            own.add(|words| within_job(&d, &text, words), "127.0.0.1");
            job.add(|words| in_job(&d, &text, words), &address);
            to_host.add(|words| in_namespace(&host, &pump, words), OUTSIDE);
            out.add(|words| in_job(&d, &text, words), OUTSIDE);
        }
        println!("{:<22} {:>10} {:>14}", "path", "MB/s", "round trip us");
        for way in [&own, &job, &to_host, &out] {
            println!("{:<22} {:>10.0} {:>14.1}", way.name, median(&way.rates), median(&way.trips));
        }
        for (of, to, rate, trip) in [(&job, &own, 0.75, 1.3), (&out, &to_host, 0.6, 1.6)] {
            let ratio = |of: &[f64], to: &[f64]| median(of) / median(to);
            target(&format!("{} to {}, MB/s", of.name, to.name), ratio(&of.rates, &to.rates), rate, true);
            target(
                &format!("{} to {}, round trip", of.name, to.name),
                ratio(&of.trips, &to.trips),
                trip,
                false,
            );
        }
        d.rnx(["job", "stop", &id]).ok();
        d.keep_descriptors();
        d.stop();
    });
}

/// One line with what was wanted, what was measured, and the verdict.
fn target(what: &str, measured: f64, bound: f64, at_least: bool) {
    let met = if at_least { measured >= bound } else { measured <= bound };
    let sign = if at_least { ">=" } else { "<=" };
    println!(
        "{what:<50} wanted {sign} {bound:<5} measured {measured:.2}  {}",
        if met { "met" } else { "MISSED" }
    );
}

/// Milliseconds of joblet's wire, and of the eight commands of ip(8) that make as much, with a move of the interface.
fn wires(rounds: usize) {
    let range = "172.20.0.0/16".parse().unwrap();
    let network = Definition { name: "bridge".to_owned(), range, together: true, inner: false };
    let config = RouterConfig { networks: vec![network], ..RouterConfig::default() };
    let router = Router::make(config).unwrap();
    let mut links = router.open_links().unwrap();
    let mut leases = Leases::default();
    leases.add("bridge", range).unwrap();
    let by_hand = Namespace::new();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for n in 0..rounds {
        let (job, other) = (Namespace::new(), Namespace::new());
        let lease = leases.lease("bridge").unwrap();
        let mut socket = job.run(|| Socket::open(Family::Route).unwrap());
        let begin = Instant::now();
        let name = format!("job-{n}");
        let mut wire = wire::wire(&name, &lease, Born::Namespace(job.as_fd()), 1500, NetRate::default());
        links.talk(&mut wire.router).unwrap();
        socket.talk(&mut wire.inside).unwrap();
        ours.push(begin.elapsed().as_secs_f64() * 1e3);
        let holder = other.run(|| Command::new("sleep").arg("60").spawn().unwrap());
        let mut holder = Server(holder);
        let pid = holder.0.id();
        let begin = Instant::now();
        by_hand.run(|| {
            ip(&["link", "add", &name, "type", "veth", "peer", "name", "peer0"]);
            ip(&["link", "set", "peer0", "netns", &pid.to_string()]);
            ip(&["link", "set", &name, "up"]);
            ip(&["address", "add", "169.254.128.1", "peer", &lease.address.to_string(), "dev", &name]);
        });
        other.run(|| {
            ip(&["link", "set", "peer0", "name", "eth0"]);
            ip(&["address", "add", &format!("{}/16", lease.address), "dev", "eth0"]);
            ip(&["link", "set", "eth0", "up"]);
            ip(&["route", "add", "default", "via", "172.20.0.1"]);
        });
        theirs.push(begin.elapsed().as_secs_f64() * 1e3);
        let _ = holder.0.kill();
    }
    println!("wire, ms: joblet {:.2}, eight ip commands {:.2}", median(&ours), median(&theirs));
    target("eight ip commands to joblet's wire", median(&theirs) / median(&ours), 50.0, true);
}

fn ip(words: &[&str]) {
    assert!(Command::new("ip").args(words).status().unwrap().success(), "ip {words:?}");
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let given = args.iter().position(|a| a == "--rounds").and_then(|at| args.get(at + 1));
    let rounds = given.map_or(5, |n| n.parse().unwrap());
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    println!("load before: {}", load.trim());
    wires(rounds * 8);
    paths(rounds);
}
