//! Jobs with a network, under a real daemon whose host is a namespace of the test's own.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::gate;
use crate::helper::network::{Namespace, has_program, host_and_outside};
use crate::helper::residue;
use crate::helper::skip::is_root;
use crate::helper::wait::{eventually, holds};
use crate::helper::workflow;

/// A command of bash that connects, and says so.
fn reach(address: &str, port: u16) -> String {
    format!(
        "if exec 3<>/dev/tcp/{address}/{port}; then echo {address} reached; else echo {address} refused; fi"
    )
}

/// The address of a job, which it prints first.
fn address_of(d: &TestDaemon, id: &str) -> String {
    eventually("the job has printed its address", || {
        let log = d.rnx(["job", "log", "--no-follow", id]).text();
        log.lines().find_map(|line| line.strip_prefix("address ").map(str::to_owned))
    })
}

/// Prints the address of eth0, from the kernel's list of local ones.
const PRINT_ADDRESS: &str =
    "echo address $(grep -B1 'host LOCAL' /proc/net/fib_trie | grep -o '172[.]2[01][.][0-9.]*' | head -1)";

/// A job that serves port 7000 until its gate opens.
fn server(d: &TestDaemon, network: &str) -> String {
    let script = format!(
        "{PRINT_ADDRESS}; python3 -m http.server 7000 >/dev/null 2>&1 & {}; kill %1",
        gate::wait_for("go")
    );
    d.submit(["--network", network, "bash", "-c", &script])
}

/// Waits until a job of the network `from` reaches the server, or gives up as soon as it hears a refusal.
fn asks(d: &TestDaemon, from: &str, address: &str) -> String {
    let script = format!(
        "for i in $(seq 100); do if (exec 3<>/dev/tcp/{address}/7000) 2>/tmp/why; then echo reached; exit; fi; \
         grep -q refused /tmp/why || break; sleep 0.1; done; cat /tmp/why"
    );
    d.run(["--network", from, "bash", "-c", &script]).text()
}

