//! Jobs of workflows and their networks: what their files ask of them, and the networks that they keep from being removed.

use std::net::TcpListener;

use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::gate;
use crate::helper::network::{has_program, host_and_outside};
use crate::helper::skip::is_root;
use crate::helper::wait::{eventually, holds};
use crate::helper::workflow::{run, start, until};

/// Says whether connections to 8.8.8.8 are made, at the ports that it gets.
const REACH: &str = "for p in $0 $@; do if (exec 3<>/dev/tcp/8.8.8.8/$p) 2>/tmp/why; then echo $p reached; else echo $p refused; fi; done";

fn jobs_of(d: &TestDaemon, network: &str) -> Option<u64> {
    let listed = d.rnx(["--json", "network", "list"]).json();
    let all = listed["networks"].as_array().unwrap();
    all.iter().find(|one| one["name"] == network)?["jobs"].as_u64()
}

#[test]
fn network_stays_while_a_workflow_will_submit_jobs_to_it() {
    needs!(is_root() && has_program("ip"), "needs root and ip(8)");
    let (host, _outside) = host_and_outside();
    host.run(|| {
        let node = Node::set_up();
        node.set("joblet.onShutdown", "keep");
        let d = node.start();
        d.rnx(["network", "create", "lab", "--cidr", "10.50.0.0/16"]).ok();
        let first =
            format!("first: {{command: bash, args: [-c, '{}'], network: none}}", gate::wait_for("go"));
        let flow = format!(
            "jobs:\n  {first}\n  then: {{command: 'true', array: 1-3%1, network: lab, requires: [first]}}\n  \
             never: {{command: 'true', network: lab, requires: [first: FAILED]}}\n"
        );
        let id = start(&d, &flow);
        let waits = |d: &TestDaemon, number: u64| {
            let out = d.rnx(["network", "remove", "lab"]);
            let words = format!("in use by {number} jobs ({number} still to be submitted by workflows)");
            assert!(out.code != 0 && out.stderr.contains(&words), "{}: {}", out.code, out.stderr);
            assert!(out.stderr.contains("rnx workflow list"), "{}", out.stderr);
            assert_eq!(jobs_of(d, "lab"), Some(number));
            let shown = d.rnx(["--json", "network", "inspect", "lab"]).json();
            assert!(shown["jobs"].as_array().is_none_or(Vec::is_empty), "they are no jobs yet: {shown}");
        };
        waits(&d, 4);
        // The next daemon knows it from the file.
        let d = d.crash().start();
        waits(&d, 4);
        let job = until(&d, &id, "RUNNING").id("first");
        gate::open(&job, "go");
        until(&d, &id, "COMPLETED");
        // The one that needed a failure is canceled, and the others have run.
        eventually("no job has it any more", || holds(d.rnx(["network", "remove", "lab"]).code == 0));
        // Workflows that wait for nothing else keep none either, once they are canceled.
        d.rnx(["network", "create", "lab", "--cidr", "10.50.0.0/16"]).ok();
        let id = start(&d, &flow);
        assert_eq!(jobs_of(&d, "lab"), Some(4));
        d.rnx(["workflow", "cancel", &id]).ok();
        d.rnx(["network", "remove", "lab"]).ok();
        let mut d = d;
        d.keep_descriptors();
        d.stop();
    });
}

#[test]
fn jobs_of_a_workflow_have_lists_rates_and_ports_of_its_file() {
    needs!(is_root() && has_program("ip") && has_program("nft"), "needs root, ip(8) and nft(8)");
    let (host, outside) = host_and_outside();
    let _served = outside.run(|| [8080, 8081].map(|port| TcpListener::bind(("0.0.0.0", port)).unwrap()));
    host.run(|| {
        let node = Node::set_up();
        node.set("network.egress.maximum", vec!["8.8.8.8", "!8.8.8.8:22"]);
        let mut d = node.start();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let flow = format!(
            "jobs:\n  listed:\n    command: bash\n    args: [-c, '{REACH}', '8080', '8081']\n    network: isolated\n    \
             egress: ['8.8.8.8:8080']\n    net_rate_up: 10M\n    net_rate_down: 65536\n    publish: ['{port}:80']\n  \
             usual:\n    command: bash\n    args: [-c, '{REACH}', '8080', '8081']\n    network: isolated\n"
        );
        let flow = until(&d, &start(&d, &flow), "COMPLETED");
        assert_eq!(flow.log(&d, "listed"), "8080 reached\n8081 refused\n");
        assert_eq!(flow.log(&d, "usual"), "8080 reached\n8081 reached\n");
        let status = d.status(&flow.id("listed"));
        assert_eq!(status["egress"], serde_json::json!(["8.8.8.8:8080"]), "{status}");
        let rates = (status["netRateUp"].as_u64(), status["netRateDown"].as_u64());
        assert_eq!(rates, (Some(10 << 20), Some(65536)), "{status}");
        for (keys, words) in [
            ("egress: ['9.9.9.9']", "line 4, column 3: job 'a': egress entry 9.9.9.9 is beyond what this node allows"),
            ("egress_preset: [pypi]", "preset:pypi (pypi.org:443) is beyond"),
            ("publish: ['80:80']", "job 'a': port 80 may not be published on this node"),
        ] {
            let text = format!("# Of a node.\n\njobs:\n  a:\n    command: x\n    network: isolated\n    {keys}\n");
            let out = run(&d, &[], &text);
            assert!(out.code == 125 && out.stderr.contains(words), "{keys}: {}", out.stderr);
        }
        // Without a name it is the node's own network, which has none of this.
        let out = run(&d, &[], "jobs: {a: {command: x, egress: ['8.8.8.8']}}");
        assert!(out.code == 125 && out.stderr.contains("job 'a': egress needs a network"), "{}", out.stderr);
        d.keep_descriptors();
        d.stop();
    });
}
