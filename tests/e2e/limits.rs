//! Limits on a host that can enforce them. Other hosts skip these tests by name, and the VM tier proves the same in a guest
//! that can.

use crate::helper::daemon::Node;
use crate::helper::programs;
use crate::helper::residue::cgroup2_mount;
use crate::helper::skip::has_cgroup_controller;
use crate::helper::{TestDaemon, eventually, wait::holds};

/// A strict node in a separate cgroup, because the cgroup of the tests has other processes.
fn strict_node() -> TestDaemon {
    let node = Node::set_up();
    // Named after the node: each test has its own.
    let name = node.dir().file_name().expect("a directory of its own").to_string_lossy().replace('.', "-");
    let base = cgroup2_mount().expect("there is a hierarchy").join(name);
    node.set("cgroup.enforcement", "strict");
    node.set("cgroup.baseDir", base.to_str().expect("a plain path"));
    node.set("joblet.defaultPidsLimit", 64);
    node.start()
}

#[test]
fn a_memory_hog_ends_as_out_of_memory() {
    needs!(
        has_cgroup_controller("memory"),
        "this host's cgroup v2 has no memory controller (the vm tier proves it)"
    );
    let d = strict_node();
    let hog = programs::c("hog_memory").display().to_string();
    let out = d.run(["--max-memory=64", "--upload", &hog, "./hog_memory"]);
    assert_eq!(out.code, 137, "{}", out.stderr);
    assert!(out.stderr.contains("out of memory"), "{}", out.stderr);
}

#[test]
fn a_fork_bomb_ends_at_the_process_limit() {
    needs!(
        has_cgroup_controller("pids"),
        "this host's cgroup v2 has no pids controller (the vm tier proves it)"
    );
    let d = strict_node();
    let bomb = programs::c("hog_processes").display().to_string();
    let text = d.run(["--upload", &bomb, "./hog_processes"]).ok();
    let children: u32 = text.split(' ').next().unwrap().parse().unwrap();
    assert!((60..64).contains(&children) && text.ends_with("EAGAIN\n"), "{text}");
}

#[test]
fn a_processor_hog_is_throttled() {
    needs!(
        has_cgroup_controller("cpu"),
        "this host's cgroup v2 has no cpu controller (the vm tier proves it)"
    );
    let d = strict_node();
    let hog = programs::c("hog_cpu").display().to_string();
    let id = d.submit(["--max-cpu=20", "--upload", &hog, "./hog_cpu"]);
    let mount = cgroup2_mount().expect("there is a hierarchy");
    let group = crate::helper::residue::directories(&mount, &|name| name.contains(&id))
        .pop()
        .expect("the job's group");
    eventually("the kernel throttles the job", || {
        let stat = std::fs::read_to_string(group.join("cpu.stat")).ok()?;
        let throttled: u64 = stat.lines().find_map(|l| l.strip_prefix("nr_throttled "))?.parse().ok()?;
        holds(throttled > 3)
    });
    d.rnx(["job", "stop", &id]).ok();
}

#[test]
fn the_number_of_processes_is_bounded_on_every_host() {
    // Each job has a host id of its own, so RLIMIT_NPROC counts the job's processes where no controller does.
    let d = TestDaemon::with([("joblet.defaultPidsLimit", 64)]);
    let bomb = programs::c("hog_processes").display().to_string();
    let text = d.run(["--upload", &bomb, "./hog_processes"]).ok();
    let children: u32 = text.split(' ').next().unwrap().parse().unwrap();
    assert!((56..64).contains(&children) && text.ends_with("EAGAIN\n"), "{text}");
}
