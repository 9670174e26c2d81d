//! The time that a job takes to start and to end, compared with the minimum that the kernel requires and with other sandboxes.
//!
//! `cargo bench --bench start_job [-- OPTIONS]`, as root:
//!
//! ```text
//! --quick           about a minute instead of about five
//! --only GROUP      idle, hogs, live, rates or counts (may be repeated); or networks, volumes, gpus, runtimes or audit, which run alone
//! --out DIR         where csv, report and chart go (default: start_job in the target directory)
//! --realtime        everything but joblet's daemons under SCHED_RR, before other load of the machine
//! ```
//!
//! * *idle*: the tiny program whose first instruction reads the time stamp counter, by [`ways`] of ours and the floors;
//!   then /usr/bin/true by all ways, to its end;
//! * *hogs*: the same beside four processes that want every processor;
//! * *live*: starts while 0, 100 and 1000 jobs sleep;
//! * *rates*: jobs a second at concurrency 1, 2, 8, 32;
//! * *counts*: system calls a start;
//! * *networks*: starts of jobs with a network beside those without, with warm sandboxes and without, jobs a second, and crun
//!   with a bridge, in a network namespace of the benchmark's own. Only where it is asked for.
//! * *volumes*: starts of jobs with volumes beside those without, with warm sandboxes. Only where it is asked for;
//! * *gpus*: starts of jobs with pretended GPUs beside those without, with warm sandboxes. Only where it is asked for;
//! * *runtimes*: starts of jobs in the roots of runtimes beside those in the host's root, with warm sandboxes and without, an image
//!   that no job had for a while among them. Only where it is asked for;
//! * *audit*: starts on a node with an audit trail beside those on one without. Only where it is asked for.
//!
//! TMPDIR is the directory of the daemons' spools and exit files.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(unreachable_pub, reason = "a benchmark is the root of its own crate")]

#[path = "start_job/audit.rs"]
mod audit;
#[path = "start_job/chart.rs"]
mod chart;
#[path = "start_job/clock.rs"]
mod clock;
#[path = "start_job/counts.rs"]
mod counts;
#[path = "start_job/figures.rs"]
mod figures;
#[path = "start_job/gpus.rs"]
mod gpus;
#[path = "start_job/inside.rs"]
mod inside;
#[path = "start_job/launch.rs"]
mod launch;
#[path = "start_job/networks.rs"]
mod networks;
#[path = "start_job/node.rs"]
mod node;
#[path = "start_job/payload.rs"]
mod payload;
#[path = "start_job/peers.rs"]
mod peers;
#[path = "start_job/rates.rs"]
mod rates;
#[path = "start_job/report.rs"]
mod report;
#[path = "start_job/runtimes.rs"]
mod runtimes;
#[path = "start_job/targets.rs"]
mod targets;
#[path = "start_job/volumes.rs"]
mod volumes;
#[path = "start_job/ways.rs"]
mod ways;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use report::Report;
use ways::{Effort, Hogs, Ways};

/// Hogs beside the measured starts: twice the processors of the machine that the targets were written for.
const HOGS: usize = 4;
const LIVE: [usize; 3] = [0, 100, 1000];

struct Options {
    quick: bool,
    only: Vec<String>,
    out: PathBuf,
    realtime: bool,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [inside::ARGUMENT, payload, reuse, forgets] => {
            return inside::serve(Path::new(payload), reuse == "true", forgets == "true");
        }
        [counts::FLOOR, way, starts, payload] => {
            return counts::floor(way, starts.parse().expect("a number"), payload);
        }
        _ => {}
    }
    let options = options(&arguments);
    let alone = |group: &str| options.only == [group];
    if alone("networks") {
        networks::leave_the_host();
    }
    fs::create_dir_all(&options.out).expect("the directory of --out can be made");
    let report = if alone("networks") {
        measure_networks(&options)
    } else if alone("volumes") {
        measure_volumes(&options)
    } else if alone("gpus") {
        measure_gpus(&options)
    } else if alone("runtimes") {
        measure_runtimes(&options)
    } else if alone("audit") {
        measure_audit(&options)
    } else {
        measure(&options)
    };
    print!("{}", report.text());
    report.write(&options.out);
    println!("written to {}", options.out.display());
}

fn options(arguments: &[String]) -> Options {
    // cargo tells a benchmark only the tmp/ of the target directory.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("tmp is in the target directory");
    let mut options =
        Options { quick: false, only: Vec::new(), out: target.join("start_job"), realtime: false };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} wants a value")).clone();
        match word.as_str() {
            "--quick" => options.quick = true,
            "--only" => options.only.push(value()),
            "--out" => options.out = value().into(),
            "--realtime" => options.realtime = true,
            // cargo adds this flag.
            "--bench" => {}
            other => panic!("unknown option {other}; benches/start_job.rs says which there are"),
        }
    }
    options
}

