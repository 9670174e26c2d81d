//! A daemon with nothing to do sleeps.

use crate::helper::TestDaemon;
use crate::helper::wait::{holds, within};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// Threads of C-core, whose wake-ups we do not control. The kernel cuts names at 15 letters.
const C_CORE: &[&str] =
    &["default-executo", "resolver-execut", "grpc_global_tim", "grpc-0", "event_engine", "timer_manager"];
/// C-core's clock ticks about once a second.
const CLOCK: &str = "timer_manager";
/// The ticks of a window in which none of our threads may wake.
const WINDOW: u64 = 12;

/// The voluntary context switches of each thread, by id and name.
fn sleeps(d: &TestDaemon) -> BTreeMap<(String, String), u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", d.pid())).unwrap().flatten();
    tasks
        .filter_map(|task| {
            let name = fs::read_to_string(task.path().join("comm")).ok()?.trim().to_owned();
            let status = fs::read_to_string(task.path().join("status")).ok()?;
            let line = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"))?;
            Some(((task.file_name().to_string_lossy().into_owned(), name), line.trim().parse().ok()?))
        })
        .collect()
}

/// Waits for a window without a single wake-up of a thread of ours.
fn sleeps_soundly(d: &TestDaemon) {
    let ticks = |all: &BTreeMap<(String, String), u64>| {
        all.iter().filter(|((_, name), _)| name == CLOCK).map(|(_, n)| n).sum::<u64>()
    };
    let ours = |all: &BTreeMap<(String, String), u64>| -> BTreeMap<_, _> {
        all.iter()
            .filter(|((_, name), _)| !C_CORE.contains(&name.as_str()))
            .map(|(k, n)| (k.clone(), *n))
            .collect()
    };
    let mut start = sleeps(d);
    assert!(ours(&start).keys().any(|(_, name)| name == "log-pump"), "our threads have names: {start:?}");
    assert!(ticks(&start) > 0, "C-core's clock: {start:?}");
    let mut last = String::new();
    let sound = within(Duration::from_secs(60), || {
        let now = sleeps(d);
        if ours(&now) != ours(&start) {
            last = format!("{:?} became {:?}", ours(&start), ours(&now));
            start = now;
            return None;
        }
        holds(ticks(&now) >= ticks(&start) + WINDOW)
    });
    assert!(sound.is_some(), "somebody wakes again and again: {last}");
}

#[test]
fn without_jobs_no_thread_of_ours_wakes() {
    let d = TestDaemon::start();
    for _ in 0..20 {
        d.run(["true"]).ok();
    }
    // A client that stays connected causes no wake-up either.
    let client = d.client("viewer");
    client.list_jobs(&joblet::pb::joblet::EmptyRequest::new()).unwrap();
    sleeps_soundly(&d);
}

#[test]
fn silent_job_and_its_reader_wake_no_thread() {
    // The window lies between two samples: the lowest rate leaves a minute.
    let d = TestDaemon::with([("job_metrics.default_sample_rate", "1m")]);
    let job = d.submit(["sleep", "1000"]);
    let mut follower = d.rnx_spawn(["job", "log", &job]);
    sleeps_soundly(&d);
    follower.kill();
    d.rnx(["job", "stop", &job]).ok();
}
