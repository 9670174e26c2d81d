//! Pools of the kernel that the processes of a host share: a job that empties them empties its own share.

use crate::helper::daemon::Node;
use crate::helper::rnx::Running;
use crate::helper::skip::has_cgroup_controller;
use crate::helper::{TestDaemon, eventually, programs};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

/// Pending signals of one user, few enough that one job can hold all of them.
const SIGNALS: u64 = 4096;

/// Pools that jobs have a share of.
const SHARED: [&str; 8] = ["inotify", "queues", "timers", "signals", "pipes", "epoll", "terminals", "locked"];

/// Pools without shares, which no job has a part in, and how programs learn it.
const CLOSED: [(&str, &str); 6] = [
    ("aio", "ENOSYS"),
    ("keys", "ENOSYS"),
    ("huge", "ENOMEM"),
    ("programs", "EPERM"),
    ("fanotify", "EPERM"),
    ("namespaces", "EPERM"),
];

/// The kind, the number that was taken, and the answer to the next one.
fn report(text: &str) -> BTreeMap<String, (u64, String)> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [kind, count, answer] = words.as_slice() else { return None };
        Some(((*kind).to_owned(), (count.parse().unwrap(), (*answer).to_owned())))
    };
    text.lines().filter_map(row).collect()
}

#[test]
fn emptied_pools_are_full_for_other_jobs_and_the_host() {
    // The daemon's limit holds for the owner of each namespace that it makes from now on.
    let d = TestDaemon::with([("joblet.warmSandboxes", 0)]);
    let few = Rlimit { current: Some(SIGNALS), maximum: Some(SIGNALS) };
    prlimit(Pid::from_raw(d.pid()), Resource::Sigpending, few).unwrap();
    let pools = programs::c("pools");
    let upload = pools.to_str().unwrap();
    let takers: Vec<String> = (0..2).map(|_| d.submit(["--upload", upload, "./pools", "take"])).collect();
    for taker in &takers {
        let text = eventually("the job holds what it could get", || held(&d, taker));
        let took = report(&text);
        for (kind, most) in [("inotify", 128), ("queues", 10), ("timers", SIGNALS), ("signals", SIGNALS)] {
            let (count, answer) = &took[kind];
            assert!(*count <= most && answer != "OK", "{kind} has no end: {text}");
        }
        for (kind, answer) in CLOSED {
            assert_eq!(took[kind], (0, answer.to_owned()), "{kind}: {text}");
        }
    }
    // Another job, while they hold it.
    let asked = report(&d.run(["--upload", upload, "./pools", "ask"]).ok());
    for kind in SHARED {
        assert_eq!(asked[kind], (1, "OK".to_owned()), "{kind}, asked by another job: {asked:?}");
    }
    // And root on the host. The host may have no huge pages at all.
    let mut command = Command::new("prlimit");
    command.arg(format!("--sigpending={SIGNALS}")).arg(&pools).arg("ask");
    let asked = report(&Running::start(&mut command).finish().ok());
    for (kind, got) in asked.iter().filter(|(kind, _)| *kind != "huge") {
        assert_eq!(*got, (1, "OK".to_owned()), "{kind}, asked by the host: {asked:?}");
    }
    for taker in takers {
        d.rnx(["job", "stop", &taker]).ok();
    }
}

fn held(d: &TestDaemon, job: &str) -> Option<String> {
    let text = fs::read_to_string(d.dir().join("spool").join(job).join("stdout")).ok()?;
    text.ends_with("done\n").then_some(text)
}

#[test]
fn limits_of_all_jobs_fit_into_the_processes_of_the_host() {
    needs!(!has_cgroup_controller("pids"), "with the pids controller the group above the jobs has the limit");
    let number = |name: &str| -> u64 {
        fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap().trim().parse().unwrap()
    };
    let host = number("pid_max").min(number("threads-max"));
    // More than fit at the default of 4096, on any host.
    let jobs = host / 1000;
    let node = Node::set_up();
    node.set("process.subidCount", jobs + 16);
    node.set("joblet.maxConcurrentJobs", jobs);
    let d = node.start();
    let text = d.run(["bash", "-c", "ulimit -u"]).ok();
    let each: u64 = text.trim().parse().unwrap();
    assert!(each >= 16 && each * jobs <= host / 4 * 3, "{jobs} jobs of {each} on a host of {host}");
    d.until_logged("no pids controller: jobs have fewer processes");
    // The limit is in force: fork fails in the job.
    let upload = programs::c("hog_processes");
    let text = d.run(["--upload", upload.to_str().unwrap(), "./hog_processes"]).ok();
    let (forked, why) = text.trim().split_once(' ').unwrap();
    assert!(forked.parse::<u64>().unwrap() < each && why == "EAGAIN", "{text}");
}
