//! The resources of a node: memory, threads, descriptors, wake-ups and processor time of the daemon, idle and with many live
//! jobs, and of each job's init.
//!
//! `cargo bench --bench footprint [-- --jobs N]`, as root.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on panics; figures are printed"
)]

#[path = "../tests/helper/mod.rs"]
#[macro_use]
mod helper;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use helper::TestDaemon;
use helper::wait::{holds, within};
use joblet::pb::joblet::{EmptyRequest, RunJobRequest};
use joblet::pb::joblet_grpc::JobServiceClient;

/// One measurement of the daemon.
struct Look {
    at: Instant,
    /// Resident bytes and the anonymous ones of them, from smaps_rollup.
    memory: (u64, u64),
    descriptors: usize,
    /// Voluntary context switches by thread id, with the thread's name.
    sleeps: BTreeMap<String, (String, u64)>,
    /// Nanoseconds on a processor by thread id, from schedstat.
    busy: BTreeMap<String, u64>,
}

/// The number behind `label` in a text of /proc; kB become bytes.
fn number(text: &str, label: &str) -> u64 {
    let line = text.lines().find_map(|l| l.strip_prefix(label)).unwrap_or_default();
    let mut words = line.split_whitespace();
    let number: u64 = words.next().and_then(|w| w.parse().ok()).unwrap_or(0);
    if words.next() == Some("kB") { number << 10 } else { number }
}

fn read(pid: i32, name: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default()
}

fn look(pid: i32) -> Look {
    let memory = read(pid, "smaps_rollup");
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let mut busy = BTreeMap::new();
    let sleeps = tasks.map(|task| {
        let id = task.file_name().to_string_lossy().into_owned();
        let name = read(pid, &format!("task/{id}/comm")).trim().to_owned();
        let count = number(&read(pid, &format!("task/{id}/status")), "voluntary_ctxt_switches:");
        busy.insert(id.clone(), number(&read(pid, &format!("task/{id}/schedstat")), ""));
        (id, (name, count))
    });
    let sleeps = sleeps.collect();
    Look {
        at: Instant::now(),
        memory: (number(&memory, "Rss:"), number(&memory, "Anonymous:")),
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
        sleeps,
        busy,
    }
}

/// Measures twice, half a minute apart, and prints the resources and the threads that woke meanwhile.
fn report(what: &str, pid: i32) {
    // No condition to wait for: time has to pass for wake-ups to be counted.
    let before = look(pid);
    let _ = within(Duration::from_secs(30), || None::<()>);
    let after = look(pid);
    let seconds = (after.at - before.at).as_secs_f64();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut wakes: BTreeMap<&str, u64> = BTreeMap::new();
    for (id, (name, count)) in &after.sleeps {
        let earlier = before.sleeps.get(id).map_or(0, |(_, n)| *n);
        *wakes.entry(name).or_default() += count - earlier;
    }
    let woke: Vec<_> = wakes
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(name, n)| format!("{name} {:.1}/s", *n as f64 / seconds))
        .collect();
    let share = |id: &String| {
        let ns = after.busy[id].saturating_sub(before.busy.get(id).copied().unwrap_or(0));
        ns as f64 / seconds / 1e7
    };
    let busy: Vec<_> = after
        .sleeps
        .iter()
        .filter(|(id, _)| share(id) >= 0.01)
        .map(|(id, (name, _))| format!("{name} {:.2} %", share(id)))
        .collect();
    println!(
        "{what}: {:.1} MiB resident, {:.1} MiB of it anonymous; {} threads; {} descriptors; wake-ups: {}; on a processor: {}",
        mib(after.memory.0),
        mib(after.memory.1),
        after.sleeps.len(),
        after.descriptors,
        if woke.is_empty() { "none".to_owned() } else { woke.join(", ") },
        if busy.is_empty() { "none".to_owned() } else { busy.join(", ") }
    );
}

/// Memory of all processes with one of the jobs' ids, by program: their number, resident and proportional bytes of each.
fn jobs_memory(d: &TestDaemon) {
    let mut programs: BTreeMap<String, (u64, u64, u64)> = BTreeMap::new();
    for process in helper::residue::processes_of(&d.uids()) {
        let (pid, name) = process.split_once(' ').unwrap();
        let memory = read(pid.parse().unwrap(), "smaps_rollup");
        let sum = programs.entry(name.to_owned()).or_default();
        *sum = (sum.0 + 1, sum.1 + number(&memory, "Rss:"), sum.2 + number(&memory, "Pss:"));
    }
    for (name, (count, rss, pss)) in programs {
        println!(
            "  {name}: {count}, each {} KiB resident, {} KiB its share",
            (rss / count) >> 10,
            (pss / count) >> 10
        );
    }
}

fn start(jobs: &JobServiceClient, count: usize) {
    let request = RunJobRequest { command: "sleep".into(), args: vec!["10000".into()], ..Default::default() };
    for _ in 0..count {
        jobs.run_job(&request).unwrap();
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let count = args.iter().position(|a| a == "--jobs").and_then(|at| args.get(at + 1)?.parse().ok());
    let count: usize = count.unwrap_or(1000);
    let node = helper::daemon::Node::set_up();
    node.set("joblet.maxConcurrentJobs", count + 10);
    node.set("process.subidCount", count + 100);
    let d = node.start();
    let client = d.client("default");
    report("idle", d.pid());
    start(&client, count);
    report(&format!("{count} live jobs"), d.pid());
    jobs_memory(&d);
    for job in client.list_jobs(&EmptyRequest::new()).unwrap().jobs {
        let stop = joblet::pb::joblet::StopJobReq { uuid: job.uuid, ..Default::default() };
        client.stop_job(&stop).unwrap();
    }
    let _ = within(Duration::from_secs(10), || {
        let jobs = client.list_jobs(&EmptyRequest::new()).unwrap().jobs;
        holds(jobs.iter().all(|job| job.status == "STOPPED"))
    });
    report("after them", d.pid());
}
