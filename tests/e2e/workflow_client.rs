//! `rnx workflow` at a terminal and in scripts: what it prints, how it follows, how it ends.

use super::client::at_a_terminal;
use crate::helper::TestDaemon;
use crate::helper::gate;
use crate::helper::wait::{eventually, holds};
use crate::helper::workflow::{file, run, start, status, until};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const GOOD: &str =
    "name: good\njobs:\n  first: {command: 'true'}\n  second: {command: 'true', requires: [first]}\n";
const BAD: &str = "name: bad\njobs:\n  \
                   first: {command: sh, args: [-c, 'exit 7']}\n  \
                   second: {command: 'true', requires: [first]}\n  \
                   third: {command: sh, args: [-c, 'exit 9'], requires: [first: FAILED]}\n";

/// The id of the job of a workflow that runs by now.
fn running(d: &TestDaemon, workflow: &str, job: &str) -> String {
    eventually(&format!("{job} runs"), || {
        let flow = d.rnx(["--json", "workflow", "status", workflow]);
        let flow = (flow.code == 0).then(|| crate::helper::workflow::Flow(flow.json()))?;
        holds(flow.job(job)["status"] == "RUNNING").map(|()| flow.id(job))
    })
}

#[test]
fn run_prints_the_reference_and_waits_with_the_failures_code() {
    let d = TestDaemon::start();
    let out = run(&d, &[], GOOD);
    let text = out.ok();
    let lines: Vec<&str> = text.lines().collect();
    let path = d.dir().join("flows/flow.yaml").display().to_string();
    let id = lines[2].strip_prefix("Workflow created with UUID: ").unwrap().to_owned();
    assert_eq!(lines[0], format!("Running workflow from: {path}"));
    assert_eq!(lines[1], "Workflow validation passed");
    assert_eq!(lines[3], format!("Use 'rnx workflow status {id}' to monitor progress"));
    until(&d, &id, "COMPLETED");
    let json = run(&d, &["--json"], GOOD).json();
    assert_eq!(
        (&json["status"], &json["total_jobs"], &json["name"]),
        (&"STARTED".into(), &2.into(), &"good".into())
    );
    assert_eq!(run(&d, &["-q", "--wait"], GOOD).code, 0);
    let failed = run(&d, &["--wait"], BAD);
    assert_eq!(failed.exits(7).lines().count(), 3);
    assert!(failed.stderr.contains("FAILED: 0/3 jobs completed (2 failed, 1 canceled)"), "{}", failed.stderr);
    assert!(failed.stderr.contains("first (exit code 7), third (exit code 9)"), "{}", failed.stderr);
    let json = run(&d, &["--json", "--wait"], BAD);
    assert_eq!((json.code, &json.json()["status"]), (7, &"FAILED".into()));
    assert_eq!(run(&d, &["--wait", "--detach"], GOOD).code, 125);
    assert_eq!(d.rnx(["--node", "viewer", "workflow", "run", &path]).code, 125);
}

