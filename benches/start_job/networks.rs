//! Starts of jobs with a network beside starts without one, on one real node in a network namespace of this process.

use std::fs;
use std::path::Path;
use std::process::Command;

use joblet::sys::thread::unshare_network;
use rustix::event::{Timespec, poll};

use crate::figures::Sample;
use crate::node::{Client, Node};
use crate::ways::Way;

pub const CONDITION: &str = "first, networks";
pub const NONE: &str = "joblet, gRPC, mode none";
pub const BRIDGE: &str = "joblet, gRPC, mode bridge";
pub const OTHER: &str = "joblet, gRPC, another network than the last";

/// Long enough for the pool of warm sandboxes to be full again, whose state no client can see.
fn pause() {
    let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 40_000_000 }));
}

/// Leaves the host's network, before any thread is started: all that comes stays in a namespace of this process's own.
pub fn leave_the_host() {
    unshare_network().expect("a network namespace (are we root?)");
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.expect("ip(8) is installed").success(), "lo cannot be set up");
    let dummy = "ip link add out type dummy && ip address add 203.0.113.2/24 dev out && ip link set out up && \
                 ip route add default via 203.0.113.1";
    let way = Command::new("sh").args(["-c", dummy]).status();
    // Without it jobs have no way out, and start all the same.
    if !way.is_ok_and(|status| status.success()) {
        eprintln!("networks: no dummy interface, so jobs have no way out");
    }
}

/// The node, and the ways to start a job on it.
pub struct Networked {
    _node: Node,
    client: Client,
    payload: String,
}

impl Networked {
    pub fn start(payload: &Path) -> Networked {
        let node = Node::start(payload, false);
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

    /// Each way waits until warm sandboxes are there. `isolated` comes right behind `bridge`, so that it finds those.
    pub fn ways(&self) -> Vec<Way<'_>> {
        let once = |network: &'static str, before: Option<&'static str>| {
            move || -> Sample {
                if let Some(before) = before {
                    let _ = self.client.once_in(&self.payload, before);
                }
                pause();
                let sample = self.client.once_in(&self.payload, network);
                if sample.first == 0 { Sample::FAILED } else { sample }
            }
        };
        vec![
            Way { name: NONE, run: Box::new(once("none", None)) },
            Way { name: BRIDGE, run: Box::new(once("bridge", Some("bridge"))) },
            Way { name: OTHER, run: Box::new(once("isolated", Some("bridge"))) },
        ]
    }
}

/// The load of the machine, which belongs to the figures.
pub fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}