#[test]
fn jobs_reach_what_their_network_says() {
    needs!(is_root() && has_program("ip") && has_program("nft"), "needs root, ip(8) and nft(8)");
    let (host, outside) = host_and_outside();
    let _served = outside.run(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    let _own = host.run(|| TcpListener::bind("203.0.113.2:8080").unwrap());
    host.run(|| {
        let mut d = TestDaemon::start();
        let (bridged, isolated) = (server(&d, "bridge"), server(&d, "isolated"));
        let targets = ["8.8.8.8", "203.0.113.2", "169.254.169.254", "10.9.9.9"].map(|a| reach(a, 8080));
        let script = format!("{}; cat /etc/resolv.conf; cat /proc/net/dev", targets.join("; "));
        for network in ["bridge", "isolated"] {
            let seen = d.run(["--network", network, "bash", "-c", &script]).text();
            for part in [
                "8.8.8.8 reached",
                "203.0.113.2 refused",
                "169.254.169.254 refused",
                "10.9.9.9 refused",
                "nameserver 169.254.1.53",
                "eth0:",
            ] {
                assert!(seen.contains(part), "{network}: {part:?} is not in {seen}");
            }
        }
        // The pool has sandboxes with a wire now: such a job finds its network ready, as the others did.
        let seen = d.run(["--network", "bridge", "bash", "-c", &script]).text();
        assert!(seen.contains("8.8.8.8 reached") && seen.contains("nameserver 169.254.1.53"), "{seen}");
        eventually("wires wait for jobs", || holds(joblet_inits_with_a_wire(&d) > 3));
        let (address, apart) = (address_of(&d, &bridged), address_of(&d, &isolated));
        assert!(address.starts_with("172.20.") && apart.starts_with("172.21."), "{address} {apart}");
        assert_eq!(asks(&d, "bridge", &address).trim(), "reached");
        for (from, to) in [("isolated", &address), ("bridge", &apart), ("isolated", &apart)] {
            let said = asks(&d, from, to);
            assert!(said.contains("No route to host"), "{from} to {to}: {said}");
        }
        let none = d.run(["--network", "none", "bash", "-c", &reach("8.8.8.8", 8080)]).text();
        assert!(none.contains("refused"), "{none}");
        let layers = d.rnx(["job", "status", "--security", &bridged]).ok();
        let kept = |name: &str| layers.lines().any(|line| line.contains(name) && line.contains(&address));
        assert!(kept("network.wire") && layers.contains("network.rules"), "{layers}");
        assert_eq!(d.status(&bridged)["network"], "bridge");
        host.shell("nft flush ruleset");
        eventually("the daemon writes its table again", || holds(rules(&host).contains("table inet joblet")));
        assert!(
            d.run(["--network", "bridge", "bash", "-c", &reach("8.8.8.8", 8080)]).text().contains("reached")
        );
        for id in [&bridged, &isolated] {
            gate::open(id, "go");
            d.until_status(id, "COMPLETED");
        }
        d.keep_descriptors();
        d.stop();
        assert_eq!(rules(&host), "", "no table is left");
        eventually("joblet0 is gone", || holds(!host.shell("ip -o link").contains("joblet0")));
    });
}

/// First processes of jobs and of warm sandboxes, by their host ids, that see an interface eth0.
fn joblet_inits_with_a_wire(d: &TestDaemon) -> usize {
    let inits = residue::processes_of(&d.uids()).into_iter().filter(|p| p.ends_with(" joblet-init"));
    let pids = inits.filter_map(|process| Some(process.split(' ').next()?.to_owned()));
    let has_eth0 = |pid: &String| {
        std::fs::read_to_string(format!("/proc/{pid}/net/dev")).is_ok_and(|text| text.contains("eth0:"))
    };
    pids.filter(has_eth0).count()
}

fn rules(host: &Namespace) -> String {
    host.shell("nft list ruleset")
}

#[test]
fn connections_of_a_job_outlive_the_daemon() {
    needs!(is_root() && has_program("ip") && has_program("nft"), "needs root, ip(8) and nft(8)");
    let (host, outside) = host_and_outside();
    let served = outside.run(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    host.run(|| {
        let node = Node::set_up();
        node.set("joblet.onShutdown", "keep");
        let d = node.start();
        let script = format!(
            "exec 3<>/dev/tcp/8.8.8.8/8080; echo before >&3; {}; echo after >&3; read line <&3; echo got $line",
            gate::wait_for("go")
        );
        let id = d.submit(["--network", "bridge", "bash", "-c", &script]);
        let (stream, _) = served.accept().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stream.try_clone().unwrap()));
        assert_eq!(lines.next().unwrap().unwrap(), "before");
        let node = d.crash();
        host.shell("nft flush ruleset");
        let mut d = node.start();
        assert_eq!(d.status(&id)["status"], "RUNNING");
        assert!(d.log().contains("took over the router"), "{}", d.log());
        gate::open(&id, "go");
        assert_eq!(lines.next().unwrap().unwrap(), "after");
        std::io::Write::write_all(&mut &stream, b"answer\n").unwrap();
        d.until_status(&id, "COMPLETED");
        assert!(d.rnx(["job", "log", &id]).text().contains("got answer"));
        // The next one gets an address of its own in the same router.
        let other = d.run(["--network", "bridge", "bash", "-c", &format!("{PRINT_ADDRESS}; {}", reach("8.8.8.8", 8080))]);
        assert!(other.text().contains("reached"), "{}", other.text());
        d.keep_descriptors();
        d.stop();
        assert_eq!(rules(&host), "", "no table is left");
    });
}

