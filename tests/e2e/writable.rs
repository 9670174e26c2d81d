//! `--writable`: jobs that write the root of their runtime, each for itself, under a real daemon.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::profiles;
use super::runtimes::{install_image, install_tools, refused, store};
use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::gate;
use crate::helper::profile::with_containers;
use crate::helper::skip::{is_root, static_busybox};
use crate::helper::wait::{eventually, holds};
use crate::helper::workflow;

fn node() -> Node {
    let node = Node::set_up();
    install_image(&store(node.dir()), "image@1.0.0");
    node
}

const IMAGE: [&str; 2] = ["--runtime=image", "--writable"];
/// Changes, removes and makes files of the image, and says what is there then.
const CHANGE: &str = "cat lower; echo mine >lower; echo new >/bin/new; cat lower /bin/new; pwd";

fn broken_layers(d: &TestDaemon, id: &str) -> Vec<serde_json::Value> {
    let layers = d.rnx(["--json", "job", "status", "--security", id]).json();
    let layers = layers.as_array().unwrap().clone();
    layers.into_iter().filter(|layer| layer["ok"] != true && layer["unenforced"] != true).collect()
}

#[test]
fn job_writes_its_root_and_leaves_the_runtime_as_it_was() {
    needs!(is_root() && static_busybox(), "needs root and a static busybox");
    let d = node().start();
    let sh = |flags: &[&str], script: &str| d.run(flags.iter().copied().chain(["sh", "-c", script]));
    // More often than there are warm sandboxes, of which each is for one kind of job.
    for _ in 0..4 {
        assert_eq!(sh(&IMAGE, CHANGE).ok(), "lower\nmine\nnew\n/app\n");
        let plain = sh(&["--runtime=image"], "cat lower; echo x >lower; ls /bin/new");
        assert!(
            plain.stdout == b"lower\n" && plain.stderr.contains("Read-only file system"),
            "{}",
            plain.text()
        );
    }
    let id = d.submit(IMAGE.into_iter().chain(["sleep", "1000"]));
    let other = d.submit(["--runtime=image", "sleep", "1000"]);
    assert_eq!(broken_layers(&d, &id), Vec::<serde_json::Value>::new());
    assert_eq!(broken_layers(&d, &other), Vec::<serde_json::Value>::new());
    assert_eq!((&d.status(&id)["writable"], &d.status(&other)["writable"]), (&json!(true), &json!(null)));
    assert!(d.rnx(["job", "status", &id]).ok().contains("Root: writable\n"));
    for id in [id, other] {
        d.rnx(["job", "stop", &id]).ok();
    }
    let plan = d.rnx(["job", "run", "--explain", IMAGE[0], IMAGE[1], "true"]).ok();
    for step in [
        "make /work and the layer over the root: a ",
        "with a layer that it may write",
        "map the owners of files",
    ] {
        assert!(plan.contains(step), "{step}: {plan}");
    }
    let flow =
        "jobs: {a: {runtime: image, writable: true, command: sh, args: [-c, 'echo x >/new; cat /new']}}";
    assert_eq!(workflow::finish(&d, flow, "COMPLETED").log(&d, "a"), "x\n");
    d.rnx(["runtime", "remove", "image"]).ok();
    d.stop();
}

#[test]
fn root_of_the_host_is_written_by_no_job() {
    needs!(is_root(), "needs root");
    let node = Node::set_up();
    install_tools(&store(node.dir()), "tools@1.0.0");
    let d = node.start();
    refused(&d.run(["--writable", "true"]), &["writable needs a runtime", "/work, /tmp and volumes"]);
    let base = ["runtime \"tools@1.0.0\" lies over the host's files (base: host)", "base: none"];
    refused(&d.run(["--runtime=tools", "--writable", "true"]), &base);
    refused(&d.rnx(["job", "run", "--explain", "--runtime=tools", "--writable", "true"]), &base);
    refused(
        &workflow::run(&d, &[], "jobs: {a: {command: 'true', writable: true}}"),
        &["job 'a': writable needs a runtime"],
    );
    let flow = "jobs: {a: {command: 'true', runtime: tools, writable: true}}";
    refused(&workflow::run(&d, &[], flow), &base);
    d.stop();
}

