//! The compared ways to start a program, and the conditions of the comparison.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use joblet::sys::clone::Idle;

use crate::figures::{Sample, Series};
use crate::inside::{self, Inside};
use crate::launch::{Launch, Order};
use crate::node::Node;
use crate::peers::{self, Peer};
use crate::rates::{self, Rate};

pub const BARE: &str = "bare clone3 and exec";
pub const COLD: &str = "same namespaces, cold network";
pub const POOLED: &str = "same namespaces, pooled network";
pub const INSIDE: &str = "joblet, inside the daemon";
pub const REUSE: &str = "joblet, inside, networks reused";
pub const GRPC: &str = "joblet, gRPC on a warm channel";
pub const RNX: &str = "rnx job run --wait";

/// The ways without any code of joblet.
pub const FLOORS: [&str; 3] = [BARE, COLD, POOLED];
/// The prefix of the names of the daemon's ways.
pub const OURS: &str = "joblet";

pub const TRUE: &str = "/usr/bin/true";

/// The namespaces of a job except the network namespace.
const NAMESPACES: i32 =
    libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;

type Run<'a> = Box<dyn FnMut() -> Sample + 'a>;

/// A way that can be measured again and again.
pub struct Way<'a> {
    pub name: &'static str,
    pub run: Run<'a>,
}

/// All processes that are started once.
pub struct Ways {
    /// Path of the program whose first instruction reads the time stamp counter.
    pub payload: String,
    pub inside: Inside,
    pub reuse: Option<Inside>,
    pub node: Node,
    pub peers: Vec<Peer>,
}

impl Ways {
    /// `dir` gets the bundle and the state of the peers.
    pub fn start(payload: &Path, dir: &Path) -> Ways {
        let ways = Ways {
            payload: payload.to_str().expect("a plain path").to_owned(),
            inside: Inside::start(payload, false, false),
            reuse: inside::can_reuse().then(|| Inside::start(payload, true, false)),
            node: Node::start(payload, false),
            peers: peers::find(dir),
        };
        let works = |order: &Order| Launch::new(order).run().ended != 0;
        assert!(
            ways.commands(0).iter().all(|(_, order)| works(order)),
            "rnx fails: a job that should succeed"
        );
        ways
    }

    /// Floors and joblet, with the payload that reports its first instruction; without gRPC where `few`.
    pub fn until_first(&mut self, few: bool) -> Vec<Way<'_>> {
        let mut ways: Vec<Way<'_>> = FLOORS
            .into_iter()
            .filter(|name| !few || *name == POOLED)
            .map(|name| {
                let mut launch = Launch::new(&floor(name, &self.payload, true));
                Way { name, run: Box::new(move || launch.run()) }
            })
            .collect();
        let payload = &self.payload;
        let insides = [(INSIDE, Some(&mut self.inside)), (REUSE, self.reuse.as_mut())];
        for (name, inside) in insides {
            if let Some(inside) = inside {
                ways.push(Way { name, run: Box::new(|| reported(inside.once(payload))) });
            }
        }
        if !few {
            let client = self.node.client();
            ways.push(Way { name: GRPC, run: Box::new(move || reported(client.once(payload))) });
        }
        ways
    }

    /// All ways, with `true`, to its end.
    pub fn until_end(&mut self) -> Vec<Way<'_>> {
        let mut ways: Vec<Way<'_>> = Vec::new();
        for name in [BARE, COLD] {
            let mut launch = Launch::new(&floor(name, TRUE, false));
            ways.push(Way { name, run: Box::new(move || launch.run()) });
        }
        for (name, order) in self.commands(0) {
            let mut launch = Launch::new(&order);
            ways.push(Way { name, run: Box::new(move || launch.run()) });
        }
        let client = self.node.client();
        ways.push(Way { name: GRPC, run: Box::new(move || client.once(TRUE)) });
        let insides = [(INSIDE, Some(&mut self.inside)), (REUSE, self.reuse.as_mut())];
        for (name, inside) in insides {
            if let Some(inside) = inside {
                ways.push(Way { name, run: Box::new(|| inside.once(TRUE)) });
            }
        }
        ways
    }

    /// The ways that run as a command: the peers and our own.
    pub fn commands(&self, thread: usize) -> Vec<(&'static str, Order)> {
        let ours: Vec<String> = self.node.rnx();
        let ours: Vec<&str> = ours.iter().map(String::as_str).collect();
        let peers = self.peers.iter().map(|peer| (peer.name, peer.order(thread)));
        peers.chain([(RNX, Order::plain(&ours))]).collect()
    }

    /// Jobs a second of all ways at every concurrency: each cell for `time`, `turns` times, cell by cell.
    pub fn rates(&mut self, time: Duration, turns: usize) -> Vec<Rate> {
        let mut found: Vec<Rate> = Vec::new();
        for _ in 0..turns {
            for concurrency in rates::CONCURRENCY {
                for (way, rate) in self.rates_at(concurrency, time) {
                    match found.iter_mut().find(|r| r.way == way && r.concurrency == concurrency) {
                        Some(known) => known.jobs_a_second.push(rate),
                        None => found.push(Rate { way, concurrency, jobs_a_second: vec![rate] }),
                    }
                }
            }
        }
        found
    }

    fn rates_at(&mut self, threads: usize, time: Duration) -> Vec<(&'static str, f64)> {
        let launched = |order: &(dyn Fn(usize) -> Order + Sync)| {
            rates::count(threads, time, |thread| {
                let mut launch = Launch::new(&order(thread));
                move || launch.run()
            })
        };
        let mut found = Vec::new();
        for name in [BARE, COLD] {
            found.push((name, launched(&|_| floor(name, TRUE, false))));
        }
        for (at, (name, _)) in self.commands(0).into_iter().enumerate() {
            let orders: Vec<Order> = (0..threads).map(|t| self.commands(t).swap_remove(at).1).collect();
            found.push((name, launched(&|thread| orders[thread].clone())));
        }
        found.push((INSIDE, self.inside.rate(threads, time, TRUE)));
        if let Some(reuse) = &mut self.reuse {
            found.push((REUSE, reuse.rate(threads, time, TRUE)));
        }
        let client = self.node.client();
        let by_grpc = rates::count(threads, time, |_| {
            let client = client.clone();
            move || client.once(TRUE)
        });
        found.push((GRPC, by_grpc));
        found
    }
}