#[test]
fn job_whose_wire_is_gone_at_takeover_says_so() {
    needs!(is_root() && has_program("ip") && has_program("nsenter"), "needs root, ip(8) and nsenter(1)");
    let (host, _outside) = host_and_outside();
    host.run(|| {
        let node = Node::set_up();
        node.set("joblet.onShutdown", "keep");
        node.set("joblet.warmSandboxes", 0);
        let d = node.start();
        let id = d.submit(["--network", "bridge", "bash", "-c", &gate::wait_for("go")]);
        let mut inits = residue::processes_of(&d.uids()).into_iter().filter(|p| p.ends_with(" joblet-init"));
        let pid = inits.next_back().and_then(|p| p.split(' ').next().map(str::to_owned)).expect("its PID 1");
        let node = d.crash();
        let router = format!("/proc/{pid}/fd/{}", joblet::init_abi::slot::ROUTER);
        host.shell(&format!("nsenter --net={router} ip link delete job-{}", &id[..8]));
        let mut d = node.start();
        let status = d.status(&id);
        assert_eq!(status["status"], "RUNNING");
        assert!(status["message"].as_str().unwrap().starts_with("network: lost"), "{status}");
        gate::open(&id, "go");
        d.until_status(&id, "COMPLETED");
        d.keep_descriptors();
        d.stop();
    });
}

#[test]
fn job_does_not_start_without_the_network_it_asked_for() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let (host, _outside) = host_and_outside();
    host.shell("ip link add joblet0 type bridge");
    host.run(|| {
        let mut d = TestDaemon::start();
        let out = d.rnx(["job", "run", "--network", "bridge", "true"]);
        assert_ne!(out.code, 0);
        let said = format!("{}{}", out.text(), out.stderr);
        assert!(said.contains("network setup failed") && said.contains("joblet0"), "{said}");
        d.run(["--network", "none", "true"]).ok();
        d.keep_descriptors();
        d.stop();
        assert!(host.shell("ip -o link").contains("joblet0"), "it is not ours");
    });
}

#[test]
fn plan_names_the_network_of_a_job() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    // Its warm sandboxes have wires.
    let (host, _outside) = host_and_outside();
    host.run(plan_of_a_job);
}

fn plan_of_a_job() {
    let mut d = TestDaemon::with([("network.default_network", "isolated")]);
    let plan = d.rnx(["job", "run", "--explain", "true"]).ok();
    for part in [
        "lease an address of network isolated, 172.21.0.0/16",
        "(network mode isolated)",
        "connect to network isolated as <address>",
    ] {
        assert!(plan.contains(part), "{part:?} is not in {plan}");
    }
    d.keep_descriptors();
    d.stop();
}

/// A program that measures how fast it sends to the outside and receives from there, in bytes a second.
const MEASURE: &str = r"
import socket, sys, time
def up(size):
    s = socket.create_connection(('8.8.8.8', 8080))
    start = time.monotonic()
    s.sendall(b'u' + bytes(size))
    s.shutdown(socket.SHUT_WR)
    s.recv(1)
    return int(size / (time.monotonic() - start))
def down(size):
    s = socket.create_connection(('8.8.8.8', 8080))
    start, left = time.monotonic(), size
    s.sendall(b'd' + size.to_bytes(8, 'big'))
    while left > 0: left -= len(s.recv(65536))
    return int(size / (time.monotonic() - start))
size = int(sys.argv[1])
print('up', up(size), 'down', down(2 * size), flush=True)
";

/// Takes all that is sent, or sends as much as the request says.
fn sink_and_source(listener: &TcpListener) {
    while let Ok((mut stream, _)) = listener.accept() {
        std::thread::spawn(move || {
            let mut first = [0];
            stream.read_exact(&mut first).unwrap();
            if first == *b"u" {
                std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
                stream.write_all(b"k").unwrap();
            } else {
                let mut size = [0; 8];
                stream.read_exact(&mut size).unwrap();
                let wanted = u64::from_be_bytes(size);
                std::io::copy(&mut std::io::repeat(7).take(wanted), &mut stream).unwrap();
            }
        });
    }
}

