//! `rnx job status --security`: what the kernel shows around a running job.

use crate::helper::daemon::Node;
use crate::helper::{TestDaemon, eventually, wait::holds};
use serde_json::Value;
use std::fs;
use std::path::Path;

pub(super) fn layers(d: &TestDaemon, id: &str) -> (i32, Vec<Value>) {
    let out = d.rnx(["--json", "job", "status", "--security", id]);
    (out.code, out.json().as_array().unwrap_or_else(|| panic!("{} {}", out.text(), out.stderr)).clone())
}

pub(super) fn layer<'a>(layers: &'a [Value], name: &str) -> &'a Value {
    layers.iter().find(|layer| layer["layer"] == name).unwrap_or_else(|| panic!("no {name} in {layers:?}"))
}

/// The payload's process id on the host: the process of the job's group that has id 2 inside.
pub(super) fn payload(d: &TestDaemon, id: &str) -> i32 {
    let group =
        crate::helper::residue::group_of(d.dir()).expect("the daemon's group").join(format!("job-{id}"));
    let pids = fs::read_to_string(group.join("cgroup.procs")).unwrap();
    let inside = |pid: &&str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t2"))
    };
    pids.lines().find(inside).expect("a payload").parse().unwrap()
}

#[test]
pub(super) fn every_layer_of_a_running_job_is_read_back_as_promised() {
    let d = TestDaemon::start();
    let id = d.submit(["--max-memory=64", "--max-cpu=50", "sleep", "1000"]);
    let (code, all) = layers(&d, &id);
    assert_eq!(code, 0, "{all:?}");
    for kind in ["user", "pid", "mnt", "ipc", "uts", "cgroup", "net"] {
        assert_eq!(layer(&all, &format!("namespace.{kind}"))["ok"], true);
    }
    let number = payload(&d, &id);
    let there = fs::read_link(format!("/proc/{number}/ns/mnt")).unwrap();
    assert_eq!(layer(&all, "namespace.mnt")["seen"], there.to_str().unwrap(), "told as it is");
    let uid = fs::read_to_string(format!("/proc/{number}/uid_map")).unwrap();
    let uid: Vec<_> = uid.split_whitespace().collect();
    assert_eq!(layer(&all, "ids.uid_map")["seen"], uid.join(" "));
    for name in
        ["capabilities", "no_new_privs", "seccomp", "processes", "RLIMIT_NOFILE", "mount /", "mount /work"]
    {
        assert_eq!(layer(&all, name)["ok"], true);
    }
    // As many mounts as the kernel lists, none left out.
    let mounts = fs::read_to_string(format!("/proc/{number}/mountinfo")).unwrap().lines().count();
    assert_eq!(all.iter().filter(|l| l["layer"].as_str().unwrap().starts_with("mount ")).count(), mounts);
    // Limits: in force, or named as not enforced, and in agreement with the status.
    let unenforced = d.status(&id)["unenforcedLimits"].to_string();
    for (controller, limit) in [("memory", "67108864"), ("cpu", "50000 100000")] {
        let found = layer(&all, &format!("{controller}.max"));
        if unenforced.contains(&format!("{controller} controller")) {
            assert!(found["unenforced"] == true && found["ok"] == false, "{found}");
            assert!(found["seen"].to_string().contains("not enforced: "), "{found}");
        } else {
            assert!(found["ok"] == true && found["seen"] == limit, "{found}");
        }
    }
    let text = d.rnx(["job", "status", "--security", &id]).ok();
    assert!(text.lines().last().unwrap().starts_with(&format!("{} layers: ", all.len())), "{text}");
    d.rnx(["job", "stop", &id]).ok();
}

#[test]
fn security_layer_changed_under_a_running_job_is_not_ok() {
    let d = TestDaemon::start();
    let id = d.submit(["sleep", "1000"]);
    let number = payload(&d, &id);
    assert_eq!(layers(&d, &id).0, 0);
    // Root on the host raises a limit of the job, which the job itself cannot do.
    let raised = rustix::process::Rlimit { current: Some(4096), maximum: Some(8192) };
    let pid = rustix::process::Pid::from_raw(number);
    rustix::process::prlimit(pid, rustix::process::Resource::Sigpending, raised).map(drop).unwrap_or_else(
        |why| {
            // Without CAP_SYS_RESOURCE a hard limit can only be lowered.
            assert_eq!(why, rustix::io::Errno::PERM);
        },
    );
    let kept = fs::read_to_string(format!("/proc/{number}/limits")).unwrap();
    let is_raised = kept.lines().any(|line| line.starts_with("Max pending signals") && line.contains("8192"));
    let (code, all) = layers(&d, &id);
    assert_eq!(code, i32::from(is_raised), "{all:?}");
    assert_eq!(layer(&all, "RLIMIT_SIGPENDING")["ok"], !is_raised);
    // Root remounts a file system of the job without its promised attribute.
    let mut enter = std::process::Command::new("nsenter");
    enter.args([&format!("--mount=/proc/{number}/ns/mnt"), "mount", "-o", "remount,bind,suid", "/tmp"]);
    let output = enter.output().expect("util-linux");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let out = d.rnx(["job", "status", "--security", &id]);
    assert_eq!(out.code, 1);
    let line = out.text().lines().find(|line| line.starts_with("mount /tmp ")).unwrap().to_owned();
    assert!(line.contains("NOT OK"), "{line}");
    d.rnx(["job", "stop", &id]).ok();
}

#[test]
fn only_running_jobs_are_looked_at() {
    let d = TestDaemon::start();
    let id = d.submit(["true"]);
    d.until_status(&id, "COMPLETED");
    let out = d.rnx(["job", "status", "--security", &id]);
    assert_eq!(out.code, 6, "{}", out.stderr);
    assert!(out.stderr.contains("is not running"), "{}", out.stderr);
    assert_eq!(d.rnx(["job", "status", "--security", "ffffffff"]).code, 5);
    // Jobs that end during the request get an answer or a clear refusal.
    for _ in 0..20 {
        let id = d.submit(["sleep", "0.02"]);
        let out = d.rnx(["job", "status", "--security", &id]);
        assert!(out.code == 0 || out.stderr.contains("is not running"), "{} {}", out.code, out.stderr);
    }
}

#[test]
fn job_with_the_hosts_network_is_reported_as_such() {
    let node = Node::set_up();
    node.set("network.allow_host", true);
    let d = node.start();
    let id = d.submit(["--network=host", "sleep", "1000"]);
    let (code, all) = layers(&d, &id);
    assert_eq!(code, 0, "{all:?}");
    let net = layer(&all, "namespace.net");
    let host = fs::read_link(Path::new("/proc/self/ns/net")).unwrap();
    assert!(net["ok"] == true && net["seen"] == host.to_str().unwrap(), "{net}");
    assert!(net["expected"].to_string().contains("the host's"), "{net}");
    d.rnx(["job", "stop", &id]).ok();
}

#[test]
fn every_process_of_a_job_is_looked_at() {
    let d = TestDaemon::start();
    let id = d.submit(["sh", "-c", "sleep 1000 & sleep 1001 & wait"]);
    let group = crate::helper::residue::group_of(d.dir()).unwrap().join(format!("job-{id}"));
    eventually("both children run", || {
        holds(fs::read_to_string(group.join("cgroup.procs")).unwrap().lines().count() == 4)
    });
    assert_eq!(layer(&layers(&d, &id).1, "processes")["seen"], "all 4");
    d.rnx(["job", "stop", &id]).ok();
}
