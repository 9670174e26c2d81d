//! The ends of jobs, and the effects of stop, delete and delete-all.

use crate::helper::wait::holds;
use crate::helper::{TestDaemon, eventually, residue};
use joblet::pb::joblet::{
    FileUpload, GetJobLogsReq, GetJobStatusReq, GetJobStatusRes, RunJobRequest, StopJobReq,
};
use joblet::pb::joblet_grpc::JobServiceClient;
use std::time::{Duration, Instant};

/// Runs a job through a channel that stays open and waits for its end: three milliseconds instead of thirty.
fn finish(client: &JobServiceClient, request: &RunJobRequest) -> GetJobStatusRes {
    let id = client.run_job(request).unwrap_or_else(|e| panic!("{request:?}: {e}")).jobUuid;
    let mut end = None;
    eventually(&format!("{request:?} is over"), || {
        let status =
            client.get_job_status(&GetJobStatusReq { uuid: id.clone(), ..Default::default() }).unwrap();
        holds(!["RUNNING", "INITIALIZING"].contains(&status.status.as_str()) && end.replace(status).is_none())
    });
    end.unwrap()
}

fn shell(script: &str) -> RunJobRequest {
    let args = vec!["-c".to_owned(), script.to_owned()];
    RunJobRequest { command: "sh".to_owned(), args, ..Default::default() }
}

// This loop found that a job never ended when its output was complete before the loop knew its PID 1.
#[test]
fn every_exit_code_comes_back_exactly() {
    let d = TestDaemon::start();
    let client = d.client("default");
    for code in 0..256 {
        let end = finish(&client, &shell(&format!("exit {code}")));
        let status = if code == 0 { "COMPLETED" } else { "FAILED" };
        assert_eq!((end.status.as_str(), end.exitCode), (status, code));
        assert_eq!(end.exit_reason, "exited", "exit {code}");
    }
}

#[test]
fn every_fatal_signal_is_reported_as_128_plus_its_number() {
    let d = TestDaemon::start();
    let client = d.client("default");
    for signal in (1..=64).filter(|n| ![17, 18, 19, 20, 21, 22, 23, 28, 32, 33].contains(n)) {
        let end = finish(&client, &shell(&format!("kill -{signal} $$; while :; do :; done")));
        assert_eq!(
            (end.status.as_str(), end.exitCode, end.signal),
            ("FAILED", 128 + signal, signal),
            "{}",
            end.message
        );
        assert_eq!(end.exit_reason, "signaled", "signal {signal}");
    }
    assert_eq!(d.run(["sh", "-c", "kill -9 $$"]).code, 137);
    assert_eq!(d.run(["sh", "-c", "kill -SEGV $$"]).code, 139);
}

#[test]
fn a_command_that_cannot_be_executed_says_why() {
    let d = TestDaemon::start();
    let client = d.client("default");
    let file = |content: &[u8], mode| FileUpload {
        path: "p".to_owned(),
        content: content.to_vec(),
        mode,
        ..Default::default()
    };
    let elf_of_another_machine = {
        let mut elf = vec![0; 64];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        elf[16] = 2;
        elf[18..20].copy_from_slice(&[183, 0]);
        elf
    };
    for (what, command, upload, codes) in [
        ("missing", "no-such-program", None, &[127][..]),
        ("missing by path", "/work/nowhere", None, &[127]),
        ("below a file", "/etc/passwd/x", None, &[126, 127]),
        ("a directory", "/usr/bin", None, &[126]),
        ("not executable", "./p", Some(file(b"#!/bin/sh\n", 0o644)), &[126]),
        ("no format", "./p", Some(file(b"just text", 0o755)), &[126]),
        ("empty", "./p", Some(file(b"", 0o755)), &[126]),
        ("interpreter missing", "./p", Some(file(b"#!/no/such/interpreter\n", 0o755)), &[126, 127]),
        ("torn ELF", "./p", Some(file(b"\x7fELF\x02\x01\x01torn", 0o755)), &[126]),
        ("another machine's ELF", "./p", Some(file(&elf_of_another_machine, 0o755)), &[126]),
    ] {
        let request = RunJobRequest {
            command: command.to_owned(),
            uploads: upload.into_iter().collect(),
            ..Default::default()
        };
        let end = finish(&client, &request);
        assert_eq!(end.status, "FAILED", "{what}");
        assert!(codes.contains(&end.exitCode), "{what}: {} {}", end.exitCode, end.message);
        assert_eq!(end.exit_reason, "start_failed", "{what}: {}", end.message);
        assert!(!end.message.is_empty(), "{what}");
    }
    let long =
        RunJobRequest { command: "true".to_owned(), args: vec!["x".repeat(200_000)], ..Default::default() };
    let error = client.run_job(&long).expect_err("an argument that no kernel takes").to_string();
    assert!(error.contains("arg"), "{error}");
    assert_eq!(d.run(["no-such-program"]).code, 127);
    assert_eq!(d.run(["/usr/bin"]).code, 126);
}