#[test]
fn uploads_volumes_and_outputs_are_where_they_always_are() {
    needs!(is_root() && static_busybox(), "needs root and a static busybox");
    let d = node().start();
    fs::write(d.dir().join("given"), "from the client\n").unwrap();
    let flags = ["--runtime=image", "--writable", "--workdir=/work", "--upload=given"];
    let script = "cat given; pwd; echo more >>given; cat /work/given; test -w /work && echo writable";
    let seen = d.run(flags.into_iter().chain(["sh", "-c", script])).ok();
    assert_eq!(seen, "from the client\n/work\nfrom the client\nmore\nwritable\n");
    let flow = "jobs:
  a: {runtime: image, writable: true, command: sh, args: [-c, 'echo made >/work/out; echo x >/top'], outputs: [out]}
  b: {runtime: image, writable: true, command: sh, args: [-c, 'cat /work/out'], inputs: {a: [out]}, requires: [{a: COMPLETED}]}";
    assert_eq!(workflow::finish(&d, flow, "COMPLETED").log(&d, "b"), "made\n");
    d.rnx(["runtime", "remove", "image"]).ok();
    d.stop();
}

#[test]
fn writable_root_outlives_its_daemon_and_goes_with_its_job() {
    needs!(is_root() && static_busybox(), "needs root and a static busybox");
    let node = node();
    node.set("joblet.onShutdown", "keep");
    node.set("joblet.warmSandboxes", 2);
    let d = node.start();
    let script =
        format!("echo mine >lower; {}; cat lower; echo again >lower; cat lower", gate::wait_for("end"));
    let id = d.submit(IMAGE.into_iter().chain(["sh", "-c", &script]));
    d.until_status(&id, "RUNNING");
    let d = d.crash().start();
    assert_eq!(broken_layers(&d, &id), Vec::<serde_json::Value>::new());
    assert_eq!(d.status(&id)["writable"], json!(true));
    refused(&d.rnx(["runtime", "remove", "image"]), &["in use by 1 job"]);
    gate::open(&id, "end");
    d.until_status(&id, "COMPLETED");
    assert_eq!(d.rnx(["job", "log", &id]).ok(), "mine\nagain\n");
    assert_eq!(d.status(&id)["writable"], json!(true), "its record says so too");
    d.rnx(["runtime", "remove", "image"]).ok();
    let work = d.dir().join("work");
    eventually("no file of the job is left", || holds(is_empty(&work)));
    d.stop();
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}

#[test]
fn container_owns_its_root_and_a_strict_job_what_is_roots() {
    needs!(is_root() && static_busybox(), "needs root and a static busybox");
    let node = with_containers(Node::set_up);
    profiles::install_image(node.dir(), "");
    let d = node.start();
    let script = "stat -c '%U %a' /data; chown 0 /data; stat -c %U /data; echo more >>/data/table; cat /data/table; \
                  echo 'new:x:5:5::/:/bin/sh' >>/etc/passwd; su new -c 'id -un; echo x >/bin/y'";
    let flags = ["--runtime=database", "--writable", "--profile=container", "sh", "-c", script];
    let out = d.run(flags);
    assert_eq!(
        String::from_utf8_lossy(&out.stdout),
        "postgres 700\nroot\nrows\nmore\nnew\n",
        "{}",
        out.text()
    );
    assert!(out.stderr.contains("can't create /bin/y: Permission denied"), "{}", out.text());
    let script =
        "echo x >>/etc/passwd && echo own; cat /data/table 2>&1; rm -r /data 2>/dev/null || echo kept; id -u";
    for (flag, id) in [("--user=root", "0"), ("--user=job", "1000")] {
        let flags = ["--runtime=database", "--writable", "--profile=strict", flag, "sh", "-c", script];
        let text = d.run(flags).ok();
        assert!(text.starts_with("own\n") && text.ends_with(&format!("\n{id}\n")), "{text}");
        assert!(text.contains("'/data/table': Permission denied\nkept\n"), "{text}");
    }
    d.rnx(["runtime", "remove", "database"]).ok();
    d.stop();
}
