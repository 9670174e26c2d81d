//! Networks that come and go beside traffic, under a real daemon: nothing of them is left.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::gate;
use crate::helper::network::{Namespace, has_program, host_and_outside, router_of};
use crate::helper::residue;
use crate::helper::skip::is_root;
use crate::helper::soak;
use crate::helper::wait::{PATIENCE, eventually, holds, within};

/// Sends a byte and waits for it to come back, again and again over one connection, until its gate opens.
const TALK: &str = r"
import os, socket
s = socket.create_connection(('8.8.8.8', 8080))
n = 0
while not os.path.exists('/work/go'):
    s.sendall(bytes([n % 256]))
    assert s.recv(1) == bytes([n % 256]), n
    n += 1
print('talked', flush=True)
";

fn echo(listener: &TcpListener) {
    while let Ok((mut stream, _)) = listener.accept() {
        std::thread::spawn(move || {
            let mut byte = [0];
            while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
        });
    }
}

/// The contents of a router beside the wires of jobs, whose names and addresses differ; and how many of those.
fn state(router: &Namespace) -> String {
    router.shell(
        "names='s/job-[0-9a-f]*/job/'
         ip -o link | cut -d: -f2 | cut -d@ -f1 | sed $names | sort | uniq -c
         ip -o address | grep -v job- | tr -s ' '
         ip -o -4 address | grep -c job-
         ip route | grep -v job-
         nft list ruleset | grep -v 'packets\\|ct count'",
    )
}

/// Connections that a namespace tracks, those of loopback left out; `None` where the kernel does not list them. Bridges tell
/// of their groups, which is tracked too.
fn tracked(namespace: &Namespace) -> Option<Vec<String>> {
    let listed = namespace.try_shell("cat /proc/net/nf_conntrack");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let counts =
        |line: &&str| (line.contains(" tcp ") || line.contains(" udp ")) && !line.contains("src=127.");
    listed.status.success().then(|| text.lines().filter(counts).map(str::to_owned).collect())
}

/// Descriptors of namespaces that a process has, which [`residue::descriptors`] leaves out.
fn namespaces(pid: i32) -> usize {
    let all = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let targets = all.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("net:")).count()
}

/// Makes two networks, has a job run in one of them in every fourth round, and removes both.
fn rounds(d: &TestDaemon, number: usize) {
    for n in 0..number {
        for (name, cidr) in [("passing", "10.88.0.0/16"), ("another", "10.89.0.0/24")] {
            let inner = (n % 2 == 0).then_some("--internal");
            d.rnx(["network", "create", name, "--cidr", cidr].into_iter().chain(inner)).ok();
        }
        if n % 4 == 0 {
            d.run(["--network", "passing", "true"]).ok();
        }
        for name in ["passing", "another"] {
            // A job whose output has ended may still be on its way out.
            eventually("no job has it any more", || holds(d.rnx(["network", "remove", name]).code == 0));
        }
    }
}

#[test]
fn networks_come_and_go_beside_traffic_under_a_daemon() {
    needs!(is_root() && has_program("ip") && has_program("nft"), "needs root, ip(8) and nft(8)");
    let (host, outside) = host_and_outside();
    let served = outside.run(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    std::thread::spawn(move || echo(&served));
    host.run(|| {
        let node = Node::set_up();
        node.set("joblet.warmSandboxes", 2);
        node.set("network.default_network", "bridge");
        let mut d = node.start();
        let talker = d.submit(["--network", "bridge", "python3", "-u", "-c", TALK]);
        let router = router_of(d.pid());
        // A connection that is over is forgotten within a second, and not after two minutes.
        for namespace in [&host, &router] {
            namespace.shell(
                "cd /proc/sys/net/netfilter && for t in tcp_timeout_time_wait tcp_timeout_close udp_timeout; \
                 do echo 1 >nf_conntrack_$t; done",
            );
        }
        eventually("the job talks", || holds(tracked(&router).is_none_or(|found| found.len() == 1)));
        rounds(&d, 1);
        let settled = || eventually("both warm sandboxes are of bridge", || warm(&router));
        settled();
        let (before, descriptors) = (state(&router), residue::descriptors(d.pid()));
        let held = namespaces(d.pid());
        rounds(&d, soak::rounds(12, 1000));
        settled();
        let same = within(PATIENCE, || holds(state(&router) == before)).is_some();
        assert!(same, "{}\nnot\n{before}", state(&router));
        for namespace in [&router, &host] {
            let only = || holds(tracked(namespace).is_none_or(|found| found.len() == 1));
            assert!(
                within(PATIENCE, only).is_some(),
                "not the talker's connection alone: {:?}",
                tracked(namespace)
            );
        }
        eventually("the daemon has the descriptors that it had", || {
            let now = residue::descriptors(d.pid());
            let same = now.iter().all(|(kind, n)| n <= descriptors.get(kind).unwrap_or(&0));
            holds(same && namespaces(d.pid()) <= held)
        });
        gate::open(&talker, "go");
        d.until_status(&talker, "COMPLETED");
        assert_eq!(d.rnx(["job", "log", &talker]).ok(), "talked\n");
        d.keep_descriptors();
        d.stop();
        assert_eq!(host.shell("nft list ruleset"), "", "no table is left");
        // Ours is its last descriptor.
        drop(router);
        eventually("joblet0 is gone", || holds(!host.shell("ip -o link").contains("joblet0")));
    });
}

/// Whether the router has three wires, the talker's and two of warm sandboxes, all of the network bridge.
fn warm(router: &Namespace) -> Option<()> {
    let wires = router.shell("ip -o -4 address | grep job- || true");
    holds(wires.lines().count() == 3 && wires.lines().all(|line| line.contains(" peer 172.20.")))
}
