//! How long a job takes to start and to end, inside the daemon, against what the kernel asks of anybody.
//!
//! `cargo bench --bench start_job [-- [--samples N] [--only NAME] [--realtime]]`, as root. Six variants, one of each
//! a round, so that a disturbance of the machine hits all of them alike:
//!
//! * *bare*: clone3 and execve, no isolation;
//! * *namespaces*: the same with the namespaces of a job, a cold network namespace among them;
//! * *namespaces without network*: the same without that one;
//! * *pipeline*: our walls on one thread, from spool and cgroup to the end of joblet-init;
//! * *pipeline without network*: the same in the host's network namespace;
//! * *door*: the whole daemon but gRPC, from the command to the news of the end.
//!
//! All of them execute the same program, whose first instruction reads the time stamp counter. Prints tables and
//! writes every sample to `start_job.csv` below the target directory. `--realtime` puts everything, the payload too,
//! under SCHED_RR, so that other load of the machine does not count; TMPDIR says where spools and exit records lie.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(unreachable_pub, reason = "a benchmark is the root of its own crate")]

#[path = "start_job/clock.rs"]
mod clock;
#[path = "start_job/door.rs"]
mod door;
#[path = "start_job/figures.rs"]
mod figures;
#[path = "start_job/floor.rs"]
mod floor;
#[path = "start_job/pipeline.rs"]
mod pipeline;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use figures::{Sample, Span, Variant};

/// The namespaces of a job (`sandbox::spawn`).
const NAMESPACES: i32 = libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWNET;

/// Rounds that are not counted: caches and the kernel's slabs fill up.
const WARM_UP: usize = 20;
const SAMPLES: usize = 500;

const PIPELINE: &str = "pipeline";

type Run = Box<dyn FnMut() -> Sample>;

fn variants(program: &Path) -> Vec<(&'static str, Run)> {
    let program = program.to_owned();
    let mut bare = floor::Floor::new(&program);
    let mut same = floor::Floor::new(&program);
    let mut without = floor::Floor::new(&program);
    let mut ours = pipeline::Pipeline::new(&program, true, 0);
    let mut on_host = pipeline::Pipeline::new(&program, false, 1);
    let mut door = door::DoorUnderTest::new(&program);
    vec![
        ("bare", Box::new(move || bare.run(0))),
        ("namespaces", Box::new(move || same.run(NAMESPACES))),
        ("namespaces without network", Box::new(move || without.run(NAMESPACES & !libc::CLONE_NEWNET))),
        (PIPELINE, Box::new(move || ours.run())),
        ("pipeline without network", Box::new(move || on_host.run())),
        ("door", Box::new(move || door.run())),
    ]
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|a| a == name)?;
        arguments.get(at + 1).cloned()
    };
    let samples = option("--samples").map_or(SAMPLES, |n| n.parse().expect("--samples takes a number"));
    let only = option("--only");
    if arguments.iter().any(|a| a == "--realtime") {
        realtime();
    }
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let program = payload(&target);
    let mut runs = variants(&program);
    runs.retain(|(name, _)| only.as_ref().is_none_or(|wanted| wanted == name));
    let rate = clock::Rate::calibrate();

    let mut found: Vec<Variant> =
        runs.iter().map(|(name, _)| Variant { name, samples: Vec::with_capacity(samples) }).collect();
    for round in 0..WARM_UP + samples {
        // Each round begins with another variant: none always comes behind the same one.
        for turn in 0..runs.len() {
            let which = (round + turn) % runs.len();
            let sample = runs[which].1();
            if round >= WARM_UP {
                found[which].samples.push(sample);
            }
        }
    }

    println!("{samples} rounds, counter at {:.3} GHz, 95 % intervals in brackets\n", rate.ghz());
    for span in Span::ALL {
        println!("{}", figures::table(&found, span, rate));
    }
    if let Some(ours) = found.iter().find(|v| v.name == PIPELINE) {
        println!("{}", figures::stages(ours, &pipeline::STAGES, rate));
    }
    let csv = target.join("start_job.csv");
    fs::write(&csv, figures::csv(&found, rate)).expect("the target directory can be written");
    println!("samples: {}", csv.display());
}

/// SCHED_RR for this thread and those that come from it.
fn realtime() {
    let pid = std::process::id().to_string();
    let done = Command::new("chrt").args(["--rr", "--pid", "1", &pid]).status();
    assert!(done.expect("chrt is installed (util-linux)").success(), "SCHED_RR is refused");
}

/// The payload, assembled anew.
fn payload(target: &Path) -> PathBuf {
    let dir = target.join("start_job");
    fs::create_dir_all(&dir).expect("the target directory can be written");
    let program = dir.join("payload");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/start_job/payload.S");
    let done = Command::new("cc")
        .args(["-nostdlib", "-static", "-Wl,--build-id=none", "-o"])
        .arg(&program)
        .arg(source)
        .status();
    assert!(done.expect("cc is installed").success(), "the payload cannot be assembled");
    program
}