/// A payload that did not report has failed.
fn reported(sample: Sample) -> Sample {
    if sample.first == 0 { Sample::FAILED } else { sample }
}

/// The floor with this name.
pub fn floor(name: &str, program: &str, reports: bool) -> Order {
    let (namespaces, join) = match name {
        BARE => (0, Arc::default()),
        COLD => (NAMESPACES | libc::CLONE_NEWNET, Arc::default()),
        POOLED => (NAMESPACES, Arc::new(vec![network()])),
        _ => panic!("no floor is called {name}"),
    };
    Order { namespaces, join, reports, ..Order::plain(&[program]) }
}

/// A network namespace that exists already.
fn network() -> OwnedFd {
    let holder = Idle::start(libc::CLONE_NEWNET as u64).expect("a network namespace (are we root?)");
    std::fs::File::open(format!("/proc/{}/ns/net", holder.pid())).expect("our own child").into()
}

/// The length of a measurement.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    pub rounds: usize,
    /// Rounds that are not counted: caches and the kernel's slabs fill up.
    pub warm_up: usize,
    /// The time after which no round begins.
    pub limit: Duration,
}

/// Runs each way once a round, so that a disturbance of the machine affects all of them alike. Each round begins with
/// another way: none always comes after the same one.
pub fn rounds(condition: &str, ways: &mut [Way<'_>], effort: Effort) -> Vec<Series> {
    eprintln!("{condition}: {} ways, {} rounds", ways.len(), effort.rounds);
    let mut found: Vec<Series> = ways
        .iter()
        .map(|way| Series { condition: condition.to_owned(), way: way.name, samples: Vec::new() })
        .collect();
    let begin = Instant::now();
    for round in 0..effort.warm_up + effort.rounds {
        if begin.elapsed() > effort.limit {
            break;
        }
        for turn in 0..ways.len() {
            let which = (round + turn) % ways.len();
            let sample = (ways[which].run)();
            if round >= effort.warm_up {
                found[which].samples.push(sample);
            }
        }
    }
    found
}

/// Processes that use every processor, under the ordinary policy whatever ours is; killed when dropped.
pub struct Hogs(Vec<Child>);

impl Hogs {
    pub fn start(number: usize) -> Hogs {
        let hog = || {
            Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "chrt", "--other", "0"])
                .args(["sh", "-c", "while :; do :; done"])
                .stdin(Stdio::null())
                .spawn()
                .expect("setpriv and chrt are installed (util-linux)")
        };
        Hogs((0..number).map(|_| hog()).collect())
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            // The processes never end by themselves.
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}