#[test]
fn workflows_are_listed_shown_and_found_by_many_names() {
    let d = TestDaemon::start();
    assert_eq!(d.rnx(["workflow", "list"]).ok(), "No workflows found\n");
    assert_eq!(d.rnx(["--json", "workflow", "list", "--all"]).text().trim(), "[]");
    assert_eq!(d.rnx(["workflow", "status", "@last"]).code, 5);
    let bad = start(&d, BAD);
    let good = start(&d, GOOD);
    until(&d, &bad, "FAILED");
    until(&d, &good, "COMPLETED");
    let text =
        "name: waits\njobs: {a: {command: sleep, args: ['1000']}, b: {command: 'true', requires: [a]}}";
    let waits = start(&d, text);
    let active = d.rnx(["workflow", "list"]).ok();
    let rows: Vec<&str> = active.lines().skip(2).collect();
    assert!(
        rows.len() == 1 && rows[0].starts_with(&waits) && rows[0].ends_with("0/2           waits"),
        "{active}"
    );
    let all = d.rnx(["--json", "workflow", "list", "--all"]).json();
    let ids: Vec<&str> = all.as_array().unwrap().iter().map(|one| one["uuid"].as_str().unwrap()).collect();
    assert_eq!(ids, [&bad, &good, &waits], "oldest first");
    for word in [&bad[..8], "bad", &bad] {
        assert_eq!(d.rnx(["--json", "workflow", "status", word]).json()["uuid"], *bad, "{word}");
    }
    for word in ["@last", "wait", "waits"] {
        assert_eq!(d.rnx(["--json", "workflow", "status", word]).json()["uuid"], *waits, "{word}");
    }
    let text = d.rnx(["workflow", "status", "bad"]).ok();
    assert!(
        text.contains(&format!("Workflow UUID: {bad}\nStatus: FAILED\nProgress: 0/3 jobs completed")),
        "{text}"
    );
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(rows.contains(&vec!["0", "second", "CANCELED", "-", "first"]), "{text}");
    let first = status(&d, &bad).id("first");
    assert!(rows.contains(&vec![&first, "first", "FAILED", "7", "-"]), "{text}");
    start(&d, GOOD);
    let two = d.rnx(["workflow", "status", "good"]);
    assert!(two.code == 5 && two.stderr.contains(&good[..8]), "{}", two.stderr);
    let jobs = |word: &str| d.rnx(["job", "list", "--workflow", word]).ok().lines().count();
    assert_eq!((jobs("bad"), jobs(&good), jobs("waits")), (2, 2, 1));
    assert_eq!(d.rnx(["job", "list", "--workflow", "nobody"]).code, 5);
    let other = d.rnx(["job", "run", "--workflow=flow.yaml"]);
    assert!(
        other.code == 125 && other.stderr.contains("hint: rnx workflow run flow.yaml"),
        "{}",
        other.stderr
    );
    d.rnx(["workflow", "cancel", "waits"]).ok();
}

#[test]
fn watch_prints_each_change_once_in_a_pipe() {
    let d = TestDaemon::start();
    let out = run(&d, &["--watch", "-q"], BAD);
    let text = out.exits(7);
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.contains(" RUNNING") && !line.contains(" INITIALIZING")).collect();
    for line in ["first FAILED exit 7", "second CANCELED", "third FAILED exit 9"] {
        assert_eq!(lines.iter().filter(|shown| shown.starts_with(line)).count(), 1, "{text}");
    }
    assert!(lines.len() == 4 && lines[3].contains(" FAILED: 0/3 jobs completed"), "{text}");
    let events = run(&d, &["--watch", "--json"], GOOD).ok();
    let events: Vec<serde_json::Value> =
        events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&events[0]["event"], &events[0]["status"]), (&"started".into(), &"STARTED".into()));
    let last = events.last().unwrap();
    assert_eq!(
        (&last["event"], &last["status"], &last["completed_jobs"]),
        (&"ended".into(), &"COMPLETED".into(), &2.into())
    );
    let seen = |name: &str| {
        events.iter().any(|e| e["event"] == "job" && e["name"] == name && e["status"] == "COMPLETED")
    };
    assert!(seen("first") && seen("second"), "{events:?}");
}

#[test]
fn watch_survives_a_crash_of_the_daemon() {
    let d = TestDaemon::start();
    let text = format!("name: w\njobs: {{a: {{command: sh, args: [-c, '{}']}}}}", gate::wait_for("go"));
    let path = file(&d, "w.yaml", &text).display().to_string();
    let watch = d.rnx_spawn(["workflow", "run", "-q", "--watch", &path]);
    let job = running(&d, "w", "a");
    eventually("it has printed something", || holds(watch.printed() > 0));
    let node = d.crash();
    eventually("it has missed the daemon", || holds(watch.complained() > 0));
    let d = node.start();
    gate::open(&job, "go");
    let out = watch.finish();
    assert!(
        out.ok().contains("a COMPLETED") && out.stderr.contains("waiting for it to come back"),
        "{}",
        out.stderr
    );
    until(&d, "w", "COMPLETED");
}

