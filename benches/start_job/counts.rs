//! The system calls of a start, counted by strace: a figure without noise. Instructions, where perf can count them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::launch::{Launch, Order};
use crate::node::Node;
use crate::ways::{self, Ways};

/// The argument by which the benchmark becomes a process that starts floors and nothing else.
pub const FLOOR: &str = "--floor";
/// The number of starts that are counted together.
const STARTS: usize = 40;

/// The cost of one start.
#[derive(Debug)]
pub struct Count {
    pub way: &'static str,
    /// All system calls that the start needs, including the payload's own.
    pub calls: f64,
    /// Instructions in user mode, where the machine counts them.
    pub instructions: Option<f64>,
}

/// All ways that can be counted. `dir` gets the output of strace.
pub fn all(ways: &mut Ways, dir: &Path) -> Vec<Count> {
    if !Path::new("/usr/bin/strace").exists() {
        eprintln!("strace is not installed: system calls are not counted");
        return Vec::new();
    }
    if instructions(&Order::plain(&["/usr/bin/true"]), dir).is_none() {
        eprintln!("perf cannot count instructions here (not installed, or the machine has no such counter)");
    }
    let mut found = Vec::new();
    for way in [ways::BARE, ways::COLD, ways::POOLED] {
        let calls = |starts: usize| floors(way, starts, &ways.payload, dir);
        let calls = (calls(STARTS) - calls(0)) / STARTS as f64;
        found.push(Count { way, calls, instructions: None });
    }
    // The first job makes the connection and uses all code for the first time.
    let calls = daemon(&ways.payload, STARTS + 1, dir) - daemon(&ways.payload, 1, dir);
    found.push(Count { way: ways::GRPC, calls: calls / STARTS as f64, instructions: None });
    for (way, order) in ways.commands(0) {
        let instructions = instructions(&order, dir);
        found.push(Count { way, calls: command(&order, dir), instructions });
    }
    found
}

fn file(dir: &Path) -> PathBuf {
    dir.join("count")
}

/// Runs a command below another one that counts its calls.
fn below(counter: &[&str], order: &Order) {
    let mut order = order.clone();
    order.argv.splice(0..0, counter.iter().map(|word| (*word).to_owned()));
    assert!(Launch::new(&order).run().ended != 0, "{:?} fails", order.argv);
}

fn command(order: &Order, dir: &Path) -> f64 {
    let file = file(dir);
    below(&["/usr/bin/strace", "-f", "-c", "-o", file.to_str().expect("a plain path")], order);
    total(&file)
}

fn floors(way: &str, starts: usize, payload: &str, dir: &Path) -> f64 {
    let own = std::env::current_exe().expect("our own path");
    let own = own.to_str().expect("a plain path");
    command(&Order::plain(&[own, FLOOR, way, &starts.to_string(), payload]), dir)
}

/// The work of the counted process.
pub fn floor(way: &str, starts: usize, payload: &str) {
    let mut launch = Launch::new(&ways::floor(way, payload, true));
    for _ in 0..starts {
        assert!(launch.run().ended != 0, "the payload fails");
    }
}

/// System calls of a daemon, its children and the jobs, from its start over this many jobs to its end. strace stays
/// attached all the time: it cannot detach from a thread that waits for its vfork'ed child.
fn daemon(payload: &str, jobs: usize, dir: &Path) -> f64 {
    let file = file(dir);
    let strace = ["strace", "-f", "-c", "-o", file.to_str().expect("a plain path")];
    let node = Node::start_below(&strace, Path::new(payload), false);
    let client = node.client();
    for _ in 0..jobs {
        client.once(payload);
    }
    drop(node);
    total(&file)
}

/// The calls of the line "total" of `strace -c`.
fn total(file: &Path) -> f64 {
    let text = fs::read_to_string(file).expect("strace writes its summary");
    let line = text.lines().find(|line| line.ends_with(" total")).expect("the summary has a total");
    line.split_whitespace().nth(3).and_then(|n| n.parse().ok()).expect("the fourth column is a number")
}

/// Instructions in user mode. `None` where perf or the machine cannot count them.
fn instructions(order: &Order, dir: &Path) -> Option<f64> {
    if !Path::new("/usr/bin/perf").exists() {
        return None;
    }
    let file = file(dir);
    let name = file.to_str().expect("a plain path");
    below(&["/usr/bin/perf", "stat", "-x", ",", "-o", name, "-e", "instructions:u", "--"], order);
    let text = fs::read_to_string(&file).expect("perf writes its counts");
    text.lines().find(|line| line.contains("instructions"))?.split(',').next()?.parse().ok()
}
