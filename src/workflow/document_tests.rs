//! Whole files: those that are taken, and the sentence for those that are not.

use std::time::{Duration, Instant};

use crate::job::Profile;

use super::{Needs, NeedsOf, NodeStatus, Progress, RetryReason, Schedule, dot, parse};

fn refusal(text: &str) -> String {
    parse(text).map(|workflow| workflow.jobs.len()).expect_err(text).to_string()
}

/// A file with one job that has these lines below its command.
fn job(lines: &str) -> String {
    format!("jobs:\n  a:\n    command: x\n    {}\n", lines.replace('\n', "\n    "))
}

const WHOLE: &str = r#"
name: nightly
description: every key once
environment: {REGION: eu, PORT: 8080}
secret_environment: {PASSWORD: hunter2}
jobs:
  prepare:
    command: python3
    args: [prepare.py, 3, true]
    network: none
    uploads: {files: [prepare.py]}
    resources: {max_cpu: 200, max_memory: 512, max_io_bps: 1048576, cpu_cores: "0-1", gpu_count: 0}
    environment: {OUT: "/work/${REGION}"}
    schedule: 30m
    timeout: 1h
    retries: {max: 3, backoff: 5s, on: [exited, oom]}
  shard:
    command: ./shard
    array: 0-99%10
    environment: {PART: "${REGION}-${JOB_ARRAY_INDEX}"}
    requires:
      - prepare: COMPLETED
  mixed:
    command: ./build
    matrix: {os: [a, b], level: [1, 2, 3]}
    requires: [prepare]
  join:
    command: ./join
    requires:
      - expression: "(shard=COMPLETED AND mixed=FINISHED) OR prepare=FAILED"
      - "NOT mixed IN (CANCELED, STOPPED)"
"#;

#[test]
fn every_key_is_taken() {
    let workflow = parse(WHOLE).unwrap();
    assert_eq!((workflow.name.as_str(), workflow.jobs.len(), workflow.elements()), ("nightly", 4, 108));
    let first = &workflow.jobs[0];
    assert_eq!(first.args, ["prepare.py", "3", "true"]);
    assert_eq!(first.schedule, Some(Schedule::After(Duration::from_secs(1800))));
    assert_eq!(first.timeout, Some(Duration::from_secs(3600)));
    assert_eq!(first.retries.as_ref().unwrap().on, [RetryReason::Exited, RetryReason::Oom]);
    assert_eq!(first.resources.cpu.unwrap().get(), 200);
    assert_eq!(workflow.jobs[1].array.as_ref().unwrap().at_a_time, Some(10));
    let variables = workflow.jobs[1].variables(&workflow.environment, 7).unwrap();
    assert!(variables.plain.contains(&("PART".into(), "eu-7".into())), "{variables:?}");
    let named: Vec<_> = (0..4).map(|n| workflow.graph.dependencies(n).to_vec()).collect();
    assert_eq!(named, [vec![], vec![0], vec![0], vec![0, 1, 2]]);
    assert!(!format!("{workflow:?}").contains("hunter2"));
}

