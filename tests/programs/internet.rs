//! The world around a bridged job: a host, an outside with servers of the test's own (`tests/clients/internet.py`), and a
//! name server that knows them. Nothing leaves the machine.

use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::name_server::{NameServer, in_host};
use crate::helper::network::{Namespace, host_and_outside};
use crate::helper::programs::source;
use crate::helper::rnx::Output;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The address of every name below `test`, and of the name server.
const SERVERS: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);

/// A node whose jobs have a network, in its world.
pub(super) struct World<'w> {
    pub(super) d: &'w TestDaemon,
    pub(super) outside: &'w Namespace,
    /// The certificate of the authority that all servers have theirs from.
    pub(super) authority: PathBuf,
}

impl World<'_> {
    /// Runs a script in a job of this network, with a list if it has entries, and with the authority's certificate as
    /// `ca.pem`.
    pub(super) fn run(&self, network: &str, list: &[&str], memory: u32, script: &str) -> Output {
        let mut flags =
            vec![format!("--network={network}"), format!("--max-memory={memory}"), "--timeout=200s".into()];
        flags.extend(list.iter().map(|entry| format!("--egress={entry}")));
        flags.push(format!("--upload={}", self.authority.display()));
        let script = format!("exec 2>&1\nset -eu\n{script}");
        self.d.run(flags.iter().map(String::as_str).chain(["sh", "-c", &script]))
    }
}

/// The servers outside, which end with this value.
struct Servers(Child);

impl Servers {
    fn start(outside: &Namespace, dir: &std::path::Path) -> Servers {
        let mut command = Command::new("/usr/bin/python3");
        command.arg(source("tests/clients/internet.py")).arg(dir).arg(SERVERS.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = outside.run(|| command.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let servers = Servers(child);
        assert_eq!(line, "ready\n", "the servers of the test do not start");
        servers
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has a test run with a node in a world of its own.
pub(super) fn with_world(test: impl FnOnce(&World<'_>) + Send) {
    let (host, outside) = host_and_outside();
    let dir = tempfile::Builder::new().prefix("joblet-internet.").tempdir().unwrap();
    let _servers = Servers::start(&outside, dir.path());
    let _names = NameServer::start(&outside, SERVERS, SERVERS);
    in_host(&host, SERVERS, |_| {
        let node = Node::set_up();
        node.set("network.default_network", "bridge");
        node.set("network.publish.addresses", vec!["203.0.113.0/24"]);
        node.set("network.publish.ports", "80-65535");
        let mut d = node.start();
        test(&World { d: &d, outside: &outside, authority: dir.path().join("ca.pem") });
        d.keep_descriptors();
        d.stop();
    });
}