#[test]
fn rate_limits_a_job_both_ways_and_no_other_one() {
    needs!(is_root() && has_program("ip") && has_program("nft"), "needs root, ip(8) and nft(8)");
    let (host, outside) = host_and_outside();
    let served = outside.run(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    std::thread::spawn(move || sink_and_source(&served));
    host.run(|| {
        let mut d = TestDaemon::start();
        let (up, down) = (2_u64 << 20, 4_u64 << 20);
        let rated = ["--network", "isolated", "--net-rate-up", "2M", "--net-rate-down", "4M"];
        let plan = d.rnx(["job", "run", "--explain"].iter().chain(&rated).chain(&["true"])).ok();
        let words = format!("limit the rate of the wire: {up} bytes a second up, {down} bytes a second down");
        assert!(plan.contains(&words), "{plan}");
        // It tries to take the limits off first.
        let script = format!(
            "tc qdisc del dev eth0 root; tc qdisc replace dev eth0 root pfifo; python3 -c \"$MEASURE\" {}; {}",
            4 << 20,
            gate::wait_for("go")
        );
        let variable = format!("MEASURE={MEASURE}");
        let id = d.submit(rated.iter().copied().chain(["-e", &variable, "bash", "-c", &script]));
        let measured = |id: &str| {
            eventually("the job has measured its rates", || {
                let log = d.rnx(["job", "log", "--no-follow", id]).text();
                let line = log.lines().find(|line| line.starts_with("up "))?.to_owned();
                let mut numbers = line.split(' ').filter_map(|word| word.parse::<u64>().ok());
                Some((numbers.next().unwrap(), numbers.next().unwrap()))
            })
        };
        let seen = measured(&id);
        let near = |seen: u64, wanted: u64| seen > wanted / 2 && seen < wanted * 13 / 10;
        assert!(near(seen.0, up) && near(seen.1, down), "{seen:?} for {up} and {down}");
        let layers = d.rnx(["job", "status", "--security", &id]).ok();
        assert!(layers.contains("network.rate") && layers.contains(&words[words.find("2097152").unwrap()..]), "{layers}");
        let status = d.status(&id);
        assert_eq!((status["netRateUp"].as_u64(), status["netRateDown"].as_u64()), (Some(up), Some(down)));
        // Beside it, a job without a limit, which measures until the machine lets it be fast.
        let script = format!(
            "until [ -e /work/go ]; do python3 -c \"$MEASURE\" {}; done",
            4 << 20
        );
        let other = d.submit(["--network", "isolated", "-e", &variable, "bash", "-c", &script]);
        eventually("a job without a limit is faster", || {
            let log = d.rnx(["job", "log", "--no-follow", &other]).text();
            let fast = |line: &str| {
                let mut numbers = line.split(' ').filter_map(|word| word.parse::<u64>().ok());
                numbers.next().is_some_and(|free| free > 2 * up) && numbers.next().is_some_and(|free| free > 2 * down)
            };
            holds(log.lines().any(fast))
        });
        for wrong in [["--network", "none"], ["--network", "isolated"]] {
            let rate = if wrong[1] == "none" { "1M" } else { "100" };
            let out = d.rnx(["job", "run"].iter().chain(&wrong).chain(&["--net-rate-up", rate, "true"]));
            assert!(out.code == 125 && out.stderr.contains("net_rate_up"), "{}", out.stderr);
        }
        for id in [&id, &other] {
            gate::open(id, "go");
            d.until_status(id, "COMPLETED");
        }
        d.keep_descriptors();
        d.stop();
    });
}

/// A running job that was started in a warm sandbox.
fn started_warm(d: &TestDaemon, args: &[&str]) -> String {
    let script = gate::wait_for("go");
    eventually("a job starts in a sandbox that was ready", || {
        let id = d.submit(args.iter().copied().chain(["sh", "-c", &script]));
        let is_warm = eventually("the log has the job", || {
            let log = d.log();
            let line = log.lines().find(|line| line.contains("job accepted") && line.contains(&id))?;
            Some(line.contains("starts_warm"))
        });
        if is_warm {
            return Some(id);
        }
        gate::open(&id, "go");
        d.until_status(&id, "COMPLETED");
        None
    })
}

/// The rate of a job as the kernel has it at both ends of its wire.
fn rate_in_force(d: &TestDaemon, id: &str) -> String {
    let layers = d.rnx(["--json", "job", "status", "--security", id]).json();
    let layer = layers.as_array().unwrap().iter().find(|layer| layer["layer"] == "network.rate");
    let layer = layer.unwrap_or_else(|| panic!("no rate in {layers}"));
    assert_eq!(layer["ok"], true, "{layer}");
    layer["seen"].as_str().unwrap().to_owned()
}

#[test]
fn job_with_a_rate_starts_in_a_warm_sandbox() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let (host, _outside) = host_and_outside();
    host.run(|| {
        let node = Node::set_up();
        node.set("joblet.warmSandboxes", 2);
        node.set("logging.level", "debug");
        node.set("network.default_network", "isolated");
        let mut d = node.start();
        for (args, expected) in [
            (&["--net-rate-up", "1M"][..], "1048576 bytes a second up, no limit down"),
            (&["--net-rate-down", "2M"], "no limit up, 2097152 bytes a second down"),
            (
                &["--network", "bridge", "--net-rate-up", "1M", "--net-rate-down", "8G"],
                "1048576 bytes a second up, 8589934592 bytes a second down",
            ),
        ] {
            let id = started_warm(&d, args);
            assert_eq!(rate_in_force(&d, &id), expected);
            gate::open(&id, "go");
            d.until_status(&id, "COMPLETED");
        }
        d.keep_descriptors();
        d.stop();
    });
}

