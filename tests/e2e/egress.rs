//! Egress lists of jobs and what they were refused, under a real daemon whose host is a namespace of the test's own.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;

use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::gate;
use crate::helper::network::{Namespace, has_program, host_and_outside};
use crate::helper::rnx::Output;
use crate::helper::skip::is_root;
use crate::helper::wait::{eventually, holds};

/// A shell function that says whether a connection is made.
const REACH: &str =
    "reach() { if (exec 3<>/dev/tcp/$1/$2) 2>/tmp/why; then echo $1 reached; else echo $1 refused; fi; };";
/// Waits until the file about denials has a word.
const UNTIL_TOLD: &str = "told() { for i in $(seq 600); do grep -q -- \"$1\" /run/joblet/denials && return; sleep 0.1; done; echo not told of $1; };";

fn said(out: &Output) -> String {
    format!("{}{}", out.text(), out.stderr)
}

fn run(d: &TestDaemon, egress: &[&str], script: &str) -> String {
    let flags = egress.iter().flat_map(|list| ["--egress", list]);
    let all = ["--network", "isolated"].into_iter().chain(flags).chain(["bash", "-c", script]);
    d.run(all).text()
}

#[test]
fn listed_job_reaches_its_list_and_is_told_of_the_rest() {
    needs!(is_root() && has_program("ip") && has_program("nft"), "needs root, ip(8) and nft(8)");
    let (host, outside) = host_and_outside();
    let _served = outside.run(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    host.run(|| {
        let node = Node::set_up();
        node.set("network.egress.allow", vec!["10.1.0.0/16"]);
        let d = node.start();
        let script = format!(
            "{REACH} {UNTIL_TOLD} reach 8.8.8.8 8080; reach 8.8.8.8 8081; reach 10.1.1.1 8080; reach 10.9.9.9 8080; \
             reach 169.254.169.254 80; told 169.254.169.254; cat /run/joblet/denials; \
             (echo x >/run/joblet/denials || rm -f /run/joblet/denials || mv /run/joblet /run/other || \
             ln -s /etc/passwd /run/joblet/more) 2>/dev/null && echo changed"
        );
        let id = d.submit(["--network", "bridge", "--egress", "8.8.8.8:8080,10.0.0.0/8", "bash", "-c", &script]);
        d.until_status(&id, "FAILED");
        let seen = d.rnx(["job", "log", &id]).text();
        for part in ["8.8.8.8 reached\n8.8.8.8 refused", "10.1.1.1 reached", "10.9.9.9 refused", "169.254.169.254 refused"] {
            assert!(seen.contains(part), "{part:?} is not in {seen}");
        }
        assert!(!seen.contains("changed") && !seen.contains("not told"), "{seen}");
        let lines: Vec<serde_json::Value> =
            seen.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect();
        let told = |address: &str, port: u16| lines.iter().find(|l| l["address"] == address && l["port"] == port).unwrap();
        assert_eq!(told("8.8.8.8", 8081)["allow"], "--egress 8.8.8.8:8081");
        assert_eq!(told("10.9.9.9", 8080)["rule"], "private range");
        // The record keeps it.
        let status = d.status(&id);
        assert_eq!(status["egress"], serde_json::json!(["8.8.8.8:8080", "10.0.0.0/8"]));
        assert!(status["denials"].as_u64().unwrap() >= 3, "{status}");
        let d = d.crash().start();
        let kept = d.rnx(["--json", "job", "denials", &id]).json();
        let row = |address: &str| kept["denials"].as_array().unwrap().iter().find(|row| row["address"] == address).cloned();
        assert_eq!(row("169.254.169.254").unwrap()["rule"], "metadata of a cloud");
        assert!(row("8.8.8.8").unwrap()["count"].as_u64().unwrap() >= 1 && row("10.1.1.1").is_none(), "{kept}");
        let table = d.rnx(["job", "denials", &id]).ok();
        assert!(table.contains("8.8.8.8:8081 (tcp)") && table.contains("not in the egress list"), "{table}");
        assert_eq!(d.status(&id)["denials"], status["denials"]);
        refusals(&d);
        d.stop();
    });
}

/// Lists that no job gets, and the refusal of each.
fn refusals(d: &TestDaemon) {
    for (flags, part) in [
        (&["--network", "none", "--egress", "example.org"][..], "use network isolated or bridge"),
        (&["--network", "bridge", "--egress", "https://example.org"], "write the name of the host alone"),
        (&["--network", "bridge", "--egress-preset", "cargo"], "there are pypi, npm, debian, git, crates"),
    ] {
        let out = d.rnx(["job", "run"].iter().chain(flags).chain(&["true"]));
        assert!(out.code != 0 && said(&out).contains(part), "{flags:?}: {}", said(&out));
    }
    let plan =
        d.rnx(["job", "run", "--explain", "--network", "bridge", "--egress-preset", "pypi", "true"]).ok();
    assert!(plan.contains("let the job reach outside only preset:pypi"), "{plan}");
}

#[test]
fn list_changes_while_the_job_runs_and_outlives_the_daemon() {
    needs!(is_root() && has_program("ip") && has_program("nft"), "needs root, ip(8) and nft(8)");
    let (host, outside) = host_and_outside();
    let _served = outside.run(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    host.run(|| {
        let node = Node::set_up();
        node.set("joblet.onShutdown", "keep");
        node.set("network.egress.maximum", vec!["0.0.0.0/0", "!9.9.9.9"]);
        let d = node.start();
        let steps = ["one", "two", "three"].map(gate::wait_for);
        let script = format!(
            "{REACH} reach 8.8.8.8 8080; {}; reach 8.8.8.8 8080; {}; reach 8.8.8.8 8080; {}; reach 8.8.8.8 8080",
            steps[0], steps[1], steps[2]
        );
        let id = d.submit(["--network", "isolated", "--egress", "10.1.1.1,!9.9.9.9", "bash", "-c", &script]);
        let log = |d: &TestDaemon, lines: usize| {
            eventually("the job has come so far", || {
                let text = d.rnx(["job", "log", "--no-follow", &id]).text();
                (text.lines().count() >= lines).then(|| text.lines().nth(lines - 1).unwrap().to_owned())
            })
        };
        assert_eq!(log(&d, 1), "8.8.8.8 refused");
        let why = d.rnx(["job", "egress", "--remove", "!9.9.9.9", "--add", "0.0.0.0/0", &id]);
        assert!(why.code != 0 && said(&why).contains("add !9.9.9.9"), "{}", said(&why));
        let now = d.rnx(["job", "egress", "--add", "8.8.8.8:8080", "--remove", "10.1.1.1", &id]).ok();
        assert_eq!(now, "!9.9.9.9\n8.8.8.8:8080\n");
        gate::open(&id, "one");
        assert_eq!(log(&d, 2), "8.8.8.8 reached");
        assert!(d.log().contains("egress list changed"), "{}", d.log());
        let d = d.crash().start();
        assert_eq!(d.rnx(["job", "egress", &id]).ok(), "!9.9.9.9\n8.8.8.8:8080\n");
        let layers = d.rnx(["job", "status", "--security", &id]).ok();
        assert!(layers.lines().any(|line| line.starts_with("network.egress") && line.contains(" ok ")), "{layers}");
        gate::open(&id, "two");
        assert_eq!(log(&d, 3), "8.8.8.8 reached");
        d.rnx(["job", "egress", "--add", "!*,!0.0.0.0/0", &id]).ok();
        let mut d = d.crash().start();
        gate::open(&id, "three");
        assert_eq!(log(&d, 4), "8.8.8.8 refused");
        d.until_status(&id, "COMPLETED");
        // Its address is given again only without its list.
        let why = d.rnx(["job", "egress", "--add", "8.8.8.8", &id]);
        assert!(said(&why).contains("job is not running"), "{}", said(&why));
        d.keep_descriptors();
        d.stop();
    });
}

#[test]
fn node_gives_jobs_its_list_and_bounds_theirs() {
    needs!(is_root() && has_program("ip") && has_program("nft"), "needs root, ip(8) and nft(8)");
    let (host, outside) = host_and_outside();
    let _served = outside.run(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    host.run(|| {
        let node = Node::set_up();
        node.set("network.egress.default", vec!["8.8.8.8:8080"]);
        node.set("network.egress.maximum", vec!["8.8.8.8", "*.example.org"]);
        // So small that the second job has the address of the first.
        node.set("network.isolated_cidr", "172.21.0.0/30");
        node.set("joblet.warmSandboxes", 0);
        let mut d = node.start();
        let reach = format!("{REACH} reach 8.8.8.8 8080; reach 203.0.113.1 8080");
        assert_eq!(run(&d, &[], &reach), "8.8.8.8 reached\n203.0.113.1 refused\n");
        let beyond = d.rnx(["job", "run", "--network", "isolated", "--egress", "203.0.113.1", "true"]);
        assert!(
            said(&beyond).contains("entry 203.0.113.1 is beyond what this node allows"),
            "{}",
            said(&beyond)
        );
        let name = ["www.example.org", "8.8.8.8:8081"];
        let out = eventually("the address is free", || {
            let text = run(&d, &name, &reach);
            (!text.is_empty()).then_some(text)
        });
        assert_eq!(out, "8.8.8.8 refused\n203.0.113.1 refused\n", "the list of the one before is gone");
        assert_eq!(d.run(["--network", "none", "echo", "unlisted"]).text(), "unlisted\n");
        d.keep_descriptors();
        d.stop();
    });
}

/// Packets of a job that came to the outside, other than by TCP to 8.8.8.8:8080.
fn judge(outside: &Namespace) {
    outside.shell(
        "nft add table inet judge
         nft 'add chain inet judge seen { type filter hook prerouting priority -500; }'
         nft add rule inet judge seen iifname != down0 accept
         nft add rule inet judge seen ip daddr 8.8.8.8 tcp dport 8080 accept
         nft add rule inet judge seen counter",
    );
}

#[test]
fn nothing_leaves_a_real_job_but_to_what_is_listed() {
    needs!(is_root() && has_program("ip") && has_program("nft"), "needs root, ip(8) and nft(8)");
    let (host, outside) = host_and_outside();
    outside.shell("ip address add 9.9.9.9/32 dev lo");
    host.shell("if [ -e /proc/sys/net/ipv6 ]; then echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; fi");
    judge(&outside);
    let _served = outside.run(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    let _heard = outside.run(|| UdpSocket::bind("0.0.0.0:53").unwrap());
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jobs/exfiltrate.py");
    host.run(|| {
        let mut d = TestDaemon::start();
        let upload = format!("--upload={}", program.display());
        let job = ["python3", "exfiltrate.py", "8.8.8.8", "8080", "9.9.9.9"];
        let listed = ["--network", "isolated", "--egress", "8.8.8.8:8080", &upload];
        let out = d.run(listed.iter().chain(&job)).ok();
        assert!(out.lines().count() >= 50, "{out}");
        assert!(outside.shell("nft list chain inet judge seen").contains("counter packets 0 "), "{out}");
        assert!(out.contains("literal_tcp: No route to host"), "{out}");
        no_socket_comes_from_another_job(&d);
        d.run(["--network", "isolated", &upload].iter().chain(&job).chain(&["literal_udp"])).ok();
        let seen = || holds(!outside.shell("nft list chain inet judge seen").contains("counter packets 0 "));
        eventually("the judge sees what is not listed", seen);
        d.keep_descriptors();
        d.stop();
    });
}

/// A job that has no list would give its sockets to one that has: there is no place where they meet.
fn no_socket_comes_from_another_job(d: &TestDaemon) {
    const PLACES: &str = "'\\0out', '/tmp/out', '/dev/shm/out', '/run/out', '/work/out'";
    let giver = format!(
        "import os, socket, threading\n\
         out = socket.create_connection(('8.8.8.8', 8080))\n\
         def give(place):\n    \
             s = socket.socket(socket.AF_UNIX); s.bind(place); s.listen()\n    \
             socket.send_fds(s.accept()[0], [b'x'], [out.fileno()])\n\
         for place in [{PLACES}]: threading.Thread(target=give, args=(place,), daemon=True).start()\n\
         print('ready', flush=True)\n\
         os.system({:?})",
        gate::wait_for("given")
    );
    let id = d.submit(["--network", "bridge", "python3", "-c", &giver]);
    eventually("the other job waits", || {
        holds(d.rnx(["job", "log", "--no-follow", &id]).text().contains("ready"))
    });
    let taker = format!(
        "import socket\n\
         for place in [{PLACES}]:\n    \
             try: socket.socket(socket.AF_UNIX).connect(place); print('met at', repr(place))\n    \
             except OSError as why: print(why.strerror)"
    );
    let met = d.run(["--network", "bridge", "--egress", "8.8.8.8:8080", "python3", "-c", &taker]).ok();
    assert!(met.lines().count() == 5 && !met.contains("met"), "{met}");
    gate::open(&id, "given");
    d.until_status(&id, "COMPLETED");
}