#[test]
fn graph_of_graphviz_names_jobs_and_arrows() {
    let text = dot(&parse(WHOLE).unwrap());
    for line in ["digraph \"nightly\" {", "\"shard\" [label=\"shard [100]\"];", "\"prepare\" -> \"join\";"] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn unknown_keys_are_refused_with_place_and_suggestion() {
    for (text, expected) in [
        ("jbos: {}", "line 1, column 1: unknown key \"jbos\" in the file; did you mean \"jobs\"?"),
        (
            "version: '3'\njobs: {}",
            "line 1, column 1: unknown key \"version\" in the file: a workflow file has no version",
        ),
        (
            &job("reqiures: []"),
            "line 4, column 5: unknown key \"reqiures\" in job 'a'; did you mean \"requires\"?",
        ),
        (
            &job("resources:\n  max_iobps: 5"),
            "line 5, column 7: unknown key \"max_iobps\" in resources; did you mean \"max_io_bps\"?",
        ),
        (&job("depends_on: [b]"), "unknown key \"depends_on\" in job 'a': write requires:"),
        (&job("uploads: {directories: [x]}"), "unknown key \"directories\" in uploads: name each file"),
        (&job("\"\\e[31mred\": 1"), "unknown key \"\\u{1b}[31mred\" in job 'a'; it has command"),
        (&job("retries: {max: 1, backof: 1s}"), "did you mean \"backoff\"?"),
    ] {
        let error = refusal(text);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn parts_that_do_not_exist_yet_are_named() {
    for (lines, part) in [
        ("writable: true", "job 'a': writable needs a runtime"),
        ("writable: maybe", "writable: \"maybe\" is neither true nor false"),
        ("profile: docker", "invalid profile \"docker\": strict (one id"),
        ("runtime: Python", "runtime: \"Python\" cannot be the name of a runtime"),
        ("volumes: [../x]", "volumes: \"../x\" cannot be the name of a volume"),
        ("volumes: [a, 'a:ro']", "volumes: volume \"a\" stands twice"),
        ("resources: {gpu_count: -1}", "invalid GPU count: -1"),
        ("outputs: [../x]", "is no plain path below /work"),
        ("outputs: [/x]", "is no plain path below /work"),
        ("inputs: {z: [x]}", "is no job that this one names in requires"),
    ] {
        let error = refusal(&job(lines));
        assert!(error.contains(part), "{error}");
    }
    assert!(parse(&job("runtime: ''\nvolumes: []\nresources: {gpu_count: 0, gpu_memory_mb: 0}")).is_ok());
}

#[test]
fn jobs_name_their_profile_as_run_job_does() {
    for (text, profile) in [
        ("timeout: 1s", Profile::Strict),
        ("profile: strict", Profile::Strict),
        ("profile: container", Profile::Container),
    ] {
        assert_eq!(parse(&job(text)).unwrap().jobs[0].profile, profile, "{text}");
    }
}

#[test]
fn jobs_name_their_volumes_as_run_job_does() {
    let plan = parse(&job("volumes: [cache, 'models:ro']")).unwrap();
    let volumes: Vec<String> = plan.jobs[0].volumes.iter().map(ToString::to_string).collect();
    assert_eq!(volumes, ["cache", "models:ro"]);
}

#[test]
fn wrong_values_are_refused_with_their_place() {
    for (text, expected) in [
        ("jobs: {}", "line 1, column 7: jobs: has at least one job"),
        ("name: x", "jobs: is missing"),
        ("[1]", "line 1, column 1: the file is a mapping with the keys"),
        ("jobs:\n- name: a", "is a mapping from names to jobs, not a list"),
        ("jobs: {a: {}}", "line 1, column 8: job 'a': command is required"),
        ("jobs: {a: {command: ' '}}", "job 'a': command is required"),
        ("jobs: {a/b: {command: x}}", "job name \"a/b\": letters"),
        ("jobs: {..: {command: x}}", "job name \"..\""),
        ("jobs: {\"\\e]0;x\": {command: x}}", "job name \"\\u{1b}]0;x\""),
        ("jobs: {not: {command: x}}", "conditions use this word"),
        ("jobs: {a: {command: x}, a: {command: y}}", "the key \"a\" stands twice"),
        (&job("resources: {max_cpu: 20000}"), "max_cpu: maxCPU 20000 is out of range"),
        (&job("resources: {max_memory: lots}"), "max_memory: \"lots\" is no whole number"),
        (&job("resources: {cpu_cores: 3-1}"), "invalid cpuCores"),
        (&job("timeout: 5"), "cannot read \"5\" as a duration"),
        (&job("schedule: tomorrow"), "schedule: cannot read \"tomorrow\""),
        (&job("retries: {max: 0}"), "retries: max is 1..100"),
        (&job("retries: {max: 1, on: [bad]}"), "unknown reason \"bad\"; there is exited"),
        (&job("array: 0-5\nmatrix: {a: [1]}"), "an array and a matrix"),
        (&job("array: 0-99999"), "at most 20000 elements"),
        (&job("uploads: {files: [a, a]}"), "uploads: \"a\" stands twice"),
        (&job("environment: {JOB_ID: x}"), "names starting with JOB_"),
        (&job("environment: {A B: x}"), "letters, digits and _"),
        (
            &job("environment: {A: 1}\nsecret_environment: {A: 2}"),
            "stands in environment and in secret_environment",
        ),
        (&job("environment: {A: '${B}'}"), "job 'a': environment variable \"A\": no variable is named \"B\""),
        (&job("requires: {a: COMPLETED}"), "line 4, column 15: requires: is a list"),
    ] {
        let error = refusal(text);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn dependencies_are_found_or_named() {
    let two = |requires: &str| {
        format!("jobs:\n  build: {{command: x}}\n  test: {{command: x, requires: [{requires}]}}\n")
    };
    for good in
        ["build", "build: COMPLETED", "'build!=FAILED'", "expression: build IN (FAILED)", "build: FINISHED"]
    {
        assert!(parse(&two(good)).is_ok(), "{good}");
    }
    for (requires, expected) in [
        (
            "biuld: COMPLETED",
            "line 3, column 33: job 'test' depends on non-existent job 'biuld'; did you mean 'build'?",
        ),
        ("deploy", "job 'test' depends on non-existent job 'deploy'"),
        ("'build=COMPLETED AND x=FAILED'", "job 'test' depends on non-existent job 'x'"),
        ("build: completed", "unknown status \"completed\"; did you mean COMPLETED?"),
        ("'build = COMPLETED AND'", "condition, character 22: expected the name of a job, not the end"),
    ] {
        let error = refusal(&two(requires));
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn variables_of_the_file_may_need_those_of_each_job() {
    let file = |of_a: &str| {
        format!("environment: {{URL: '${{HOST}}/x'}}\njobs: {{a: {{command: x, environment: {{{of_a}}}}}}}")
    };
    let workflow = parse(&file("HOST: h")).unwrap();
    let expanded = workflow.jobs[0].variables(&workflow.environment, 0).unwrap();
    assert_eq!(expanded.plain[1], ("URL".into(), "h/x".into()));
    assert!(
        refusal(&file("")).contains("job 'a': environment variable \"URL\": no variable is named \"HOST\"")
    );
}

#[test]
fn circles_are_printed_and_long_ones_shortened() {
    let text = "jobs:\n  a: {command: x, requires: [c]}\n  b: {command: x, requires: [a]}\n  c: {command: x, requires: [b]}\n";
    assert_eq!(refusal(text), "line 2, column 3: circular dependency detected: a -> c -> b -> a");
    assert!(refusal(&job("requires: [a: FAILED]")).ends_with("circular dependency detected: a -> a"));
    let long: String =
        (0..10_000).map(|n| format!("  j{n}: {{command: x, requires: [j{}]}}\n", (n + 1) % 10_000)).collect();
    let error = refusal(&format!("jobs:\n{long}"));
    assert!(error.ends_with("-> j19 -> (9980 more) -> j0"), "{error}");
}

#[test]
fn ten_thousand_jobs_are_read_and_more_are_refused() {
    let layered = |count: usize| {
        let jobs = (0..count).map(|n| match n {
            0..100 => format!("  j{n}: {{command: x}}\n"),
            _ => format!(
                "  j{n}:\n    command: x\n    requires:\n      - j{}: COMPLETED\n      - j{}: FINISHED\n",
                n - 100,
                n - 99
            ),
        });
        format!("jobs:\n{}", jobs.collect::<String>())
    };
    let begun = Instant::now();
    let workflow = parse(&layered(10_000)).unwrap();
    let (progress, step) = Progress::new(&workflow.graph);
    assert_eq!((step.start.len(), progress.count(NodeStatus::Pending)), (100, 10_000));
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert!(refusal(&layered(10_001)).contains("there are 10001, at most 10000"));
}

/// Each job of a file had its volumes, and its runtime, looked up on the loop.
#[test]
fn things_of_the_node_are_needed_once_whoever_names_them() {
    let job = |n: usize| {
        format!("  j{n}: {{command: x, network: n{}, volumes: [a, b{}], runtime: r}}\n", n % 2, n % 3)
    };
    let workflow = parse(&format!("jobs:\n{}", (0..1000).map(job).collect::<String>())).unwrap();
    let Needs { networks, volumes, runtimes, of, .. } = &workflow.needs;
    assert_eq!(of[5], NeedsOf { network: Some(1), volumes: vec![0, 3], runtime: Some(0) });
    assert_eq!(networks.as_slice(), [(0, "n0".to_owned()), (1, "n1".to_owned())]);
    let volumes: Vec<(usize, &str)> = volumes.iter().map(|(n, used)| (*n, used.name.as_str())).collect();
    assert_eq!(volumes, [(0, "a"), (0, "b0"), (1, "b1"), (2, "b2")]);
    assert_eq!((runtimes.len(), runtimes[0].0), (1, 0));
}

#[test]
fn conditions_name_jobs_so_often_and_no_more() {
    let often = |times: usize| vec!["a=FAILED"; times].join(" OR ");
    let job = |n: usize, times: usize| {
        format!("  j{n}:\n    command: x\n    requires:\n      - \"{}\"\n", often(times))
    };
    let file = |jobs: String| format!("jobs:\n  a: {{command: x}}\n{jobs}");
    assert!(parse(&file((0..4).map(|n| job(n, 5000)).collect())).is_ok());
    let why = refusal(&file((0..5).map(|n| job(n, 4001)).collect()));
    assert!(why.contains("name job 'a' more than 20000 times; let them wait for one job"), "{why}");
    // A thousand jobs, each after six hundred others.
    let first: String = (0..600).map(|n| format!("  a{n}: {{command: x}}\n")).collect();
    let all = (0..600).map(|n| format!("a{n}")).collect::<Vec<_>>().join(", ");
    let second: String = (0..1000).map(|n| format!("  b{n}: {{command: x, requires: [{all}]}}\n")).collect();
    let why = refusal(&format!("jobs:\n{first}{second}"));
    assert!(why.contains("name jobs more than 500000 times"), "{why}");
}

#[test]
fn file_of_the_documentation_is_a_workflow() {
    let page = include_str!("../../docs/workflows.md");
    let file = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let workflow = parse(file).unwrap();
    assert_eq!((workflow.jobs.len(), workflow.elements()), (4, 103));
}
