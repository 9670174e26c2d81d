//! Jobs with IPv6, under a real daemon whose host, a namespace of the test's own, has a way out of it.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};

use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::gate;
use crate::helper::name_server::{NameServer, in_host};
use crate::helper::network::{Namespace, add_ipv6, has_ipv6, has_program, host_and_outside};
use crate::helper::skip::is_root;
use crate::helper::wait::{eventually, holds};

const SERVER: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
/// Fetches a line from port 8080 of an address or a name, or says why not.
const FETCH: &str = "fetch() { if exec 3<>/dev/tcp/$1/8080; then read line <&3; echo $1 says $line; exec 3>&-; \
                     else echo $1 refused; fi; } 2>&1;";
const PRINT_ADDRESS: &str = "echo address $(grep eth0 /proc/net/if_inet6 | cut -d' ' -f1)";

/// A host that has IPv6, and whose kernel forwards it for us or by the administrator's word.
fn host_with_ipv6() -> (Namespace, Namespace) {
    let (host, outside) = host_and_outside();
    add_ipv6((&host, &outside));
    if !std::fs::exists("/proc/sys/net/ipv6/conf/lo/force_forwarding").unwrap() {
        host.shell("echo 1 >/proc/sys/net/ipv6/conf/all/forwarding");
    }
    (host, outside)
}

/// Says "hello" to everybody at port 8080 of both families.
fn serve(outside: &Namespace) {
    let listener = outside.run(|| TcpListener::bind("[::]:8080").unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(b"hello\n");
        }
    });
}

fn run(d: &TestDaemon, flags: &[&str], script: &str) -> String {
    let script = format!("{FETCH} {script}");
    d.run(flags.iter().copied().chain(["bash", "-c", &script])).text()
}

fn ready() -> bool {
    is_root() && has_program("ip") && has_program("nft")
}

#[test]
fn jobs_have_ipv6_where_the_host_has_it() {
    needs!(ready(), "needs root, ip(8) and nft(8)");
    needs!(has_ipv6(), "this kernel has no IPv6");
    let (host, outside) = host_with_ipv6();
    serve(&outside);
    let _server = NameServer::start(&outside, SERVER, SERVER);
    in_host(&host, SERVER, |_| {
        let mut d = TestDaemon::start();
        let script = format!(
            "{PRINT_ADDRESS}; python3 -m http.server --bind :: 8080 >/dev/null 2>&1 & {}; kill %1",
            gate::wait_for("go")
        );
        let other = d.submit(["--network", "bridge", "--name", "web", "bash", "-c", &script]);
        let log = eventually("the other job has its address", || {
            let log = d.rnx(["job", "log", "--no-follow", &other]).text();
            log.contains("address ").then_some(log)
        });
        assert!(log.contains("address fd6a6f626c65000000000000ac14"), "{log}");
        let address = d.status(&other)["address"].as_str().unwrap().to_owned();
        let (four, six) = address.split_once(',').unwrap();
        let own = six.strip_suffix("/128").unwrap();
        assert!(four.starts_with("172.20.") && own.starts_with("fd6a:6f62:6c65::ac14:"), "{address}");

        let targets =
            ["2600::8", "six.example.org", "8.8.8.8", "2600:f::2", "fd00:ec2::254", "64:ff9b::808:808"];
        let seen = run(&d, &["--network", "isolated"], &targets.map(|to| format!("fetch {to}")).join("; "));
        for part in [
            "2600::8 says hello",
            "six.example.org says hello",
            "8.8.8.8 says hello",
            "2600:f::2 refused",
            "fd00:ec2::254 refused",
            "64:ff9b::808:808 refused",
        ] {
            assert!(seen.contains(part), "{part:?} is not in {seen}");
        }
        // By name, in the own network alone.
        let script = "for i in $(seq 100); do (exec 3<>/dev/tcp/$(getent ahostsv6 web | head -1 | cut -d' ' -f1)/8080) && \
                      echo reached && exit; sleep 0.1; done";
        assert!(run(&d, &["--network", "bridge"], script).contains("reached"));
        assert!(run(&d, &["--network", "isolated"], &format!("fetch {own}")).contains("Permission denied"));
        let layers = d.rnx(["job", "status", "--security", &other]).ok();
        assert!(layers.lines().any(|line| line.contains("network.ipv6") && line.contains(own)), "{layers}");
        let shown = d.rnx(["network", "inspect", "bridge"]).ok();
        assert!(shown.contains(own), "{shown}");

        // Names and addresses of a list, and nothing else.
        let listed = ["--network", "isolated", "--egress", "*.example.org,[2600:f::1]:8080"];
        let seen = run(
            &d,
            &listed,
            "fetch 2600::8; fetch 2600:f::1; fetch six.example.org; fetch 2600::8; fetch moved.example.org",
        );
        let lines: Vec<&str> =
            seen.lines().filter(|line| line.contains("refused") || line.contains("says")).collect();
        let expected = [
            "2600::8 refused",
            "2600:f::1 says hello",
            "six.example.org says hello",
            "2600::8 says hello",
            "moved.example.org refused",
        ];
        assert_eq!(lines, expected, "{seen}");
        gate::open(&other, "go");
        d.until_status(&other, "COMPLETED");
        d.keep_descriptors();
        d.stop();
        assert_eq!(host.shell("nft list ruleset"), "", "no table is left");
        let forced = "/proc/sys/net/ipv6/conf/up0/force_forwarding";
        let forced = host.shell(&format!("if [ -e {forced} ]; then cat {forced}; fi"));
        assert_ne!(forced.trim(), "1", "forwarding is taken back");
    });
}

