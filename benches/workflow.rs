//! Workflows beside the same jobs without one: a chain, a fan-out, and the check of a large file.
//!
//! ```text
//! cargo bench --bench workflow                  # as root
//! cargo bench --bench workflow -- --quick       # fewer jobs
//! cargo bench --bench workflow -- --only chain  # one group: chain, fan or file
//! ```
//!
//! Every job of the chain is `/usr/bin/date`, which prints the time: so the moments of both ways are those that the jobs
//! themselves read, and no poll of a client is in them. The ways take turns, round by round. GNU parallel and task-spooler
//! run the fan-out without any isolation; where one is not installed it is named and left out.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on panics; figures are printed"
)]

#[path = "../tests/helper/mod.rs"]
#[macro_use]
mod helper;

use std::fmt::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use futures_executor::block_on;
use futures_util::StreamExt;
use helper::TestDaemon;
use joblet::pb::joblet::{
    GetJobLogsReq, GetWorkflowStatusRequest, ListWorkflowsRequest, RunJobRequest, RunWorkflowRequest,
};
use joblet::pb::joblet_grpc::JobServiceClient;

const CLOCK: (&str, &str) = ("/usr/bin/date", "+%s%N");

/// How much is measured.
struct Effort {
    rounds: usize,
    /// Jobs of one round of the chain.
    links: usize,
    wide: usize,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let given = |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1));
    let wanted = |group: &str| given("--only").is_none_or(|only| only == group);
    let quick = args.iter().any(|a| a == "--quick");
    let effort = match quick {
        true => Effort { rounds: 2, links: 100, wide: 500 },
        false => Effort { rounds: 3, links: 1000, wide: 5000 },
    };
    let mut targets = Vec::new();
    if wanted("chain") {
        targets.extend(chain(&effort));
    }
    if wanted("fan") {
        fan(&effort);
    }
    if wanted("file") {
        targets.extend(files());
    }
    println!("\ntargets");
    for (what, value, most) in targets {
        let word = if value <= most { "met" } else { "MISSED" };
        println!("  {word:6} {what}: {value:.3}, at most {most}");
    }
}

/// A figure, and the most that it may be.
type Target = (&'static str, f64, f64);

/// Milliseconds between the clock readings of neighbours, and of a start alone.
#[derive(Default)]
struct Times {
    /// From one job's reading to the next one's, in a chain.
    linked: Vec<f64>,
    /// The same, each job submitted when the one before was seen to have ended.
    submitted: Vec<f64>,
    /// From a request to the reading of its job.
    start: Vec<f64>,
    /// From a job's reading to the moment at which a client sees its end.
    end: Vec<f64>,
}

fn chain(effort: &Effort) -> Vec<Target> {
    let d = TestDaemon::start();
    let client = d.client("default");
    let mut times = Times::default();
    for round in 0..=effort.rounds {
        let (linked, submitted) = (linked(&client, effort.links), submitted(&client, effort.links));
        // The first round warms everything up.
        if round > 0 {
            times.linked.extend(linked);
            times.submitted.extend(submitted.linked);
            times.start.extend(submitted.start);
            times.end.extend(submitted.end);
        }
    }
    println!("one behind the other, {} jobs each way, ms: p50, p99, longest", times.linked.len());
    let figures = |name: &str, values: &mut Vec<f64>| {
        values.sort_unstable_by(f64::total_cmp);
        let at = |percent: usize| values[(values.len() * percent / 100).min(values.len() - 1)];
        println!("  {name:44} {:8.3} {:8.3} {:8.3}", at(50), at(99), at(100));
        (at(50), at(99))
    };
    let linked = figures("job to job, chain of a workflow", &mut times.linked);
    let submitted = figures("job to job, submitted one by one (warm)", &mut times.submitted);
    let start = figures("request to job, submitted", &mut times.start);
    let end = figures("job to end seen, submitted", &mut times.end);
    vec![
        ("a job of a chain over one that is submitted", linked.0 / submitted.0, 1.1),
        ("end and start in a chain over those of submitted jobs", linked.0 / (start.0 + end.0), 1.2),
        ("p99 from a job to its child, ms (its own end is in it)", linked.1, 10.0),
    ]
}

/// A chain as a workflow.
fn linked(client: &JobServiceClient, links: usize) -> Vec<f64> {
    let mut yaml = String::from("jobs:\n");
    for at in 0..links {
        let requires = if at == 0 { String::new() } else { format!(", requires: [j{}]", at - 1) };
        let _ = writeln!(yaml, "  j{at}: {{command: {}, args: ['{}']{requires}}}", CLOCK.0, CLOCK.1);
    }
    let id = run(client, &yaml);
    until_completed(client, &id);
    let request = GetWorkflowStatusRequest { workflowUuid: id, ..Default::default() };
    let jobs = client.get_workflow_status(&request).unwrap().jobs;
    let read: Vec<i128> = jobs.iter().map(|job| printed(client, &job.jobUuid).0).collect();
    between(&read)
}

/// The same jobs, each sent when the one before has ended.
fn submitted(client: &JobServiceClient, links: usize) -> Times {
    let mut times = Times::default();
    let mut read = Vec::new();
    for _ in 0..links {
        let request =
            RunJobRequest { command: CLOCK.0.into(), args: vec![CLOCK.1.into()], ..Default::default() };
        let sent = now();
        let job = client.run_job(&request).unwrap().jobUuid;
        let (at, seen) = printed(client, &job);
        times.start.push(ms(at - sent));
        times.end.push(ms(seen - at));
        read.push(at);
    }
    times.linked = between(&read);
    times
}

/// The time that a job has read, and the time at which its end is seen.
fn printed(client: &JobServiceClient, job: &str) -> (i128, i128) {
    let mut stream = client.get_job_logs(&GetJobLogsReq { uuid: job.into(), ..Default::default() }).unwrap();
    let bytes = block_on(async {
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend(chunk.unwrap().payload);
        }
        bytes
    });
    (String::from_utf8(bytes).unwrap().trim().parse().unwrap(), now())
}

