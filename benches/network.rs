//! What jobs' networks cost, each thing beside what it is compared with, in the same run.
//!
//! `cargo bench --bench network [-- OPTIONS]`, as root:
//!
//! ```text
//! --quick           about three minutes instead of about ten
//! --only GROUP      wires, paths, names, flood or jobs (may be repeated)
//! --jobs N          jobs of the group jobs (default: 1000, quick: 300)
//! ```
//!
//! * *wires*: a wire beside none and beside 900 others, a network namespace, the same by ip(8), a thousand that end at once,
//!   an element of the router's sets;
//! * *paths*: bytes and round trips from job to job and to the outside, beside loopback and the host;
//! * *names*: a question through the resolver, with an egress list and without, beside the name server itself;
//! * *flood*: times of a job beside another one that floods;
//! * *jobs*: a thousand jobs with a wire, what is left of them, and what a job shows to the host.
//!
//! Host and outside are namespaces of the benchmark's own: nothing of the machine's network is touched. Sender, receiver
//! and everything between share the machine's processors.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on panics; figures are printed"
)]
#![allow(unreachable_pub, reason = "a benchmark is the root of its own crate")]

#[path = "network/figures.rs"]
mod figures;
#[path = "network/flood.rs"]
mod flood;
#[path = "../tests/helper/mod.rs"]
#[macro_use]
mod helper;
#[path = "network/jobs.rs"]
mod jobs;
#[path = "network/names.rs"]
mod names;
#[path = "network/paths.rs"]
mod paths;
#[path = "network/wires.rs"]
mod wires;

use std::time::Instant;

const GROUPS: [&str; 5] = ["wires", "paths", "names", "flood", "jobs"];

#[derive(Default)]
struct Options {
    quick: bool,
    only: Vec<String>,
    jobs: Option<usize>,
}

fn options() -> Options {
    let mut options = Options::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
        match word.as_str() {
            "--quick" => options.quick = true,
            "--only" => options.only.push(value()),
            "--jobs" => options.jobs = Some(value().parse().unwrap()),
            // cargo adds this flag.
            "--bench" => {}
            other => panic!("unknown option {other}; benches/network.rs says which there are"),
        }
    }
    options
}

fn main() {
    let Options { quick, only, jobs } = options();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    println!("load before: {}", load.trim());
    let of = |full: usize, least: usize| if quick { least } else { full };
    for group in GROUPS.into_iter().filter(|group| only.is_empty() || only.iter().any(|only| only == group)) {
        let begin = Instant::now();
        match group {
            "wires" => wires::measure(of(120, 40)),
            "paths" => paths::measure(of(9, 3), if quick { "0.5" } else { "1" }),
            "names" => names::measure(of(5, 2), of(600, 200)),
            "flood" => flood::measure(of(3000, 600), of(600, 150)),
            _ => jobs::measure(jobs.unwrap_or(of(1000, 300))),
        }
        println!("({group}: {:.0} s)", begin.elapsed().as_secs_f64());
    }
}
