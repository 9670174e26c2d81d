//! A payload against its first process, which has the same uid: seen from outside while the payload tries.

use std::fs;

use rustix::process::{Signal, pidfd_send_signal};

use crate::helper::residue::processes_of;
use crate::helper::skip::is_root;
use crate::job::{Bench, Order, Running};

/// Fields of proc_pid_stat(5), counted from 1.
const SESSION: usize = 6;
const TERMINAL: usize = 7;
const RT_PRIORITY: usize = 40;
const POLICY: usize = 41;

/// A field of a stat file. The name before it may hold spaces and brackets.
fn field(stat: &str, number: usize) -> i64 {
    let (_, behind) = stat.rsplit_once(") ").unwrap();
    behind.split(' ').nth(number - 3).unwrap().parse().unwrap()
}

fn stat_of(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/stat")).unwrap()
}

/// Policy and real-time priority of every thread of the job's processes, joblet-init's too.
fn threads(bench: &Bench) -> Vec<(String, i64, i64)> {
    let mut found = Vec::new();
    for process in processes_of(&(bench.ground.uid..bench.ground.uid + 1)) {
        let pid = process.split(' ').next().unwrap();
        for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
            found.push((process.clone(), field(&stat, POLICY), field(&stat, RT_PRIORITY)));
        }
    }
    found
}

fn end(running: &Running) {
    pidfd_send_signal(&running.started.init.pidfd, Signal::TERM).unwrap();
}

#[test]
fn no_thread_of_a_job_keeps_the_priority_of_its_start() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    // The attempt needs luck: joblet-init is a fraction of a millisecond away.
    for _ in 0..20 {
        let running = bench.start(&Order::program("usurp", &["priority", "2"]));
        running.hear("computing");
        let threads = threads(&bench);
        assert_eq!(threads.len(), 4, "joblet-init, the payload and its children: {threads:?}");
        let kept: Vec<_> =
            threads.iter().filter(|(_, policy, priority)| (*policy, *priority) != (0, 0)).collect();
        end(&running);
        let done = running.finish();
        assert!(kept.is_empty(), "{kept:?}; {done:?}");
    }
}

#[test]
fn child_of_the_payload_may_choose_its_own_scheduling() {
    needs!(is_root(), "needs root");
    let done = Bench::new().shell("chrt -b 0 sh -c 'chrt -p $$'; exit $?");
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    assert!(done.stdout.contains("SCHED_BATCH\n"), "{done:?}");
}

#[test]
fn payload_cannot_hold_its_first_process_back() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let running = bench.start(&Order::program("usurp", &["priority", "0"]));
    let mut told = Vec::new();
    for _ in 0..9 {
        told.push(running.line());
    }
    end(&running);
    running.finish();
    let granted: Vec<_> = told.iter().filter(|line| !line.ends_with(": EPERM")).collect();
    assert!(granted.is_empty(), "{granted:?}");
}

#[test]
fn forged_signals_are_not_forwarded() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let running = bench.start(&Order::program("usurp", &["signal"]));
    running.hear("ready");
    end(&running);
    let done = running.finish();
    assert_eq!((done.stdout.as_str(), done.code), ("got 15\n", Some(0)), "{done:?}");
}

#[test]
fn first_process_leads_a_session_without_a_terminal() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let running = bench.start(&Order::program("life", &["listen", "15"]));
    running.hear("ready");
    let init = running.started.init.pid;
    let stat = stat_of(init);
    assert_eq!((field(&stat, SESSION), field(&stat, TERMINAL)), (i64::from(init), 0), "{stat}");
    assert_ne!(field(&stat_of(std::process::id().cast_signed()), SESSION), i64::from(init));
    end(&running);
    running.finish();
}

#[test]
fn files_of_the_first_process_are_closed_to_the_payload() {
    needs!(is_root(), "needs root");
    let bench = Bench::new();
    let autogroup = |pid: u32| fs::read_to_string(format!("/proc/{pid}/autogroup")).unwrap_or_default();
    let before = autogroup(std::process::id());
    let script = "for f in autogroup oom_score_adj coredump_filter timerslack_ns comm clear_refs sched; do \
                  { echo 10 > /proc/1/$f; } 2>/dev/null && echo wrote $f; \
                  { echo 10 > /proc/1/task/1/$f; } 2>/dev/null && echo wrote $f of the thread; done; \
                  cat /proc/1/stat 2>/dev/null; ls /proc/1 2>/dev/null; ps -o comm= -p $$; exit 0";
    let done = bench.shell(script);
    assert_eq!((done.stdout.as_str(), done.code), ("sh\n", Some(0)), "{done:?}");
    assert_eq!(autogroup(std::process::id()), before, "the scheduling group of the daemon");
}
