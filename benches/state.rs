//! The cost of durable records of jobs.
//!
//! `cargo bench --bench state [-- --rounds N] [--finished N]`, as root. TMPDIR chooses the disk of the state.
//!
//! * the spawn path with `state.backend: sqlite` against `memory`, in turns: to the first instruction, to the answer, to
//!   the end;
//! * a node with 100 000 finished jobs: its start, its memory, `rnx job list --limit 50` against the same with no jobs,
//!   and the whole list, page by page.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on panics")]
#![allow(unreachable_pub, dead_code, reason = "parts are shared with the benchmark of starts")]

#[path = "start_job/clock.rs"]
mod clock;
#[path = "start_job/figures.rs"]
mod figures;
#[path = "../tests/helper/mod.rs"]
#[macro_use]
mod helper;
#[path = "start_job/inside.rs"]
mod inside;
#[path = "start_job/payload.rs"]
mod payload;
#[path = "start_job/rates.rs"]
mod rates;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use figures::{Sample, quantile};
use helper::daemon::{Node, TestDaemon};
use joblet::job::exit::ExitReason;
use joblet::job::{Ending, JobId, JobSpec, Limits, NetworkMode, Status, User};
use joblet::pb::joblet::EmptyRequest;
use joblet::state::{Database, Record, Stage};
use protobuf::Message;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let [inside::ARGUMENT, payload, reuse, forgets] = words[..] {
        return inside::serve(Path::new(payload), reuse == "true", forgets == "true");
    }
    let number = |name: &str| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1));
    let number = |name, default: u64| number(name).map_or(default, |text| text.parse().expect("a number"));
    durability(number("--rounds", 600) as usize);
    finished(number("--finished", 100_000));
}

/// Runs one round of each in turns, so that other load of the machine affects both.
fn durability(rounds: usize) {
    let payload = payload::assemble("state");
    let rate = clock::Rate::calibrate();
    let mut ways = [
        ("memory", inside::Inside::start(&payload, false, true)),
        ("sqlite", inside::Inside::start(&payload, false, false)),
    ];
    let mut samples: [Vec<Sample>; 2] = Default::default();
    for round in 0..rounds + 20 {
        for (way, (_, inside)) in ways.iter_mut().enumerate() {
            let sample = inside.once(payload.to_str().unwrap());
            if round >= 20 {
                samples[way].push(sample);
            }
        }
    }
    println!("spawn path, {rounds} rounds in turns, us: p50 and p99");
    type Moment = fn(&Sample) -> u64;
    let moments: [(&str, Moment); 3] =
        [("first instruction", |s| s.first), ("answer", |s| s.started), ("end seen", |s| s.ended)];
    for (name, moment) in moments {
        let of = |way: usize| -> Vec<f64> {
            let seen = samples[way].iter().filter(|sample| moment(sample) != 0);
            let times: Vec<f64> = seen.map(|s| rate.us(s.accepted, moment(s))).collect();
            assert!(!times.is_empty(), "{name}: every start failed");
            times
        };
        let (memory, sqlite) = (of(0), of(1));
        let p = |values: &[f64], at| quantile(values, at);
        println!(
            "  {name:<18} memory {:6.0} {:6.0}   sqlite {:6.0} {:6.0}   ratio of p50 {:.2}",
            p(&memory, 0.5),
            p(&memory, 0.99),
            p(&sqlite, 0.5),
            p(&sqlite, 0.99),
            p(&sqlite, 0.5) / p(&memory, 0.5)
        );
    }
}

