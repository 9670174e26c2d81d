//! `rnx job run --explain`: a start follows the printed plan, and the explanation itself changes nothing.

use crate::helper::TestDaemon;
use crate::helper::daemon::Node;
use crate::helper::residue::{directories, files, group_of};
use serde_json::Value;
use std::fs;

const FLAGS: [&str; 2] = ["--max-memory=64", "--max-cpu=50"];

fn explain(d: &TestDaemon, more: &[&str]) -> Vec<String> {
    let args = ["--json", "job", "run", "--explain"].into_iter().chain(FLAGS).chain(more.iter().copied());
    let out = d.rnx(args);
    out.ok();
    out.json().as_array().unwrap().iter().map(|step| step.as_str().unwrap().to_owned()).collect()
}

/// The rest of each step that begins with `before`.
fn behind<'a>(plan: &'a [String], before: &str) -> Vec<&'a str> {
    plan.iter().filter_map(|step| step.strip_prefix(before)).collect()
}

/// The mount points in the plan, in its order.
fn places(plan: &[String]) -> Vec<String> {
    let place = |step: &String| {
        let words: Vec<&str> = step.split(' ').collect();
        match words.as_slice() {
            ["mount", _, "at", at, ..] | ["hide", at] | ["make", at, "read-only"] => Some((*at).to_owned()),
            _ => None,
        }
    };
    plan.iter().filter_map(place).collect()
}

#[test]
fn the_plan_is_what_a_start_then_does() {
    let d = TestDaemon::start();
    let plan = explain(&d, &["--workdir=sub", "sleep", "1000"]);
    let script =
        "cat /proc/self/mountinfo; echo ==; cat /proc/self/limits; echo ==; hostname; umask; pwd; sleep 1000";
    let id = d.submit(FLAGS.into_iter().chain(["--workdir=sub", "sh", "-c", script]));
    d.until_status(&id, "RUNNING");
    let seen = crate::helper::eventually("the job has printed what it sees", || {
        let text = fs::read_to_string(d.dir().join("spool").join(&id).join("stdout")).unwrap_or_default();
        text.contains("/work/sub\n").then_some(text)
    });
    let parts: Vec<&str> = seen.split("==\n").collect();

    // The kernel lists mounts in the order in which they were made, beginning with the job's own /proc.
    let made: Vec<&str> = parts[0].lines().map(|line| line.split(' ').nth(4).unwrap()).collect();
    let own: Vec<_> = made.into_iter().skip_while(|at| *at != "/proc").map(str::to_owned).collect();
    assert_eq!(places(&plan), own);
    assert_eq!(behind(&plan, "mount the work directory at "), ["/work"]);
    let size = |at: &str| {
        let line = parts[0].lines().find(|line| line.contains(&format!(" {at} "))).unwrap();
        line.split("size=").nth(1).unwrap().split('k').next().unwrap().parse::<u64>().unwrap() * 1024
    };
    for at in ["/tmp", "/dev/shm"] {
        let step = behind(&plan, &format!("mount tmpfs at {at} "));
        assert!(step.len() == 1 && step[0].contains(&format!("size={}", size(at))), "{step:?}");
    }
    let limits = behind(&plan, "set limit ");
    assert_eq!(limits.len(), 9, "{plan:?}");
    for (name, row) in [("RLIMIT_NOFILE", "Max open files"), ("RLIMIT_NPROC", "Max processes")] {
        let line = parts[1].lines().find_map(|line| line.strip_prefix(row)).unwrap();
        let values: Vec<_> = line.split_whitespace().take(2).collect();
        assert!(limits.contains(&format!("{name} to {}", values.join("/")).as_str()), "{limits:?} {line}");
    }
    let told: Vec<&str> = parts[2].lines().collect();
    assert_eq!(behind(&plan, "set hostname ")[0].replace("<id>", &id[..8]), told[0]);
    assert!(told[1].ends_with(behind(&plan, "set umask ")[0]), "{}", told[1]);

    // The values in the plan equal those in the running job's group.
    let layers = d.rnx(["--json", "job", "status", "--security", &id]).json();
    let written = behind(&plan, "write ");
    assert!(!written.is_empty(), "{plan:?}");
    for step in written.into_iter().filter(|step| !step.contains(" to /")) {
        let (value, file) = step.rsplit_once(" to ").unwrap();
        let layer = layers.as_array().unwrap().iter().find(|layer| layer["layer"] == file).unwrap();
        assert!(layer["expected"] == value && layer["ok"] == true, "{step}: {layer}");
    }
    let unenforced = d.status(&id)["unenforcedLimits"].clone();
    for limit in unenforced.as_array().unwrap() {
        assert!(plan.contains(&limit.as_str().unwrap().to_owned()), "{limit} in {plan:?}");
    }
    d.rnx(["job", "stop", &id]).ok();
}

#[test]
fn explaining_starts_records_and_leaves_nothing() {
    // Warm sandboxes are made before any request.
    let d = TestDaemon::with([("joblet.warmSandboxes", 0)]);
    fs::write(d.dir().join("input"), [7; 1000]).unwrap();
    let before = files(&d.dir().join("spool"));
    let text = d.rnx(["job", "run", "--explain", "--upload=input", "-e", "A=b", "touch", "x y"]).ok();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.iter().any(|line| line.contains("1 uploaded") && line.contains("1000 bytes")), "{text}");
    let last = lines.last().unwrap();
    assert!(last.starts_with("start \"touch\" \"x y\" in /work, with 1 variables"), "{last}");
    assert!(text.contains("system call policy: ") && text.contains("execute joblet-init"), "{text}");
    assert_eq!(d.rnx(["--json", "job", "list"]).json(), Value::Array(Vec::new()));
    assert_eq!(files(&d.dir().join("spool")), before);
    assert!(!d.log().contains("job started"), "{}", d.log());
    if let Some(group) = group_of(d.dir()) {
        assert_eq!(directories(&group, &|name| name.contains("<id>")), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn a_plan_is_refused_where_the_start_would_be() {
    let node = Node::set_up();
    node.set("cgroup.enforcement", "strict");
    node.set("cgroup.enableControllers", serde_yaml::Value::Sequence(Vec::new()));
    let d = node.start();
    let out = d.rnx(["job", "run", "--explain", "--max-memory=64", "true"]);
    assert_eq!(out.code, 125);
    assert!(out.stderr.contains("is not enforced: no cpu controller"), "{}", out.stderr);
    for (flags, word) in [("--max-cpu=-1", "cpu"), ("--network=host", "host"), ("--workdir=/proc", "work")] {
        let out = d.rnx(["job", "run", "--explain", flags, "true"]);
        assert!(out.code == 125 && out.stderr.contains(word), "{} {}", out.code, out.stderr);
    }
    let out = d.rnx(["job", "run", "--explain", "--wait", "true"]);
    assert!(out.code == 125 && out.stderr.contains("--explain"), "{} {}", out.code, out.stderr);
    let out = d.rnx(["--node=viewer", "job", "run", "--explain", "true"]);
    assert!(out.stderr.contains("not allowed to perform operation run_job"), "{}", out.stderr);
    assert_eq!(d.rnx(["--json", "job", "list"]).json(), Value::Array(Vec::new()));
}