fn measure(options: &Options) -> Report {
    let wanted = |group: &str| options.only.is_empty() || options.only.iter().any(|only| only == group);
    let least = |full: usize| if options.quick { full / 6 } else { full };
    let effort = |rounds: usize, warm_up| Effort {
        rounds: least(rounds),
        warm_up,
        limit: Duration::from_secs(if options.quick { 10 } else { 45 }),
    };
    let dir = tempfile::tempdir().expect("a directory");
    let payload = payload::assemble("start_job");
    let mut ways = Ways::start(&payload, dir.path());
    // Not earlier: the daemons choose their own policy.
    if options.realtime {
        realtime();
    }
    let mut report = Report::new(options.realtime);
    if wanted("idle") {
        report.add(ways::rounds("first, idle", &mut ways.until_first(false), effort(900, 20)));
        report.add(ways::rounds("true, idle", &mut ways.until_end(), effort(240, 3)));
    }
    if wanted("hogs") {
        let _hogs = Hogs::start(HOGS);
        report.add(ways::rounds("first, hogs", &mut ways.until_first(false), effort(300, 5)));
        report.add(ways::rounds("true, hogs", &mut ways.until_end(), effort(48, 1)));
    }
    if wanted("rates") {
        eprintln!("rates");
        let time = Duration::from_millis(if options.quick { 250 } else { 700 });
        report.rates = ways.rates(time, if options.quick { 1 } else { 3 });
    }
    if wanted("counts") {
        eprintln!("counts");
        report.counts = counts::all(&mut ways, dir.path());
    }
    // This group is the last one, because its jobs stay.
    if wanted("live") {
        for jobs in LIVE {
            ways.inside.live(jobs);
            if let Some(reuse) = &mut ways.reuse {
                reuse.live(jobs);
            }
            let condition = format!("first, {jobs} live");
            report.add(ways::rounds(&condition, &mut ways.until_first(true), effort(400, 10)));
        }
    }
    report
}

fn measure_networks(options: &Options) -> Report {
    println!("load before: {}", networks::load());
    let payload = payload::assemble("start_job");
    let networked = networks::Networked::start(&payload);
    if options.realtime {
        realtime();
    }
    let effort = Effort {
        rounds: if options.quick { 60 } else { 400 },
        warm_up: 5,
        limit: Duration::from_secs(if options.quick { 20 } else { 120 }),
    };
    let mut report = Report::new(options.realtime);
    report.add(ways::rounds(networks::CONDITION, &mut networked.ways(), effort));
    let dir = tempfile::tempdir().expect("a directory");
    let mut until_end = networked.until_end(dir.path());
    report.add(ways::rounds(networks::PEERS, &mut until_end, Effort { warm_up: 1, ..effort }));
    drop(until_end);
    eprintln!("rates");
    let time = Duration::from_millis(if options.quick { 250 } else { 700 });
    report.rates = networked.rates(time, if options.quick { 1 } else { 3 });
    // A host has one daemon whose jobs have a network.
    drop(networked);
    let cold = networks::Networked::start_cold(&payload);
    report.add(ways::rounds(networks::NOT_WARM, &mut cold.cold_ways(), effort));
    report
}

fn measure_volumes(options: &Options) -> Report {
    println!("load before: {}", networks::load());
    let with_volumes = volumes::WithVolumes::start(&payload::assemble("start_job"));
    if options.realtime {
        realtime();
    }
    let effort = Effort {
        rounds: if options.quick { 60 } else { 400 },
        warm_up: 5,
        limit: Duration::from_secs(if options.quick { 20 } else { 120 }),
    };
    let mut report = Report::new(options.realtime);
    report.add(ways::rounds(volumes::CONDITION, &mut with_volumes.ways(), effort));
    report
}

fn measure_audit(options: &Options) -> Report {
    println!("load before: {}", networks::load());
    let audited = audit::Audited::start(&payload::assemble("start_job"));
    if options.realtime {
        realtime();
    }
    let effort = Effort {
        rounds: if options.quick { 100 } else { 600 },
        warm_up: 5,
        limit: Duration::from_secs(if options.quick { 20 } else { 120 }),
    };
    let mut report = Report::new(options.realtime);
    report.add(ways::rounds(audit::CONDITION, &mut audited.ways(), effort));
    report
}

fn measure_gpus(options: &Options) -> Report {
    println!("load before: {}", networks::load());
    let with_gpus = gpus::WithGpus::start(&payload::assemble("start_job"));
    if options.realtime {
        realtime();
    }
    let effort = Effort {
        rounds: if options.quick { 60 } else { 400 },
        warm_up: 5,
        limit: Duration::from_secs(if options.quick { 20 } else { 120 }),
    };
    let mut report = Report::new(options.realtime);
    report.add(ways::rounds(gpus::CONDITION, &mut with_gpus.ways(), effort));
    report
}

fn measure_runtimes(options: &Options) -> Report {
    println!("load before: {}", networks::load());
    let payload = payload::assemble("start_job");
    let effort = Effort {
        rounds: if options.quick { 60 } else { 400 },
        warm_up: 5,
        limit: Duration::from_secs(if options.quick { 20 } else { 120 }),
    };
    let mut report = Report::new(options.realtime);
    let warm = runtimes::WithRuntimes::start(&payload, true);
    if options.realtime {
        realtime();
    }
    report.add(ways::rounds(runtimes::CONDITION, &mut warm.ways(), effort));
    // Both have the same host ids.
    drop(warm);
    let cold = runtimes::WithRuntimes::start(&payload, false);
    let dir = tempfile::Builder::new().prefix("joblet-bench.").tempdir().expect("a directory");
    let ways = cold.cold_ways().into_iter().chain(cold.peers(dir.path()));
    report.add(ways::rounds(runtimes::NOT_WARM, &mut ways.collect::<Vec<_>>(), effort));
    report
}

/// Sets SCHED_RR for our threads and their children.
fn realtime() {
    let pid = std::process::id().to_string();
    let done = Command::new("chrt").args(["--all-tasks", "--rr", "--pid", "1", &pid]).status();
    assert!(done.expect("chrt is installed (util-linux)").success(), "SCHED_RR is refused");
}