#[test]
fn a_stop_ends_what_ignores_it_and_everything_it_started() {
    let d = TestDaemon::start();
    // TERM is ignored, and the children have left the session.
    let script = "trap '' TERM; for i in 1 2 3 4 5; do setsid sh -c \"trap '' TERM HUP; sleep 1000\" & done; echo up; sleep 1000; sleep 1000";
    let id = d.submit(["sh", "-c", script]);
    let client = d.client("default");
    until_output(&client, &id, b"up\n");
    // On an open connection: the start of a new rnx on a busy machine is no part of the stop.
    let (request, before) = (StopJobReq { uuid: id.clone(), ..Default::default() }, Instant::now());
    let stopped = client.stop_job(&request).unwrap();
    assert!(before.elapsed() < Duration::from_millis(100 + 1000), "took {:?}", before.elapsed());
    assert_eq!((stopped.status.as_str(), stopped.exitCode), ("STOPPED", -1));
    let status = d.status(&id);
    assert_eq!((&status["status"], &status["exitReason"]), (&"STOPPED".into(), &"stopped".into()));
    assert_eq!(residue::payloads_of(&d.uids()), Vec::<String>::new());
}

#[test]
fn stop_lets_a_job_write_its_last_output() {
    let d = TestDaemon::with([("joblet.stopGracePeriod", "20s")]);
    let id = d.submit([
        "sh",
        "-c",
        "exec 2>/dev/null; trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done",
    ]);
    until_output(&d.client("default"), &id, b"up\n");
    let out = d.rnx(["job", "stop", &id]);
    out.ok();
    assert_eq!((out.field("Status"), out.field("ExitCode")), ("STOPPED".to_owned(), "-1".to_owned()));
    assert_eq!(d.rnx(["job", "log", &id]).ok(), "up\nbye\n");
    let status = d.status(&id);
    assert_eq!((&status["status"], &status["exitCode"]), (&"STOPPED".into(), &(-1).into()));
}

#[test]
fn stopping_or_deleting_in_the_wrong_state_says_which_state() {
    let d = TestDaemon::start();
    let over = d.submit(["true"]);
    d.until_status(&over, "COMPLETED");
    let out = d.rnx(["job", "stop", &over]);
    assert_eq!(out.code, 6);
    let text = format!("job is not running: {over} (current status: COMPLETED)");
    assert!(out.stderr.contains(&text), "{}", out.stderr);
    let running = d.submit(["sleep", "1000"]);
    let out = d.rnx(["job", "delete", &running]);
    assert_eq!(out.code, 6);
    assert!(out.stderr.contains("Cannot delete running job"), "{}", out.stderr);
    let unknown = "00000000-0000-4000-8000-000000000000";
    for command in ["status", "stop", "delete", "log"] {
        let out = d.rnx(["job", command, unknown]);
        assert_eq!(out.code, 5, "{command}: {}", out.stderr);
        assert!(out.stderr.contains(&format!("job not found: {unknown}")), "{}", out.stderr);
    }
    d.rnx(["job", "stop", &running]).ok();
}

