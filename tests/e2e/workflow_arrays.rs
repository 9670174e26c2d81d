//! Arrays and matrices: many jobs that stand in the graph as one.

use crate::helper::TestDaemon;
use crate::helper::skip::is_root;
use crate::helper::tracer::{self, Tracer};
use crate::helper::wait::{eventually, holds};
use crate::helper::workflow::{finish, run, start, status, until};
use serde_json::json;

#[test]
fn array_runs_its_elements_and_is_one_job_for_others() {
    let d = TestDaemon::start();
    let flow = finish(
        &d,
        "jobs:\n  \
         before: {command: 'true'}\n  \
         shards: {command: sh, args: [-c, 'echo shard $JOB_ARRAY_INDEX'], array: 0-19%4, requires: [before]}\n  \
         grid: {command: sh, args: [-c, 'echo $JOB_MATRIX_OS-$JOB_MATRIX_LEVEL'], matrix: {os: [a, b], level: [1, 2]}}\n  \
         join: {command: 'true', requires: [shards, grid]}\n",
        "COMPLETED",
    );
    let counts = |name: &str| flow.job(name)["array"].clone();
    let ended = |n: u8| json!({"total": n, "running": 0, "completed": n, "failed": 0, "canceled": 0});
    assert_eq!(
        (counts("shards"), counts("grid"), counts("join")),
        (ended(20), ended(4), serde_json::Value::Null)
    );
    assert_eq!(
        (&flow.0["total_jobs"], &flow.0["completed_jobs"]),
        (&4.into(), &4.into()),
        "an array is one job"
    );
    let printed = |name: &str| {
        let ids = flow.job(name)["uuids"].as_array().unwrap().clone();
        let mut lines: Vec<String> =
            ids.iter().map(|id| d.rnx(["job", "log", id.as_str().unwrap()]).ok()).collect();
        lines.sort();
        lines
    };
    let mut expected: Vec<String> = (0..20).map(|n| format!("shard {n}\n")).collect();
    expected.sort();
    assert_eq!(printed("shards"), expected);
    assert_eq!(printed("grid"), ["a-1\n", "a-2\n", "b-1\n", "b-2\n"]);
    let text = d.rnx(["workflow", "status", "@last"]).ok();
    assert!(text.contains("20 of 20 completed") && text.lines().count() < 25, "{text}");
}

#[test]
fn failed_element_fails_its_array_and_the_others_run() {
    let d = TestDaemon::start();
    let text = "jobs:\n  \
                shards: {command: sh, args: [-c, 'test $JOB_ARRAY_INDEX != 2'], array: 0-5}\n  \
                join: {command: 'true', requires: [shards]}\n  \
                report: {command: 'true', requires: [shards: FAILED]}\n";
    let flow = finish(&d, text, "FAILED");
    assert_eq!(flow.all(), ["shards FAILED", "join CANCELED", "report COMPLETED"]);
    let array = &flow.job("shards")["array"];
    assert_eq!((&array["completed"], &array["failed"]), (&5.into(), &1.into()));
    let watched = run(&d, &["--watch", "-q"], text);
    assert!((1..=125).contains(&watched.code), "{}", watched.code);
    assert!(watched.text().contains("shards FAILED [########] 6/6 failed 1"), "{}", watched.text());
}

#[test]
fn no_more_elements_run_at_a_time_than_the_file_says() {
    let d = TestDaemon::start();
    let id = start(&d, "jobs: {a: {command: sleep, args: ['1000'], array: 0-9%3}}");
    let ids = eventually("three run", || {
        let flow = status(&d, &id);
        let job = flow.job("a").clone();
        assert!(job["array"]["running"].as_i64().unwrap() <= 3, "{job:#}");
        let ids: Vec<String> =
            job["uuids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect();
        holds(job["array"]["running"] == 3).map(|()| ids)
    });
    assert_eq!(ids.len(), 3);
    d.until_status(&ids[1], "RUNNING");
    d.rnx(["job", "stop", &ids[1]]).ok();
    let ids = eventually("a fourth one has taken the place", || {
        let ids = status(&d, &id).job("a")["uuids"].as_array().unwrap().len();
        holds(ids == 4).map(|()| ids)
    });
    assert_eq!(ids, 4);
    let d = d.crash().start();
    assert_eq!(status(&d, &id).job("a")["array"]["running"], 3);
    d.rnx(["workflow", "cancel", &id]).ok();
    let flow = until(&d, &id, "CANCELED");
    assert_eq!(flow.job("a")["array"]["running"], 0);
}

#[test]
fn elements_are_tried_again_each_for_itself() {
    let d = TestDaemon::start();
    let flow = finish(
        &d,
        "jobs: {a: {command: sh, args: [-c, 'exit $(( JOB_ARRAY_INDEX % 2 ))'], array: 0-3, retries: {max: 1, backoff: 10ms}}}",
        "FAILED",
    );
    let job = flow.job("a");
    assert_eq!((&job["array"]["completed"], &job["array"]["failed"]), (&2.into(), &2.into()));
    assert_eq!(job["uuids"].as_array().map(Vec::len), Some(6), "two of four had a second attempt");
}

#[test]
fn thousand_elements_are_one_call_and_keep_their_order() {
    let d = TestDaemon::start();
    let id = start(&d, "jobs: {a: {command: 'true', array: 0-999%20}}");
    let flow = until(&d, &id, "COMPLETED");
    assert_eq!(flow.job("a")["array"]["completed"], 1000);
    assert_eq!(flow.job("a")["uuids"].as_array().map(Vec::len), Some(1000));
}

#[test]
fn thousand_elements_take_a_handful_of_syncs() {
    needs!(is_root() && tracer::is_there(), "needs root and strace(1)");
    let d = TestDaemon::with([("joblet.maxConcurrentJobs", serde_yaml::Value::from(1))]);
    let running = d.submit(["sleep", "1000"]);
    let syncs = |elements: usize| {
        let log = d.dir().join("syncs");
        let tracer = Tracer::watch(d.pid(), &log, &["-y", "-e", "trace=fsync,fdatasync"]);
        let id = start(&d, &format!("jobs: {{a: {{command: 'true', array: 0-{}}}}}", elements - 1));
        // Those that may wait beside others have become jobs.
        let jobs = elements.min(100);
        eventually("the elements wait", || {
            holds(status(&d, &id).job("a")["uuids"].as_array().is_some_and(|all| all.len() >= jobs))
        });
        drop(tracer);
        let log = std::fs::read_to_string(log).unwrap();
        log.lines().filter(|line| line.contains("/state.db")).count()
    };
    let (one, thousand) = (syncs(1), syncs(1000));
    // The workflow is one, and those elements that become jobs at once are committed together.
    assert!(one > 0 && thousand <= one + 16, "{one} syncs for one element, {thousand} for a thousand");
    d.rnx(["job", "stop", &running]).ok();
}