#[test]
fn jobs_keep_their_ipv6_when_the_daemon_is_killed() {
    needs!(ready(), "needs root, ip(8) and nft(8)");
    needs!(has_ipv6(), "this kernel has no IPv6");
    let (host, outside) = host_with_ipv6();
    serve(&outside);
    host.run(|| {
        let node = Node::set_up();
        node.set("joblet.onShutdown", "keep");
        node.set("network.ipv6", "auto");
        let d = node.start();
        let script =
            format!("{FETCH} fetch 2600::8; {}; fetch 2600::8; fetch 2600:f::1", gate::wait_for("go"));
        let id = d.submit(["--network", "bridge", "--egress", "2600::8", "bash", "-c", &script]);
        eventually("it has fetched once", || {
            holds(d.rnx(["job", "log", "--no-follow", &id]).text().contains("says hello"))
        });
        let address = d.status(&id)["address"].clone();
        let node = d.crash();
        host.shell("nft flush ruleset");
        let mut d = node.start();
        assert_eq!(d.status(&id)["address"], address);
        gate::open(&id, "go");
        d.until_status(&id, "COMPLETED");
        let log = d.rnx(["job", "log", &id]).text();
        assert_eq!(log.matches("2600::8 says hello").count(), 2, "{log}");
        assert!(log.contains("2600:f::1 refused"), "{log}");
        d.keep_descriptors();
        d.stop();
    });
}

#[test]
fn jobs_have_no_ipv6_where_the_node_gives_none() {
    needs!(ready(), "needs root, ip(8) and nft(8)");
    needs!(has_ipv6(), "this kernel has no IPv6");
    let (host, outside) = host_with_ipv6();
    serve(&outside);
    let server = NameServer::start(&outside, SERVER, SERVER);
    in_host(&host, SERVER, |_| {
        let mut d = TestDaemon::with([("network.ipv6", "off")]);
        let seen = run(
            &d,
            &["--network", "bridge"],
            &format!("{PRINT_ADDRESS}; fetch 2600::8; fetch six.example.org; fetch 8.8.8.8"),
        );
        assert!(seen.contains("address\n") && seen.contains("8.8.8.8 says hello"), "{seen}");
        assert!(seen.contains("2600::8 refused") && seen.contains("six.example.org refused"), "{seen}");
        assert!(!server.heard().iter().any(|asked| asked.ends_with(" 28")), "AAAA is not sent on");
        d.keep_descriptors();
        d.stop();
    });
}
