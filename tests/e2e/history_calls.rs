//! The history process and the daemon end before a chosen system call, and system calls fail: strace(1) does both, at any
//! call of any thread.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::history::{has_jq, stored, until_complete};
use super::history_faults::{numbers, sequences};
use crate::helper::daemon::Node;
use crate::helper::random::Random;
use crate::helper::wait::{PATIENCE, holds, within};
use crate::helper::{TestDaemon, eventually, soak};
use std::time::Duration;

/// Jobs that are stored at the same time.
const JOBS: usize = 4;
/// Rounds of each job.
const ROUNDS: u32 = 12;

/// A tracer of a process and what it starts, until it is dropped.
pub(super) struct Tracer {
    strace: Child,
    pid: i32,
}

impl Tracer {
    /// Changes calls of all threads, see `inject=` in strace(1).
    fn attach(pid: i32, log: &Path, call: &str, change: &str) -> Tracer {
        Tracer::start(pid, log, &["-e", &format!("trace={call}"), "-e", &format!("inject={call}:{change}")])
    }

    /// Traces all threads as the arguments of strace(1) say.
    pub(super) fn start(pid: i32, log: &Path, arguments: &[&str]) -> Tracer {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq"]).args(arguments);
        command.arg("-o").arg(log).args(["-p", &pid.to_string()]);
        let strace = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("strace is installed");
        let mut tracer = Tracer { strace, pid };
        eventually("the tracer has all threads, or the process is gone", || {
            let mut threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            let is_traced = |dir: std::fs::DirEntry| {
                let status = std::fs::read_to_string(dir.path().join("status")).unwrap_or_default();
                !status.contains("TracerPid:\t0")
            };
            holds(tracer.strace.try_wait().unwrap().is_some() || threads.all(is_traced))
        });
        tracer
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It leaves the process as it was. With one that was killed it may wait for ever.
        let pid = nix::unistd::Pid::from_raw(self.strace.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT);
        let exe = format!("/proc/{}/exe", self.pid);
        let is_gone = || std::fs::metadata(&exe).is_err();
        let _ =
            within(PATIENCE, || holds(self.strace.try_wait().is_ok_and(|end| end.is_some()) || is_gone()));
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// Those faults whose name has the text in `JOBLET_TEST_FAULT`, such as `EMFILE`; all of them where it is not set.
fn selected<T: Copy>(faults: &[T], name: impl Fn(T) -> String) -> Vec<T> {
    let text = std::env::var("JOBLET_TEST_FAULT").unwrap_or_default();
    let found: Vec<T> = faults.iter().copied().filter(|fault| name(*fault).contains(&text)).collect();
    if found.is_empty() { faults.to_owned() } else { found }
}

fn has_tools() -> bool {
    has_jq() && Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|s| s.success())
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
