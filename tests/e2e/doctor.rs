//! `joblet doctor`, and the same checks at the daemon's start.

use crate::helper::certificates::Recipe;
use crate::helper::daemon::{JOBLET, Node};
use crate::helper::residue::{files, group_of};
use crate::helper::rnx::{Output, Running};
use crate::helper::skip::has_cgroup_controller;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

fn doctor(node: &Node, more: &[&str]) -> Output {
    let mut command = Command::new(JOBLET);
    command.arg("doctor").arg("--config").arg(node.config()).args(more).env_clear();
    Running::start(&mut command).finish()
}

/// The finding of one check.
fn finding(node: &Node, check: &str) -> Value {
    let all = doctor(node, &["--json"]).json();
    let found = all.as_array().unwrap().iter().find(|finding| finding["check"] == check);
    found.unwrap_or_else(|| panic!("no check {check} in {all}")).clone()
}

/// The check fails, its remedy is a command, and the check passes after the command.
fn fails_until_mended(node: &Node, check: &str, mode: (&Path, u32)) {
    let (path, wrong) = mode;
    fs::set_permissions(path, fs::Permissions::from_mode(wrong)).unwrap();
    assert_eq!(doctor(node, &[]).code, 1);
    let found = finding(node, check);
    assert_eq!(found["status"], "fail", "{found}");
    let mended = Command::new("sh").args(["-c", found["remedy"].as_str().unwrap()]).status().unwrap();
    assert!(mended.success(), "{found}");
    assert_eq!(finding(node, check)["status"], "ok");
}

