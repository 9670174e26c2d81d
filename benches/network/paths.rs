//! Bytes and round trips of real jobs, beside those of loopback and of the host.

use std::path::Path;
use std::process::{Child, Command};

use crate::figures::{Values, at_least, at_most};
use crate::helper::TestDaemon;
use crate::helper::network::{Namespace, host_and_outside};
use crate::helper::programs;

/// A host of the outside, see `tests/helper/network.rs`.
pub const OUTSIDE: &str = "8.8.8.8";
pub const PORT: &str = "7000";
const TRIPS: &str = "3000";

/// A path that is measured: its name, and the figures of each round.
struct Way {
    name: &'static str,
    rates: Values,
    trips: Values,
    late: Values,
}

impl Way {
    fn new(name: &'static str) -> Self {
        Way { name, rates: Values::default(), trips: Values::default(), late: Values::default() }
    }

    fn add(&mut self, measure: impl Fn(&[&str]) -> String, host: &str, seconds: &str) {
        let (rate, _) = figures(&measure(&["stream", host, PORT, seconds]));
        self.rates.add(rate);
        let (trip, late) = figures(&measure(&["rtt", host, PORT, TRIPS]));
        self.trips.add(trip);
        self.late.add(late);
    }
}

/// A server in a namespace, which ends with this value.
pub struct Server(Child);

impl Server {
    pub fn start(namespace: &Namespace, pump: &Path, port: &str) -> Server {
        Server(namespace.run(|| Command::new(pump).args(["serve", port]).spawn().unwrap()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The figures that a pump has printed: one, or a median and a 99th percentile.
pub fn figures(text: &str) -> (f64, f64) {
    let mut numbers = text.split_whitespace().map(|word| word.parse().ok());
    let first = numbers.next().flatten().unwrap_or_else(|| panic!("no figure: {text}"));
    (first, numbers.next().flatten().unwrap_or(f64::NAN))
}

/// What a pump in a namespace of ours prints.
pub fn in_namespace(namespace: &Namespace, pump: &Path, words: &[&str]) -> String {
    let out = namespace.run(|| Command::new(pump).args(words).output().unwrap());
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// What a pump in a job prints.
fn in_job(d: &TestDaemon, pump: &str, words: &[&str]) -> String {
    let args = ["--network", "bridge", "--upload", pump, "./pump"];
    d.run(args.iter().chain(words)).ok()
}

/// What a pump in a job that is its own server prints.
fn within_job(d: &TestDaemon, pump: &str, words: &[&str]) -> String {
    let script = format!("./pump serve {PORT} & ./pump {}; kill %1", words.join(" "));
    d.run(["--network", "bridge", "--upload", pump, "bash", "-c", &script]).ok()
}

/// The address of a running job, without the prefix.
pub fn address(d: &TestDaemon, id: &str) -> String {
    d.status(id)["address"].as_str().unwrap().split('/').next().unwrap().to_owned()
}

pub fn measure(rounds: usize, seconds: &str) {
    let pump = programs::c("pump");
    let text = pump.display().to_string();
    let (host, outside) = host_and_outside();
    let _served = Server::start(&outside, &pump, PORT);
    host.run(|| {
        let mut d = TestDaemon::start();
        let id = d.submit(["--network", "bridge", "--upload", &text, "./pump", "serve", PORT]);
        let address = address(&d, &id);
        let [mut own, mut job, mut to_host, mut out] =
            ["loopback of a job", "job to job", "host to outside", "job to outside"].map(Way::new);
        for _ in 0..rounds {
            own.add(|words| within_job(&d, &text, words), "127.0.0.1", seconds);
            job.add(|words| in_job(&d, &text, words), &address, seconds);
            to_host.add(|words| in_namespace(&host, &pump, words), OUTSIDE, seconds);
            out.add(|words| in_job(&d, &text, words), OUTSIDE, seconds);
        }
        println!("\n{:<22} {:>10} {:>18} {:>10}", "path", "MB/s", "round trip p50 us", "p99 us");
        for way in [&own, &job, &to_host, &out] {
            let (trip, late) = (way.trips.p50(), way.late.p50());
            println!("{:<22} {:>10.0} {trip:>18.1} {late:>10.1}", way.name, way.rates.p50());
        }
        for (of, to, rate, trip) in [(&job, &own, 0.75, 1.3), (&out, &to_host, 0.6, 1.6)] {
            let what = format!("{} to {}", of.name, to.name);
            at_least(&format!("{what}, MB/s"), of.rates.p50() / to.rates.p50(), rate);
            at_most(&format!("{what}, round trip"), of.trips.p50() / to.trips.p50(), trip);
        }
        d.rnx(["job", "stop", &id]).ok();
        d.keep_descriptors();
        d.stop();
    });
}