fn finished(count: u64) {
    let empty = Node::set_up().start();
    let none = list_time(&empty);
    println!("no jobs: {:.1} MiB resident; rnx job list --limit 50: {none:.1} ms", resident(&empty));
    empty.stop();
    let node = Node::set_up();
    node.set("state.retention.max", count);
    fill(node.dir(), count);
    let d = node.start();
    println!("{count} finished jobs: serves {:.2} s after its first line", start_time(&d));
    let listed = list_time(&d);
    println!("  rnx job list --limit 50: {listed:.1} ms, {:.1} ms more than with none", listed - none);
    println!("  {:.1} MiB resident", resident(&d));
    let client = d.client("default");
    let (mut token, mut pages, mut jobs, mut largest) = (String::new(), 0, 0, 0);
    let began = Instant::now();
    loop {
        let request = EmptyRequest { page_token: token, ..EmptyRequest::default() };
        let page = client.list_jobs(&request).unwrap();
        pages += 1;
        jobs += page.jobs.len();
        largest = largest.max(page.compute_size());
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "  the whole list: {jobs} jobs in {pages} pages, {seconds:.2} s; the largest has {largest} bytes"
    );
    println!("  {:.1} MiB resident after it", resident(&d));
}

/// Writes records of finished jobs.
fn fill(dir: &Path, count: u64) {
    let (mut database, _) = Database::open(dir).unwrap();
    let spec = JobSpec {
        name: "nightly".into(),
        command: "sh".into(),
        args: vec!["-c".into(), "./process --input data.csv --verbose && echo done".into()],
        limits: Limits { cpu: None, memory: None, io: None, cores: None, pids: 4096 },
        work_dir: "/work".into(),
        environment: vec![("MODE".into(), "fast".into())],
        secrets: vec![],
        network: NetworkMode::None,
        egress: None,
        rate: Default::default(),
        publish: Vec::new(),
        volumes: Vec::new(),
        gpus: None,
        runtime: None,
        writable: false,
        stdin: false,
        user: User::Root,
        run_as: Default::default(),
        profile: Default::default(),
        timeout: Some(std::time::Duration::from_secs(3600)),
        stop_grace: None,
        upload_paths: vec!["data.csv".into()],
        upload_handles: Vec::new(),
        not_before_ns: None,
        request_id: String::new(),
        client: Default::default(),
        part: None,
        build: None,
    };
    let ending = Ending {
        status: Status::Completed,
        reason: ExitReason::Exited,
        code: 0,
        signal: 0,
        message: String::new(),
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i64;
    let record = |serial| Record {
        id: JobId::random(),
        serial,
        stop_grace: None,
        spec: Arc::new(spec.clone()),
        stage: Stage::Ended(ending.clone()),
        created_ns: now,
        queued_ns: None,
        started_ns: Some(now),
        ended_ns: Some(now),
        unenforced: vec![],
        lease: Some(1_879_048_192),
        wire: None,
        gpus: Vec::new(),
        egress: None,
        denials: None,
        process: None,
        boot: "2d4ccd4c-ffb1-4b58-a8a5-fe3c58e5c33a".into(),
        timeout_at_ns: None,
        timeout: None,
        paused: None,
        peak_bytes: Some(1 << 20),
        cpu_usec: Some(1000),
    };
    for from in (1..=count).step_by(1000) {
        let records: Vec<Record> = (from..(from + 1000).min(count + 1)).map(record).collect();
        let batch: BTreeMap<u64, &Record> = records.iter().map(|record| (record.serial, record)).collect();
        database.write(&batch, &[]).unwrap();
    }
    database.checkpoint().unwrap();
}

/// Milliseconds of `rnx job list --limit 50`: the median of 15.
fn list_time(d: &TestDaemon) -> f64 {
    let times: Vec<f64> = (0..15)
        .map(|_| {
            let began = Instant::now();
            d.rnx(["job", "list", "--limit", "50"]).ok();
            began.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    quantile(&times, 0.5)
}

/// Seconds from the daemon's first line to the one that says that it serves.
fn start_time(d: &TestDaemon) -> f64 {
    let log = d.log();
    let at = |line: &str| line.get(1..25).unwrap().parse::<jiff::Timestamp>().unwrap();
    let first = log.lines().next().unwrap();
    let serves = log.lines().find(|line| line.contains("server started successfully")).unwrap();
    (at(serves) - at(first)).total(jiff::Unit::Second).unwrap()
}

/// The resident memory of the daemon in MiB.
fn resident(d: &TestDaemon) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", d.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}