#[test]
fn delete_removes_the_output_and_delete_all_spares_what_runs() {
    let d = TestDaemon::start();
    let first = d.submit(["echo", "one"]);
    let second = d.submit(["echo", "two"]);
    let running = d.submit(["sleep", "1000"]);
    d.until_status(&first, "COMPLETED");
    d.until_status(&second, "COMPLETED");
    d.rnx(["job", "delete", &first[..8]]).ok();
    assert_eq!(d.rnx(["job", "status", &first]).code, 5);
    eventually("the deleted job's spool is gone", || holds(!d.dir().join("spool").join(&first).exists()));
    let out = d.rnx(["job", "delete-all"]);
    assert!(
        out.ok().contains("Successfully deleted 1 jobs, skipped 1 running/scheduled jobs"),
        "{}",
        out.text()
    );
    assert_eq!(d.status(&running)["status"], "RUNNING");
    d.rnx(["job", "stop", &running]).ok();
    d.rnx(["job", "run", "--rm", "--wait", "-q", "true"]).ok();
    let left = d.rnx(["job", "list", "--json"]).json();
    assert_eq!(left.as_array().unwrap().len(), 1, "--rm deletes after success: {left}");
}

#[test]
fn the_timeout_stops_a_job_and_says_so() {
    let d = TestDaemon::start();
    let out = d.run(["--timeout=1s", "sleep", "1000"]);
    assert_eq!(out.code, 124, "{}", out.stderr);
    let id = d.rnx(["job", "list", "--json"]).json()[0]["uuid"].as_str().unwrap().to_owned();
    let status = d.status(&id);
    assert_eq!(
        (&status["status"], &status["exitReason"], &status["exitCode"]),
        (&"STOPPED".into(), &"timeout".into(), &(-1).into())
    );
}

#[test]
fn orphans_are_reaped_and_do_not_outlive_the_command() {
    let d = TestDaemon::start();
    // Without a zombie there are init, the shell, its probe and the orphan. The shell repeats the probe until that is so.
    let script = "for i in $(seq 50); do (sh -c 'exit 0' &) ; done; (setsid sleep 1000 &)
        for look in $(seq 500); do left=$(ls /proc | grep -c '^[0-9]'); [ $left -gt 8 ] || break; sleep 0.05; done
        echo $left";
    let left: usize = d.run(["sh", "-c", script]).ok().trim().parse().unwrap();
    assert!(left <= 8, "{left} processes: zombies gather");
    eventually("the orphan is gone", || holds(residue::payloads_of(&d.uids()).is_empty()));
}

#[test]
fn an_id_may_be_cut_while_it_stays_unique() {
    let d = TestDaemon::start();
    let id = d.submit(["true"]);
    assert_eq!(d.status(&id[..4])["uuid"].as_str(), Some(id.as_str()));
    assert_eq!(d.rnx(["job", "status", &id[..3]]).code, 2, "three characters are too few");
    for _ in 0..40 {
        d.submit(["true"]);
    }
    // Seventeen ids share one of sixteen first characters; the client requires four at least, so the test calls the API.
    let error =
        d.client("default").get_job_status(&GetJobStatusReq::default()).expect_err("an empty id").to_string();
    assert!(error.contains("3-") || error.contains("INVALID_ARGUMENT"), "{error}");
}

/// Reads the job's live output until it has `wanted`.
fn until_output(client: &JobServiceClient, id: &str, wanted: &[u8]) {
    use futures_util::StreamExt;
    let request = GetJobLogsReq { uuid: id.to_owned(), ..Default::default() };
    let mut stream = client.get_job_logs(&request).unwrap();
    let mut got = Vec::new();
    while !got.ends_with(wanted) {
        let chunk = futures_executor::block_on(stream.next());
        got.extend(chunk.unwrap_or_else(|| panic!("the log ended with {got:?}")).unwrap().payload);
    }
    stream.cancel();
}