#[test]
fn terminal_shows_a_tree_that_leaves_with_q() {
    let d = TestDaemon::start();
    let text = format!(
        "name: tree\njobs:\n  top: {{command: sh, args: [-c, '{}']}}\n  left: {{command: 'true', requires: [top]}}\n  \
         right: {{command: 'false', requires: [top]}}\n  join: {{command: 'true', requires: ['left=COMPLETED AND right=FAILED']}}\n",
        gate::wait_for("go")
    );
    let path = file(&d, "tree.yaml", &text).display().to_string();
    let shown = at_a_terminal(&d, &[("join", "q")], &["workflow", "run", "--watch", &path]).exits(130);
    assert!(
        shown.contains("\u{1b}[?1049h") && shown.contains("\u{1b}[?1049l"),
        "the other screen: {shown:?}"
    );
    assert!(shown.contains("\u{251c}\u{2500} left") && shown.contains("\u{2514}\u{2500} right"), "{shown}");
    assert!(shown.contains("the workflow goes on. See it again: rnx workflow status --watch "), "{shown}");
    let job = running(&d, "tree", "top");
    let left = at_a_terminal(&d, &[("top", "\\x03")], &["workflow", "status", "--watch", "tree"]);
    assert_eq!(left.code, 0, "{}", left.text());
    gate::open(&job, "go");
    let end = at_a_terminal(&d, &[], &["workflow", "status", "--watch", "tree"]).ok();
    let last = end.rsplit("\u{1b}[?1049l").next().unwrap().replace("\u{1b}[0m", "");
    assert!(last.contains("1 FAILED") && last.contains("3 COMPLETED") && last.contains("exit 1"), "{last}");
}

#[test]
fn interrupted_wait_leaves_the_workflow_running() {
    let d = TestDaemon::start();
    let path = file(&d, "long.yaml", "name: long\njobs: {a: {command: sleep, args: ['1000']}}")
        .display()
        .to_string();
    let shown = at_a_terminal(&d, &[("created with UUID", "\\x03")], &["workflow", "run", "--wait", &path])
        .exits(130);
    let id = d.rnx(["--json", "workflow", "list"]).json()[0]["uuid"].as_str().unwrap().to_owned();
    assert!(shown.contains(&format!("Cancel it: rnx workflow cancel {}", &id[..8])), "{shown}");
    d.rnx(["workflow", "cancel", "long"]).ok();
    until(&d, &id, "CANCELED");
}

#[test]
fn files_lie_beside_the_workflow_and_large_ones_are_streamed() {
    let d = TestDaemon::start();
    let text = "jobs:\n  small: {command: ./tool.sh, uploads: {files: [tool.sh]}}\n  \
                large: {command: sh, args: [-c, 'stat -c %s huge.bin'], uploads: {files: [huge.bin, tool.sh]}, resources: {max_memory: 512}}\n";
    let path = file(&d, "files.yaml", text);
    let beside = path.parent().unwrap();
    fs::write(beside.join("tool.sh"), "#!/bin/sh\necho tool\n").unwrap();
    fs::set_permissions(beside.join("tool.sh"), fs::Permissions::from_mode(0o750)).unwrap();
    let absent = d.rnx(["workflow", "run", &path.display().to_string()]);
    assert!(
        absent.code == 125 && absent.stderr.contains("upload \"huge.bin\" is no file in"),
        "{}",
        absent.stderr
    );
    for size in [1 << 20, 140 << 20] {
        fs::File::create(beside.join("huge.bin")).unwrap().set_len(size).unwrap();
        let out = d.rnx(["workflow", "run", &path.display().to_string()]);
        assert!(out.ok().contains("Uploading 2 files\n"), "{}", out.text());
        let text = out.text();
        let id = text.lines().find_map(|line| line.strip_prefix("Workflow created with UUID: ")).unwrap();
        let flow = until(&d, id, "COMPLETED");
        assert_eq!((flow.log(&d, "small"), flow.log(&d, "large")), ("tool\n".into(), format!("{size}\n")));
    }
}
