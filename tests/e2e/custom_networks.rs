//! Networks that clients make, under a real daemon whose host is a namespace of the test's own.

use std::net::TcpListener;

use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::gate;
use crate::helper::network::{has_program, host_and_outside};
use crate::helper::rnx::Output;
use crate::helper::skip::is_root;
use crate::helper::soak;
use crate::helper::wait::{eventually, holds};

/// A job of this network that prints its address and serves port 7000 until its gate opens.
fn server(d: &TestDaemon, network: &str) -> (String, String) {
    let script = format!("python3 -m http.server 7000 >/dev/null 2>&1 & {}; kill %1", gate::wait_for("go"));
    let id = d.submit(["--network", network, "--name", "server", "bash", "-c", &script]);
    let address = d.status(&id)["address"].as_str().expect("a running job has its address").to_owned();
    (id, address.split('/').next().unwrap().to_owned())
}

/// Whether a job of this network reaches an address: "reached", or what it heard.
fn asks(d: &TestDaemon, network: &str, address: &str, port: u16) -> String {
    let script = format!(
        "for i in $(seq 100); do if (exec 3<>/dev/tcp/{address}/{port}) 2>/tmp/why; then echo reached; exit; fi; \
         grep -q refused /tmp/why || break; sleep 0.1; done; cat /tmp/why"
    );
    d.run(["--network", network, "bash", "-c", &script]).text().trim().to_owned()
}

fn refused(out: &Output, parts: &[&str]) {
    assert_ne!(out.code, 0, "{}", out.text());
    for part in parts {
        assert!(out.stderr.contains(part), "{part:?} is not in {}", out.stderr);
    }
}

