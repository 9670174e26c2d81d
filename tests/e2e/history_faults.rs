//! History under faults: nothing is lost and nothing doubled.

use std::fs;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::history::{has_jq, logs, stored, until_complete};
use crate::helper::daemon::Node;
use crate::helper::random::Random;
use crate::helper::soak;
use crate::helper::wait::holds;
use crate::helper::{TestDaemon, eventually};

/// Rounds of a job that prints numbers to both streams, with pauses.
pub(super) const ROUNDS: u32 = 40;

/// The numbers from one to another, a line each.
pub(super) fn numbers(from: u32, to: u32) -> Vec<u8> {
    (from..to).flat_map(|n| format!("{n}\n").into_bytes()).collect()
}

/// Starts a job that prints numbers to both streams.
pub(super) fn flood(d: &TestDaemon) -> String {
    let round = "seq $((i * 10000)) $((i * 10000 + 9999)); seq $((i * 1000)) $((i * 1000 + 999)) >&2";
    let script = format!("i=0; while [ $i -lt {ROUNDS} ]; do {round}; sleep 0.05; i=$((i + 1)); done");
    d.submit(["sh", "-c", &script])
}

/// The sequences of all records of a job.
pub(super) fn sequences(d: &TestDaemon, id: &str) -> Vec<u64> {
    let dir = logs(d, id);
    let script = "cd \"$0\" && zcat stdout.log.gz stderr.log.gz | jq .sequence";
    let out = Command::new("bash").args(["-c", script]).arg(dir).output().unwrap();
    let mut all: Vec<u64> =
        String::from_utf8(out.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    all.sort_unstable();
    all
}

/// Waits for the end of a flood, and fails unless history has every byte and every sequence once.
#[track_caller]
pub(super) fn check(d: &TestDaemon, id: &str) {
    d.until_status(id, "COMPLETED");
    until_complete(d, id);
    assert!(stored(d, id, "stdout") == numbers(0, ROUNDS * 10_000), "stdout differs");
    assert!(stored(d, id, "stderr") == numbers(0, ROUNDS * 1000), "stderr differs");
    let all = sequences(d, id);
    assert!(all.iter().enumerate().all(|(n, sequence)| *sequence == n as u64 + 1), "{} records", all.len());
}

#[test]
fn kills_of_history_and_daemon_lose_and_double_nothing() {
    needs!(has_jq(), "jq is not installed");
    let node = Node::set_up();
    node.set("joblet.onShutdown", "keep");
    node.set("joblet.jobSpoolLimit", "8MiB");
    let mut d = node.start();
    let id = flood(&d);
    let mut random = Random::new();
    for round in 0..soak::rounds(6, 200) {
        let stored = fs::metadata(logs(&d, &id).join("stdout.log.gz")).map_or(0, |file| file.len());
        let pid = d.history();
        if random.below(2) == 0 {
            // In the middle of its work, not between two.
            eventually("it stores more, or the job has ended", || {
                let now = fs::metadata(logs(&d, &id).join("stdout.log.gz")).map_or(0, |file| file.len());
                holds(now > stored || d.status(&id)["status"] != "RUNNING")
            });
        }
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        if round % 4 == 3 {
            d = d.crash().start();
        }
    }
    check(&d, &id);
}

#[test]
fn history_that_hangs_slows_a_job_at_its_limit_alone() {
    needs!(has_jq(), "jq is not installed");
    let d = TestDaemon::with([("joblet.jobSpoolLimit", "1MiB")]);
    d.hold_history();
    let id = flood(&d);
    eventually("the job waits for room", || {
        holds(d.status(&id)["waitReason"].as_str().is_some_and(|why| why.contains("joblet.jobSpoolLimit")))
    });
    assert_eq!(d.run(["echo", "beside it"]).ok(), "beside it\n");
    d.release_history();
    check(&d, &id);
}

#[test]
fn trees_removed_under_a_running_job_harm_no_later_output() {
    needs!(has_jq(), "jq is not installed");
    let d = TestDaemon::start();
    let script = "echo first; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo second";
    let id = d.submit(["sh", "-c", script]);
    eventually("the first line is stored", || holds(logs(&d, &id).join("stdout.log.gz").exists()));
    fs::remove_dir_all(d.dir().join("logs")).unwrap();
    fs::remove_dir_all(d.dir().join("metrics")).unwrap();
    let next = d.submit(["echo", "next"]);
    d.until_status(&next, "COMPLETED");
    until_complete(&d, &next);
    assert_eq!(stored(&d, &next, "stdout"), b"next\n");
    d.rnx(["job", "stop", &id]).ok();
    until_complete(&d, &id);
}
