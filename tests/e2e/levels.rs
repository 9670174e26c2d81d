//! The levels of the daemon's log: failures, limits, and the whole way of a job.

use crate::helper::TestDaemon;

#[test]
fn failures_are_errors_limits_are_warnings_the_rest_is_info() {
    let d = TestDaemon::start();
    let flags = ["job", "run", "-q", "--wait"];
    let run = |args: &[&str]| d.rnx(flags.iter().chain(args).copied()).text().trim().to_owned();
    let failed = run(&["sh", "-c", "exit 3"]);
    let killed = run(&["sh", "-c", "kill -9 $$"]);
    let late = run(&["--timeout=1s", "sleep", "1000"]);
    let fine = run(&["true"]);
    let stopped = d.submit(["sleep", "1000"]);
    d.rnx(["job", "stop", &stopped]).ok();
    for (level, id) in
        [("ERROR", &failed), ("ERROR", &killed), ("WARN", &late), ("INFO", &fine), ("INFO", &stopped)]
    {
        d.until_logged(&format!("[{level}] job ended | jobId={id} "));
    }
    assert!(!d.log().contains("[DEBUG]"), "{}", d.log());
}

#[test]
fn refused_calls_name_their_client_and_a_flood_is_cut() {
    let d = TestDaemon::start();
    for _ in 0..40 {
        let out = d.rnx(["--node", "viewer", "job", "stop", "f47ac10b-58cc-4372-a567-0e02b2c3d479"]);
        assert_eq!(out.code, 4, "{}", out.stderr);
    }
    d.until_logged("[ERROR] request refused | peer=ipv4:127.0.0.1:");
    let log = d.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("request refused")).collect();
    for part in
        ["subject=\"CN=viewer, OU=viewer, O=joblet\"", "method=/joblet.JobService/StopJob", "role viewer"]
    {
        assert!(lines[0].contains(part), "no {part} in: {}", lines[0]);
    }
    // Five lines in ten seconds; the calls may take longer than that.
    assert!(lines.len() < 20, "{lines:#?}");
}

#[test]
fn debug_lines_trace_the_whole_way_of_a_job() {
    let d = TestDaemon::with([("logging.level", "DEBUG")]);
    let id = d.submit([
        "-e",
        "PLAIN=visible-only-in-replies",
        "sh",
        "-c",
        "trap 'exit 4' TERM; while :; do sleep 0.05; done",
    ]);
    d.rnx(["job", "stop", &id]).ok();
    d.rnx(["job", "delete", &id]).ok();
    let step =
        |fact: &str, from: &str, to: &str| format!("job step | jobId={id} fact={fact} from={from} to={to}");
    let all = [
        format!("job accepted | jobId={id} next=starts_"),
        format!("job goes to a spawner | jobId={id} "),
        step("spawned", "starting", "created"),
        step("executed", "created", "running"),
        step("stop", "running", "stop_requested"),
        step("recorded", "stop_requested", "stopping"),
        step("init_gone", "stopping", "draining"),
        step("output_complete", "draining", "recording"),
        step("recorded", "recording", "finished"),
        format!("job forgotten | jobId={id}"),
    ];
    d.until_logged(&all[all.len() - 1]);
    let log = d.log();
    let mut rest = log.as_str();
    for line in &all {
        let at = rest.find(line.as_str());
        rest = &rest[at.unwrap_or_else(|| panic!("no {line:?}, in this order, in:\n{log}"))..];
    }
    assert!(log.contains("[DEBUG] call | peer=ipv4:127.0.0.1:"), "{log}");
    assert!(!log.contains("visible-only-in-replies"), "values of variables are in the log");
}
