//! Starts of jobs with a network beside starts without one, on real nodes in a network namespace of this process: with warm
//! sandboxes, then without; and crun with a bridge.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use joblet::sys::thread::unshare_network;
use rustix::event::{Timespec, poll};

use crate::figures::Sample;
use crate::launch::Launch;
use crate::node::{Client, Node};
use crate::peers;
use crate::rates::{self, Rate};
use crate::ways::{self, Way};

pub const CONDITION: &str = "first, networks";
pub const NOT_WARM: &str = "first, networks, no warm sandbox";
pub const PEERS: &str = "true, networks";
pub const NONE: &str = "joblet, gRPC, mode none";
pub const BRIDGE: &str = "joblet, gRPC, mode bridge";
pub const OTHER: &str = "joblet, gRPC, another network than the last";
pub const RATED: &str = "joblet, gRPC, mode bridge with a rate";

/// Long enough for the pool of warm sandboxes to be full again, whose state no client can see.
pub fn pause() {
    let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 40_000_000 }));
}

/// Leaves the host's network, before any thread is started: all that comes stays in a namespace of this process's own.
pub fn leave_the_host() {
    unshare_network().expect("a network namespace (are we root?)");
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.expect("ip(8) is installed").success(), "lo cannot be set up");
    let way = "ip link add out type veth peer name away && ip link set away up && ip link set out up && \
               ip address add 203.0.113.2/24 dev out && ip route add default via 203.0.113.1";
    let made = Command::new("sh").args(["-c", way]).status();
    assert!(made.is_ok_and(|status| status.success()), "no interface can be made");
}

/// The node, and the ways to start a job on it.
pub struct Networked {
    _node: Node,
    client: Client,
    payload: String,
}

impl Networked {
    pub fn start(payload: &Path) -> Networked {
        Networked::on(Node::start(payload, false), payload)
    }

    /// The same on a node without warm sandboxes.
    pub fn start_cold(payload: &Path) -> Networked {
        Networked::on(Node::start_cold(payload), payload)
    }

    fn on(node: Node, payload: &Path) -> Networked {
        let client = node.client();
        let payload = payload.to_str().expect("a plain path").to_owned();
        // The pool learns which networks there are.
        for _ in 0..16 {
            for network in ["none", "bridge", "isolated"] {
                let _ = client.once_in(&payload, network);
            }
        }
        Networked { _node: node, client, payload }
    }

    /// A job in this network, once warm sandboxes are there, if the node has any.
    fn once(&self, network: &str, before: Option<&str>) -> Sample {
        if let Some(before) = before {
            let _ = self.client.once_in(&self.payload, before);
        }
        pause();
        reported(self.client.once_in(&self.payload, network))
    }

    /// Each way waits until warm sandboxes are there. `isolated` comes right behind `bridge`, so that it finds those.
    pub fn ways(&self) -> Vec<Way<'_>> {
        let rated = || {
            let _ = self.client.once_in(&self.payload, "bridge");
            pause();
            reported(self.client.once_rated(&self.payload, "bridge"))
        };
        vec![
            Way { name: NONE, run: Box::new(|| self.once("none", None)) },
            Way { name: BRIDGE, run: Box::new(|| self.once("bridge", Some("bridge"))) },
            Way { name: OTHER, run: Box::new(|| self.once("isolated", Some("bridge"))) },
            Way { name: RATED, run: Box::new(rated) },
        ]
    }

    /// Jobs of a node without warm sandboxes, beside the floors that differ by a network namespace.
    pub fn cold_ways(&self) -> Vec<Way<'_>> {
        let floor = |name| {
            let mut launch = Launch::new(&ways::floor(name, &self.payload, true));
            Way { name, run: Box::new(move || launch.run()) }
        };
        vec![
            floor(ways::COLD),
            floor(ways::POOLED),
            Way { name: NONE, run: Box::new(|| self.once("none", None)) },
            Way { name: BRIDGE, run: Box::new(|| self.once("bridge", None)) },
        ]
    }

    /// /usr/bin/true to its end, in jobs and in crun.
    pub fn until_end(&self, dir: &Path) -> Vec<Way<'_>> {
        let job = |network: &'static str| {
            move || {
                pause();
                self.client.once_in(ways::TRUE, network)
            }
        };
        let mut ways: Vec<Way<'_>> = vec![
            Way { name: NONE, run: Box::new(job("none")) },
            Way { name: BRIDGE, run: Box::new(job("bridge")) },
        ];
        for peer in peers::find_networked(dir) {
            let mut launch = Launch::new(&peer.order(0));
            ways.push(Way { name: peer.name, run: Box::new(move || launch.run()) });
        }
        ways
    }

    /// Jobs a second with and without a wire, each cell for `time`, `turns` times.
    pub fn rates(&self, time: Duration, turns: usize) -> Vec<Rate> {
        let mut found = Vec::new();
        for (way, network) in [(NONE, "none"), (BRIDGE, "bridge")] {
            for concurrency in rates::CONCURRENCY {
                let rate =
                    |_| rates::count(concurrency, time, |_| || self.client.once_in(ways::TRUE, network));
                found.push(Rate { way, concurrency, jobs_a_second: (0..turns).map(rate).collect() });
            }
        }
        found
    }
}

fn reported(sample: Sample) -> Sample {
    if sample.first == 0 { Sample::FAILED } else { sample }
}

/// The load of the machine, which belongs to the figures.
pub fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}
