//! Workflow files that nobody means well with: bombs, sizes, names. Each is refused at once, with its place, by rnx and
//! by the daemon, which does not trust its clients to have looked.

use crate::helper::TestDaemon;
use crate::helper::workflow::{file, finish};
use grpcio::{CallOption, RpcStatusCode};
use joblet::pb::joblet::{ListWorkflowsRequest, RunWorkflowRequest};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// A refusal takes milliseconds; this is for a busy machine.
const SOON: Duration = Duration::from_secs(20);

fn laughs() -> String {
    let mut text = String::from("a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]\n");
    for n in 1..12 {
        let refers = vec![format!("*a{}", n - 1); 10].join(", ");
        let _ = writeln!(text, "a{n}: &a{n} [{refers}]");
    }
    text + "jobs: {a: {command: x, args: *a11}}\n"
}

fn hostile() -> Vec<(&'static str, String, &'static str)> {
    let many = |count: usize, job: &dyn Fn(usize) -> String| {
        (0..count).fold(String::from("jobs:\n"), |text, n| text + "  " + &job(n) + "\n")
    };
    vec![
        ("billion laughs", laughs(), "line "),
        ("too long", format!("# {}\njobs: {{a: {{command: x}}}}\n", "x".repeat(9 << 20)), ""),
        ("100 000 jobs", many(100_000, &|n| format!("j{n}: {{command: x}}")), "line "),
        ("an array of a million", "jobs: {a: {command: x, array: 0-999999}}".into(), "line 1"),
        ("deep", format!("jobs: {}{}", "[".repeat(100_000), "]".repeat(100_000)), "line 1"),
        ("a key twice", "jobs:\n  a: {command: x}\n  a: {command: y}\n".into(), "line 3"),
        ("a name with a path", "jobs: {../../etc/cron.d/x: {command: x}}".into(), "line 1"),
        ("a name with a slash", "jobs: {a/b: {command: x}}".into(), "line 1"),
        ("a name that commands", "jobs: {\"a\\e]0;pwned\\a\": {command: x}}".into(), "line 1"),
        ("a tag", "jobs: !!python/object:os.system {a: {command: x}}".into(), "line 1"),
        (
            "a long circle",
            many(2000, &|n| format!("j{n}: {{command: x, requires: [j{}]}}", (n + 1) % 2000)),
            "circular",
        ),
        (
            "a condition without end",
            format!(
                "jobs: {{a: {{command: x}}, b: {{command: x, requires: ['{}a=FAILED']}}}}",
                "(".repeat(60_000)
            ),
            "line 1",
        ),
        ("not a mapping", "- a\n- b\n".into(), "line 1"),
        ("jobs as a list", "jobs:\n  - name: a\n    command: x\n".into(), "line "),
        ("nothing", " ".into(), ""),
        ("a NUL byte", "jobs: {a: {command: \"x\\0y\"}}".into(), ""),
    ]
}

#[test]
fn hostile_files_are_refused_at_once_by_client_and_daemon() {
    let d = TestDaemon::start();
    let client = d.client("default");
    let before = d.memory();
    for (what, yaml, words) in hostile() {
        let path = file(&d, "hostile.yaml", &yaml).display().to_string();
        let begun = Instant::now();
        let out = d.rnx(["workflow", "validate", &path]);
        assert!(out.code == 1 && out.stderr.contains(words), "{what}: {}", out.stderr);
        assert!(!out.stderr.contains('\u{1b}') && out.stderr.len() < 4096, "{what}: {:?}", out.stderr);
        assert_eq!(d.rnx(["workflow", "run", &path]).code, 125, "{what}");
        let request =
            RunWorkflowRequest { workflow: "x.yaml".into(), yamlContent: yaml, ..Default::default() };
        let answer =
            client.run_workflow_opt(&request, CallOption::default().timeout(Duration::from_secs(60)));
        let Err(grpcio::Error::RpcFailure(status)) = answer else { panic!("{what}: {answer:?}") };
        let expected = [RpcStatusCode::INVALID_ARGUMENT, RpcStatusCode::RESOURCE_EXHAUSTED];
        assert!(expected.contains(&status.code()), "{what}: {status:?}");
        assert!(status.message().contains(words) && status.message().len() < 4096, "{what}: {status:?}");
        assert!(begun.elapsed() < SOON, "{what}: {:?}", begun.elapsed());
    }
    let grown = d.memory().saturating_sub(before);
    assert!(grown < 256 << 20, "the daemon grew by {} MiB", grown >> 20);
    let all = ListWorkflowsRequest { includeCompleted: true, ..Default::default() };
    assert!(client.list_workflows(&all).unwrap().workflows.is_empty());
    finish(&d, "jobs: {a: {command: 'true'}}", "COMPLETED");
}

#[test]
fn mistake_is_named_with_its_place_and_the_word_that_was_meant() {
    let d = TestDaemon::start();
    let path = file(&d, "typo.yaml", "jobs:\n  a:\n    command: x\n    resources: {max_memroy: 5}\n")
        .display()
        .to_string();
    for command in [&["workflow", "validate"][..], &["workflow", "run"]] {
        let out = d.rnx([command, &[path.as_str()]].concat());
        assert!(
            out.stderr.contains("line 4, column 17") && out.stderr.contains("did you mean \"max_memory\""),
            "{}",
            out.stderr
        );
    }
    let json = d.rnx(["--json", "workflow", "run", &path]);
    assert_eq!(json.json()["code"], "INVALID_ARGUMENT");
}