#[test]
fn rate_of_the_node_holds_for_all_jobs_and_bounds_theirs() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let (host, _outside) = host_and_outside();
    host.run(|| {
        let node = Node::set_up();
        node.set("joblet.warmSandboxes", 2);
        node.set("logging.level", "debug");
        node.set("network.rate.up", "4M");
        node.set("network.rate.down", "0");
        node.set("network.default_network", "isolated");
        let mut d = node.start();
        for (args, expected) in [
            (&[][..], "4194304 bytes a second up, no limit down"),
            (
                &["--net-rate-up=1M", "--net-rate-down=1M"],
                "1048576 bytes a second up, 1048576 bytes a second down",
            ),
        ] {
            let id = started_warm(&d, args);
            assert_eq!(rate_in_force(&d, &id), expected);
            gate::open(&id, "go");
            d.until_status(&id, "COMPLETED");
        }
        let out = d.rnx(["job", "run", "--net-rate-up", "5M", "true"]);
        assert!(
            out.code == 125 && out.stderr.contains("above network.rate.up of this node"),
            "{}",
            out.stderr
        );
        d.run(["--network", "none", "true"]).ok();
        let script = gate::wait_for("go");
        workflow::start(&d, &format!("jobs:\n  a:\n    command: sh\n    args: [-c, {script:?}]\n"));
        let id = eventually("the job of the workflow runs", || {
            let jobs = d.rnx(["--json", "job", "list"]).json();
            let job = jobs.as_array().unwrap().iter().find(|job| job["status"] == "RUNNING")?.clone();
            Some(job["uuid"].as_str().unwrap().to_owned())
        });
        assert_eq!(rate_in_force(&d, &id), "4194304 bytes a second up, no limit down");
        gate::open(&id, "go");
        d.until_status(&id, "COMPLETED");
        d.keep_descriptors();
        d.stop();
    });
}

#[test]
fn warm_sandboxes_keep_no_address_from_a_job() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let (host, _outside) = host_and_outside();
    host.run(|| {
        let node = Node::set_up();
        node.set("joblet.warmSandboxes", 2);
        node.set("network.isolated_cidr", "172.21.0.0/28");
        node.set("network.default_network", "isolated");
        let mut d = node.start();
        eventually("both warm sandboxes have a wire", || holds(joblet_inits_with_a_wire(&d) == 2));
        // A job whose id is known before it starts takes no warm sandbox.
        let script = gate::wait_for("go");
        let ids: Vec<String> = (0..13).map(|_| d.submit(["--schedule", "1s", "sh", "-c", &script])).collect();
        for id in &ids {
            d.until_status(id, "RUNNING");
        }
        let out = d.rnx(["job", "run", "true"]);
        assert!(out.stderr.contains("no free address: 13 jobs use all"), "{}", out.stderr);
        for id in &ids {
            gate::open(id, "go");
        }
        for id in &ids {
            d.until_status(id, "COMPLETED");
        }
        d.keep_descriptors();
        d.stop();
    });
}