#[test]
fn jobs_of_a_custom_network_reach_each_other_and_no_other() {
    needs!(is_root() && has_program("ip") && has_program("nft"), "needs root, ip(8) and nft(8)");
    let (host, outside) = host_and_outside();
    let _served = outside.run(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    host.run(|| {
        let node = Node::set_up();
        node.set("joblet.onShutdown", "keep");
        let d = node.start();
        let made = d.rnx(["network", "create", "lab", "--cidr", "10.50.0.0/16"]).ok();
        assert!(made.contains("Network created successfully") && made.contains("joblet-lab"), "{made}");
        d.rnx(["network", "create", "inner", "--cidr", "10.51.0.0/24", "--internal"]).ok();
        let (lab, lab_address) = server(&d, "lab");
        let (inner, inner_address) = server(&d, "inner");
        assert!(lab_address.starts_with("10.50.") && inner_address.starts_with("10.51.0."), "{lab_address}");
        assert_eq!(asks(&d, "lab", &lab_address, 7000), "reached");
        assert_eq!(asks(&d, "inner", &inner_address, 7000), "reached");
        assert_eq!(asks(&d, "lab", "8.8.8.8", 8080), "reached");
        for (from, to, port) in [
            ("inner", "8.8.8.8", 8080),
            ("lab", &*inner_address, 7000),
            ("inner", &*lab_address, 7000),
            ("bridge", &*lab_address, 7000),
            ("isolated", &*lab_address, 7000),
        ] {
            let said = asks(&d, from, to, port);
            assert!(said.contains("No route to host"), "{from} to {to}: {said}");
        }
        let listed = d.rnx(["--json", "network", "list"]).json();
        let jobs = |name: &str| {
            let all = listed["networks"].as_array().unwrap();
            all.iter().find(|network| network["name"] == name).unwrap()["jobs"].as_i64()
        };
        assert_eq!((jobs("lab"), jobs("inner"), jobs("bridge")), (Some(1), Some(1), Some(0)), "{listed}");
        let shown = d.rnx(["network", "inspect", "lab"]).ok();
        assert!(shown.contains(&lab_address) && shown.contains("server"), "{shown}");
        refused(&d.rnx(["network", "remove", "lab"]), &["in use by 1 job"]);
        let plan = d.rnx(["job", "run", "--explain", "--network", "lab", "true"]).ok();
        assert!(plan.contains("lease an address of network lab, 10.50.0.0/16"), "{plan}");

        // Both outlive a daemon that is killed, and what they reach does too.
        let d = d.crash().start();
        assert_eq!(asks(&d, "lab", &lab_address, 7000), "reached");
        assert!(asks(&d, "inner", "8.8.8.8", 8080).contains("No route to host"));
        for id in [&lab, &inner] {
            gate::open(id, "go");
            d.until_status(id, "COMPLETED");
        }
        eventually("no job has it any more", || holds(d.rnx(["network", "remove", "lab"]).code == 0));
        refused(
            &d.rnx(["job", "run", "--network", "lab", "true"]),
            &["\"lab\" does not exist", "rnx network create"],
        );
        refused(&d.rnx(["network", "remove", "lab"]), &["does not exist"]);
        // The router goes with the last job and the daemon, and the next one makes it with the networks of the database.
        let node = d.leave();
        eventually("joblet0 is gone", || holds(!host.shell("ip -o link").contains("joblet0")));
        let mut d = node.start();
        let listed = d.rnx(["network", "list"]).ok();
        assert!(listed.contains("inner") && !listed.contains("lab"), "{listed}");
        let (inner, inner_address) = server(&d, "inner");
        assert_eq!(asks(&d, "inner", &inner_address, 7000), "reached");
        assert!(asks(&d, "inner", "8.8.8.8", 8080).contains("No route to host"));
        gate::open(&inner, "go");
        d.until_status(&inner, "COMPLETED");
        d.keep_descriptors();
        d.stop();
        assert_eq!(host.shell("nft list ruleset"), "", "no table is left");
    });
}

#[test]
fn networks_that_cannot_be_are_refused_with_the_cause() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let (host, _outside) = host_and_outside();
    host.shell("ip route add 10.99.0.0/16 via 203.0.113.1");
    host.run(|| {
        let d = TestDaemon::with([("network.max_custom_networks", 2)]);
        let create = |name: &str, cidr: &str| d.rnx(["network", "create", name, "--cidr", cidr]);
        create("lab", "10.50.0.0/16").ok();
        for (name, cidr, parts) in [
            ("lab", "10.60.0.0/16", &["already"][..]),
            ("b", "10.50.7.0/24", &["overlaps network \"lab\" (10.50.0.0/16)"]),
            ("b", "172.20.0.0/24", &["overlaps network \"bridge\""]),
            ("b", "10.99.1.0/24", &["overlaps a route of the host (10.99.0.0/16)"]),
            ("b", "203.0.113.0/25", &["a route of the host"]),
            ("b", "127.1.0.0/16", &["loopback"]),
            ("b", "169.254.0.0/16", &["link-local"]),
            ("b", "224.1.0.0/16", &["multicast"]),
            ("b", "10.1.0.0/31", &["8 to 30 bits"]),
            ("b", "0.0.0.0/0", &["8 to 30 bits"]),
            ("b", "10.1.0.1/16", &["the range is 10.1.0.0/16"]),
            ("b", "fd00::/8", &["not four numbers"]),
            ("bridge", "10.1.0.0/16", &["reserved network name"]),
            ("a/b", "10.1.0.0/16", &["letters, digits"]),
            (&*"n".repeat(64), "10.1.0.0/16", &["1 to 63 characters"]),
        ] {
            refused(&create(name, cidr), parts);
        }
        let long = "n".repeat(63);
        create(&long, "10.1.0.0/30").ok();
        refused(&create("c", "10.2.0.0/16"), &["2 networks already", "max_custom_networks"]);
        refused(&d.rnx(["network", "remove", "bridge"]), &["built-in"]);
        refused(&d.rnx(["network", "inspect", "nothing"]), &["does not exist"]);
        let viewer = |args: &[&str]| d.rnx(["--node", "viewer"].iter().chain(args));
        viewer(&["network", "list"]).ok();
        refused(&viewer(&["network", "remove", "lab"]), &["not allowed"]);
        for _ in 0..soak::rounds(3, 500) {
            d.rnx(["network", "remove", "lab"]).ok();
            create("lab", "10.50.0.0/16").ok();
        }
        // A network with room for one job has it again as soon as that one is gone.
        for _ in 0..3 {
            assert_eq!(d.run(["--network", &long, "echo", "ran"]).ok().trim(), "ran");
        }
        d.rnx(["network", "remove", &long]).ok();
        d.rnx(["network", "remove", "lab"]).ok();
        let mut d = d;
        d.keep_descriptors();
        d.stop();
    });
}