#[test]
fn doctor_prints_one_line_per_check_and_changes_nothing() {
    let node = Node::set_up();
    let before = files(node.dir());
    let out = doctor(&node, &[]);
    let text = out.text();
    assert_eq!(out.code, 0, "best-effort, and nothing is broken: {text}");
    assert!(!text.contains('\x1b'), "colours are for terminals");
    let lines: Vec<_> = text.lines().collect();
    let (sum, checks) = lines.split_last().unwrap();
    assert!(sum.starts_with(&format!("{} checks: ", checks.len())) && sum.ends_with(" 0 fail"), "{sum}");
    for line in checks {
        let status = line.split_whitespace().next().unwrap();
        assert_eq!(line.contains(" -> "), status == "warn", "a fault has a remedy: {line}");
    }
    let all = doctor(&node, &["--json"]).json();
    let names: Vec<_> =
        all.as_array().unwrap().iter().map(|f| f["check"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names.len(), checks.len());
    for (name, line) in names.iter().zip(checks) {
        assert!(line.split_whitespace().nth(1) == Some(name), "{name} in {line}");
    }
    assert_eq!(files(node.dir()), before);
    assert_eq!(group_of(node.dir()), None, "the daemon's group is not made");
    assert!(!node.dir().join("work").exists() && !node.dir().join("run").exists());
}

#[test]
fn doctor_remedy_command_corrects_the_finding() {
    let node = Node::set_up();
    let key = node.dir().join("certs/admin-client-key.pem");
    fails_until_mended(&node, "certificates.keys", (&key, 0o644));
    fails_until_mended(&node, "config", (&node.config(), 0o640));
    let data = node.dir().join("data");
    fs::create_dir(&data).unwrap();
    node.set("dataDir", data.to_str().unwrap());
    fails_until_mended(&node, "data_dir.permissions", (&data, 0o777));
}

#[test]
fn faults_of_certificates_and_configuration_are_found() {
    let node = Node::set_up();
    let ca = crate::helper::certificates::Authority::from_pem(
        &fs::read(node.dir().join("ca/ca-cert.pem")).unwrap(),
        &fs::read(node.dir().join("ca/ca-key.pem")).unwrap(),
    );
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let put = |recipe: &Recipe| {
        let identity = ca.issue(recipe);
        node.set("security.serverCert", text(identity.cert));
        node.set("security.serverKey", text(identity.key));
        finding(&node, "certificates.server")
    };
    let expired = put(&Recipe { days: (-60, -1), for_clients: false, ..Recipe::client("server") });
    assert_eq!(expired["status"], "fail", "{expired}");
    assert!(expired["seen"].to_string().contains("expired"), "{expired}");
    assert!(expired["remedy"].to_string().contains("joblet setup"), "{expired}");
    let client = put(&Recipe::client("admin"));
    assert!(client["seen"].to_string().contains("purpose"), "{client}");

    // A client with an unknown role causes a warning and prevents no start.
    let stranger = ca.issue(&Recipe::client("janitor"));
    fs::write(node.dir().join("certs/client-cert.pem"), stranger.cert).unwrap();
    fs::write(node.dir().join("certs/client-key.pem"), stranger.key).unwrap();
    let clients = finding(&node, "certificates.clients");
    assert_eq!(clients["status"], "warn", "{clients}");
    assert!(clients["seen"].to_string().contains("janitor"), "{clients}");

    node.set("joblet.maxConcurrentJobs", "many");
    let config = finding(&node, "config");
    assert!(
        config["status"] == "fail" && config["seen"].to_string().contains("maxConcurrentJobs"),
        "{config}"
    );
}

#[test]
fn a_command_line_that_is_wrong_is_no_finding() {
    let run = |args: &[&str]| Running::start(Command::new(JOBLET).args(args).env_clear()).finish();
    assert_eq!(run(&["doctor", "--no-such"]).code, 2);
    assert_eq!(run(&["doctor", "please"]).code, 2);
    assert!(run(&["doctor", "--help"]).ok().contains("--json"));
    assert_eq!(run(&["doctor", "--config", "/no/such/file"]).code, 1);
}

#[test]
fn strict_daemon_does_not_start_where_limits_cannot_be_enforced() {
    needs!(
        !has_cgroup_controller("memory"),
        "this host has every controller (the vm tier starts a strict node)"
    );
    let node = Node::set_up();
    node.set("cgroup.enforcement", "strict");
    let out = Running::start(&mut node.command()).finish();
    assert_eq!(out.code, 1);
    for word in ["strict", "cgroup.memory", "no cpu controller", "cgroup_no_v1=all", "joblet doctor"] {
        assert!(out.stderr.contains(word), "{word} in {}", out.stderr);
    }
    assert_eq!(group_of(node.dir()), None, "its group is left");
    assert_eq!(doctor(&node, &[]).code, 1);
    assert_eq!(finding(&node, "cgroup.memory")["status"], "fail");
    // The same host in the mode best-effort, which promises no limit.
    node.set("cgroup.enforcement", "best-effort");
    assert_eq!(finding(&node, "cgroup.memory")["status"], "warn");
    let d = node.start();
    d.until_logged("controller=memory");
    d.until_logged("check=cgroup.mount");
    d.run(["true"]).ok();
}

#[test]
fn doctor_checks_a_running_daemons_cgroup_and_keeps_its_jobs() {
    let d = crate::helper::TestDaemon::start();
    let id = d.submit(["sleep", "1000"]);
    let mut command = Command::new(JOBLET);
    command.arg("doctor").arg("--config").arg(d.config()).env_clear();
    let text = Running::start(&mut command).finish().ok();
    let line = text.lines().find(|line| line.contains("cgroup.delegation")).unwrap();
    assert!(line.contains(&format!("pid {})", d.pid())), "{line}");
    assert_eq!(d.status(&id)["status"], "RUNNING");
    d.rnx(["job", "stop", &id]).ok();
}

#[test]
fn configured_quota_that_the_disk_lacks_fails_the_check() {
    let node = Node::set_up();
    let auto = finding(&node, "work.quota");
    needs!(auto["status"] == "warn", "this host's /tmp enforces project quotas");
    node.set("filesystem.workBackend", "disk");
    let disk = finding(&node, "work.quota");
    assert!(disk["status"] == "fail" && disk["remedy"].to_string().contains("prjquota"), "{disk}");
    node.set("volumes.backend", "quota");
    let volumes = finding(&node, "volumes.quotas");
    assert!(
        volumes["status"] == "fail" && volumes["remedy"].to_string().contains("volumes.backend"),
        "{volumes}"
    );
}
