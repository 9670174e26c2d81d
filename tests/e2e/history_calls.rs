//! The history process and the daemon end before a chosen system call, and system calls fail: strace(1) does both, at any
//! call of any thread.

use super::history::{has_jq, stored, until_complete};
use super::history_faults::{numbers, sequences};
use crate::helper::daemon::Node;
use crate::helper::random::Random;
use crate::helper::tracer::{self, Tracer};
use crate::helper::wait::{holds, within};
use crate::helper::{TestDaemon, eventually, soak};
use std::time::Duration;

/// Jobs that are stored at the same time.
const JOBS: usize = 4;
/// Rounds of each job.
const ROUNDS: u32 = 12;

/// Those faults whose name has the text in `JOBLET_TEST_FAULT`, such as `EMFILE`; all of them where it is not set.
fn selected<T: Copy>(faults: &[T], name: impl Fn(T) -> String) -> Vec<T> {
    let text = std::env::var("JOBLET_TEST_FAULT").unwrap_or_default();
    let found: Vec<T> = faults.iter().copied().filter(|fault| name(*fault).contains(&text)).collect();
    if found.is_empty() { faults.to_owned() } else { found }
}

fn has_tools() -> bool {
    has_jq() && tracer::is_there()
}

fn node() -> Node {
    let node = Node::set_up();
    node.set("joblet.onShutdown", "keep");
    node.set("joblet.jobSpoolLimit", "256KiB");
    node.set("persist.storage.local.commit_delay", "50ms");
    node.set("persist.storage.local.commit_interval", "10ms");
    node
}

fn submit(d: &TestDaemon) -> Vec<String> {
    let round = "seq $((i * 10000)) $((i * 10000 + 9999)); seq $((i * 1000)) $((i * 1000 + 999)) >&2";
    let script = format!("i=0; while [ $i -lt {ROUNDS} ]; do {round}; sleep 0.02; i=$((i + 1)); done");
    (0..JOBS).map(|_| d.submit(["sh", "-c", &script])).collect()
}

#[track_caller]
fn check(d: &TestDaemon, jobs: &[String], fault: &str) {
    for id in jobs {
        let ended = within(Duration::from_secs(60), || holds(d.status(id)["status"] == "COMPLETED"));
        assert!(ended.is_some(), "{fault}: {} does not end: {}", id, d.status(id));
        until_complete(d, id);
        assert!(stored(d, id, "stdout") == numbers(0, ROUNDS * 10_000), "{fault}: stdout of {id} differs");
        assert!(stored(d, id, "stderr") == numbers(0, ROUNDS * 1000), "{fault}: stderr of {id} differs");
        let all = sequences(d, id);
        assert!((1..=all.len() as u64).eq(all), "{fault}: sequences of {id}");
    }
}

/// Calls before which the history process is killed: each step of a commit, of a file's begin, of a job's end, of packing.
const STEPS: [&str; 9] = [
    "pwrite64",
    "sync_file_range",
    "fdatasync",
    "fsync",
    "rename,renameat,renameat2",
    "mkdir,mkdirat",
    "openat",
    "sendto",
    "ftruncate",
];

#[test]
fn kill_before_any_call_of_history_loses_and_doubles_nothing() {
    needs!(has_tools(), "strace or jq is not installed");
    let mut d = node().start();
    let (mut random, steps) = (Random::new(), selected(&STEPS, str::to_owned));
    let rounds = soak::rounds(4, 400);
    let mut killed = 0;
    for round in 0..rounds {
        let step = steps[random.below(steps.len() as u64) as usize];
        let number = 1 + random.below(12);
        let pid = d.history();
        let tracer =
            Tracer::attach(pid, &d.dir().join("strace"), step, &format!("signal=SIGKILL:when={number}"));
        let jobs = submit(&d);
        // Not every step comes so often.
        let alive = || std::fs::metadata(format!("/proc/{pid}/exe")).is_ok();
        let all_stored = || jobs.iter().all(|id| d.dir().join("logs").join(id).join("job.json").exists());
        eventually("history is killed, or has all", || holds(!alive() || all_stored()));
        killed += usize::from(!all_stored());
        drop(tracer);
        if round % 2 == 1 {
            // Its patience with a process that dies grows.
            d = d.crash().start();
        }
        check(&d, &jobs, &format!("kill before {step} number {number}"));
    }
    println!("{killed} kills");
}

/// Calls before which the daemon is killed: telling, releasing, removing.
const DAEMON_STEPS: [&str; 5] = ["fallocate", "fdatasync", "sendmsg", "sendto", "unlink,unlinkat"];

#[test]
fn kill_before_any_call_of_a_release_loses_nothing() {
    needs!(has_tools(), "strace or jq is not installed");
    let mut d = node().start();
    let (mut random, steps) = (Random::new(), selected(&DAEMON_STEPS, str::to_owned));
    for _ in 0..soak::rounds(3, 200) {
        let step = steps[random.below(steps.len() as u64) as usize];
        let number = 1 + random.below(12);
        let jobs = submit(&d);
        let pid = d.pid();
        let tracer =
            Tracer::attach(pid, &d.dir().join("strace"), step, &format!("signal=SIGKILL:when={number}"));
        let all_stored = || jobs.iter().all(|id| d.dir().join("logs").join(id).join("job.json").exists());
        let alive = || std::fs::metadata(format!("/proc/{pid}/exe")).is_ok();
        eventually("the daemon is killed, or history has all", || holds(!alive() || all_stored()));
        drop(tracer);
        d = d.crash().start();
        check(&d, &jobs, &format!("kill of the daemon before {step} number {number}"));
    }
}

/// Calls of the history process that fail, and how.
const FAILURES: [(&str, &str); 8] = [
    ("fdatasync", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("pwrite64", "EDQUOT"),
    ("sync_file_range", "EIO"),
    ("fsync", "EIO"),
    ("openat", "EMFILE"),
    ("rename,renameat,renameat2", "ENOSPC"),
    ("mkdir,mkdirat", "EROFS"),
];

#[test]
fn calls_of_history_that_fail_are_made_again_and_double_nothing() {
    needs!(has_tools(), "strace or jq is not installed");
    let d = node().start();
    let failures = selected(&FAILURES, |(call, error)| format!("{error} from {call}"));
    let first = Random::new().below(failures.len() as u64) as usize;
    for round in 0..soak::rounds(2, 160) {
        let (call, error) = failures[(first + round) % failures.len()];
        println!("{error} from {call}");
        let every = 2 + round % 3;
        let pid = d.history();
        let tracer =
            Tracer::attach(pid, &d.dir().join("strace"), call, &format!("error={error}:when=1+{every}"));
        let jobs = submit(&d);
        for id in &jobs {
            // Errors come while it runs; at least every third try succeeds.
            let _ = within(Duration::from_secs(4), || holds(d.status(id)["status"] == "COMPLETED"));
        }
        drop(tracer);
        check(&d, &jobs, &format!("{error} from {call}"));
        assert_eq!(d.history(), pid, "{error} from {call} ends the history process");
    }
}
