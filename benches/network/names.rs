//! Questions for names: to the upstream itself, and through the resolver, with an egress list and without.
//!
//! A job may ask 200 questions a second, so everybody asks 150: each question finds its servers asleep.

use std::net::Ipv4Addr;
use std::path::Path;

use joblet::sys::thread::unshare_mounts;
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};

use crate::figures::{Values, at_most, head};
use crate::helper::TestDaemon;
use crate::helper::name_server::NameServer;
use crate::helper::network::{Namespace, host_and_outside};
use crate::helper::programs;
use crate::paths::{OUTSIDE, figures, in_namespace};

const RESOLVER: &str = "169.254.1.53";
const NAME: &str = "www.example.org";

/// Runs `act` in a host whose one name server is that of the outside.
pub fn in_host(host: &Namespace, outside: &Namespace, act: impl FnOnce() + Send) {
    let address: Ipv4Addr = OUTSIDE.parse().unwrap();
    let _server = NameServer::start(outside, address, address);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("resolv.conf");
    std::fs::write(&file, format!("nameserver {OUTSIDE}\n")).unwrap();
    host.run(|| {
        unshare_mounts().unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        mount_bind(&file, "/etc/resolv.conf").unwrap();
        act();
    });
}

pub fn measure(rounds: usize, questions: usize) {
    let pump = programs::c("pump");
    let (host, outside) = host_and_outside();
    in_host(&host, &outside, || ask(&host, &pump, rounds, &questions.to_string()));
}

fn ask(host: &Namespace, pump: &Path, rounds: usize, questions: &str) {
    let mut d = TestDaemon::start();
    let text = pump.display().to_string();
    let job = |more: &[&str]| {
        let args = [&["--network", "isolated", "--upload", &text], more].concat();
        figures(&d.run(args.iter().chain(&["./pump", "ask", RESOLVER, NAME, questions])).ok())
    };
    let mut ways = ["the upstream itself", "through the resolver", "a listed name"]
        .map(|name| (name, Values::default(), Values::default()));
    for _ in 0..rounds {
        let found = [
            figures(&in_namespace(host, pump, &["ask", OUTSIDE, NAME, questions])),
            job(&[]),
            job(&["--egress", "*.example.org"]),
        ];
        for ((_, median, late), (p50, p99)) in ways.iter_mut().zip(found) {
            median.add(p50);
            late.add(p99);
        }
    }
    head("a question for a name (medians of rounds)", "us");
    for (name, median, late) in &ways {
        println!("{name:<46} {:>12.1} {:>12.1}", median.p50(), late.p50());
    }
    let [(_, upstream, _), (_, forwarded, _), (_, listed, _)] = &ways;
    at_most("a name through the resolver, to the upstream itself", forwarded.p50() / upstream.p50(), 3.0);
    at_most("a listed name, to the upstream itself", listed.p50() / upstream.p50(), 3.0);
    d.keep_descriptors();
    d.stop();
}