fn now() -> i128 {
    i128::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap()
}

fn ms(ns: i128) -> f64 {
    ns as f64 / 1e6
}

fn between(read: &[i128]) -> Vec<f64> {
    read.windows(2).map(|pair| ms(pair[1] - pair[0])).collect()
}

fn run(client: &JobServiceClient, yaml: &str) -> String {
    let request =
        RunWorkflowRequest { workflow: "bench.yaml".into(), yamlContent: yaml.into(), ..Default::default() };
    client.run_workflow(&request).unwrap().workflowUuid
}

/// Asks the list of workflows under way, which is short.
fn until_completed(client: &JobServiceClient, id: &str) {
    helper::wait::within(Duration::from_secs(600), || {
        helper::wait::pause(Duration::from_millis(10));
        let running = client.list_workflows(&ListWorkflowsRequest::default()).unwrap().workflows;
        helper::wait::holds(running.iter().all(|workflow| workflow.uuid != id))
    })
    .expect("the workflow ends");
    let request = GetWorkflowStatusRequest { workflowUuid: id.into(), ..Default::default() };
    assert_eq!(client.get_workflow_status(&request).unwrap().workflow.status, "COMPLETED");
}

/// Many jobs at once: one array, and the tools that people take for that.
fn fan(effort: &Effort) {
    let d = TestDaemon::start();
    let client = d.client("default");
    let wide = effort.wide;
    println!("\n{wide} times /usr/bin/true, seconds, and a second for each way");
    let report = |name: &str, time: Duration| {
        println!("  {name:44} {:8.2} {:8.0}", time.as_secs_f64(), wide as f64 / time.as_secs_f64());
    };
    let begun = Instant::now();
    let id = run(&client, &format!("jobs: {{a: {{command: /usr/bin/true, array: 0-{}}}}}", wide - 1));
    report("array of a workflow: accepted", begun.elapsed());
    until_completed(&client, &id);
    report("array of a workflow: completed", begun.elapsed());
    let slots = std::thread::available_parallelism().unwrap();
    let numbers = format!("seq {wide}");
    for (program, line) in [
        ("parallel", format!("{numbers} | parallel -j {slots} -n0 /usr/bin/true")),
        (
            "tsp",
            format!(
                "tsp -S {slots}; {numbers} | while read n; do tsp -n /usr/bin/true; done >/dev/null; tsp -w; tsp -K"
            ),
        ),
        ("xargs", format!("{numbers} | xargs -P {slots} -n 1 /usr/bin/true")),
    ] {
        if Command::new("which").arg(program).stdout(Stdio::null()).status().is_ok_and(|s| !s.success()) {
            println!("  {program}: not installed, not compared");
            continue;
        }
        let begun = Instant::now();
        let done = Command::new("sh").args(["-c", &line]).stdin(Stdio::null()).stderr(Stdio::null()).status();
        assert!(done.unwrap().success(), "{line}");
        report(&format!("{program}, {slots} at a time, no isolation"), begun.elapsed());
    }
}

/// The largest graphs that a file may have: names alone, with conditions and variables, with limits and retries too.
fn files() -> Vec<Target> {
    println!("\nfiles of 10 000 jobs, checked: ms (the best of 10), memory");
    let checked = |name: &'static str, job: &dyn Fn(usize) -> String| {
        let mut yaml = String::from("environment: {REGION: eu}\njobs:\n");
        for at in 0..10_000 {
            let _ = writeln!(yaml, "  j{at}: {{{}}}", job(at));
        }
        let before = peak();
        let mut best = f64::MAX;
        for _ in 0..10 {
            let begun = Instant::now();
            let workflow = joblet::workflow::parse(&yaml).unwrap();
            best = best.min(begun.elapsed().as_secs_f64() * 1e3);
            assert_eq!(workflow.jobs.len(), 10_000);
        }
        let grown = peak().saturating_sub(before) >> 10;
        println!("  {name:44} {best:8.1} {grown:5} MiB more, {} KiB of text", yaml.len() >> 10);
        (name, best, 100.0)
    };
    let chain = |at: usize| at.checked_sub(1).map(|one| format!("j{one}"));
    let bare = |at| format!("command: 'true', requires: [{}]", chain(at).unwrap_or_default());
    let with_conditions = |at: usize| {
        let half = (at > 1).then(|| format!("'j{half}=FAILED OR j{half}=COMPLETED'", half = at / 2));
        let requires: Vec<String> = chain(at).into_iter().chain(half).collect();
        let environment = format!("environment: {{PART: '${{REGION}}-{at}'}}");
        format!("command: 'true', {environment}, requires: [{}]", requires.join(", "))
    };
    let with_limits = |at| {
        let limits =
            "resources: {max_cpu: 200, max_memory: 512}, timeout: 10m, retries: {max: 3, backoff: 5s}";
        format!("{}, {limits}", with_conditions(at))
    };
    vec![
        checked("10 000 jobs in a chain", &bare),
        checked("with conditions and variables", &with_conditions),
        checked("with limits and retries too", &with_limits),
    ]
}

/// The highest resident memory of this process so far, KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
