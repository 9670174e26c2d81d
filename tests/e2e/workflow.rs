//! Workflows as the daemon runs them: conditions, failures, handlers, cancellation, retries, and who may do what.

use crate::helper::TestDaemon;
use crate::helper::gate;
use crate::helper::wait::{eventually, holds};
use crate::helper::workflow::{Flow, finish, run, start, status, until};
use grpcio::{CallOption, RpcStatusCode};
use joblet::pb::joblet::{
    CancelWorkflowRequest, FileUpload, GetWorkflowJobsRequest, GetWorkflowStatusRequest,
    GetWorkflowStatusResponse, ListWorkflowsRequest, RunWorkflowRequest,
};
use std::time::Duration;

fn bounded() -> CallOption {
    CallOption::default().timeout(Duration::from_secs(60))
}

fn request(yaml: &str) -> RunWorkflowRequest {
    RunWorkflowRequest { workflow: "flow.yaml".into(), yamlContent: yaml.into(), ..Default::default() }
}

fn code<T: std::fmt::Debug>(answer: grpcio::Result<T>) -> (RpcStatusCode, String) {
    match answer {
        Err(grpcio::Error::RpcFailure(status)) => (status.code(), status.message().to_owned()),
        other => panic!("not refused: {other:?}"),
    }
}

fn asked(d: &TestDaemon, id: &str) -> GetWorkflowStatusResponse {
    let request = GetWorkflowStatusRequest { workflowUuid: id.into(), ..Default::default() };
    d.client("viewer").get_workflow_status_opt(&request, bounded()).unwrap()
}

/// A diamond whose first job waits for the test.
fn diamond() -> String {
    let wait = gate::wait_for("go");
    format!(
        "name: diamond\njobs:\n  \
         top: {{command: sh, args: [-c, '{wait}']}}\n  \
         left: {{command: 'true', requires: [top: COMPLETED]}}\n  \
         right: {{command: 'true', requires: [top: COMPLETED]}}\n  \
         bottom: {{command: sh, args: [-c, 'echo done; exit 0'], requires: [left: COMPLETED, right: COMPLETED]}}\n"
    )
}

#[test]
fn jobs_start_in_the_order_of_the_graph_and_know_their_workflow() {
    let d = TestDaemon::start();
    let id = start(&d, &diamond());
    let running = eventually("the first job runs", || {
        let flow = status(&d, &id);
        holds(flow.job("top")["status"] == "RUNNING").map(|()| flow)
    });
    assert_eq!(running.all(), ["top RUNNING", "left PENDING", "right PENDING", "bottom PENDING"]);
    assert_eq!((running.status(), running.job("bottom")["id"].as_str()), ("RUNNING", Some("0")));
    assert!(running.job("top")["start_time"].is_string() && running.job("bottom")["start_time"].is_null());
    assert_eq!(running.job("bottom")["dependencies"], serde_json::json!(["left", "right"]));
    let top = running.id("top");
    gate::open(&top, "go");
    let done = until(&d, &id, "COMPLETED");
    assert_eq!(done.all(), ["top COMPLETED", "left COMPLETED", "right COMPLETED", "bottom COMPLETED"]);
    assert_eq!((&done.0["completed_jobs"], &done.0["total_jobs"]), (&4.into(), &4.into()));
    assert_eq!(done.job("bottom")["exit_code"], 0);
    assert_eq!(done.log(&d, "bottom"), "done\n");
    let times =
        ["created_at", "started_at", "completed_at"].map(|key| done.0[key].as_str().unwrap().to_owned());
    assert!(times.iter().all(|time| time.len() == "2026-01-01T00:00:00Z".len()), "whole seconds: {times:?}");
    assert!(times.is_sorted());
    // An ordinary job, with a name and a workflow.
    let child = d.status(&top);
    assert_eq!((&child["name"], &child["workflowUuid"]), (&"top".into(), &id.as_str().into()));
    assert_eq!(child["dependencies"], serde_json::json!([]));
    assert_eq!(d.status(&done.id("bottom"))["dependencies"], serde_json::json!(["left", "right"]));
    let end = |name: &str, key: &str| done.job(name)[key].as_str().unwrap().to_owned();
    assert!(end("top", "end_time") <= end("bottom", "start_time"));
    let listed = d.rnx(["--json", "job", "list", "--workflow", "diamond"]).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(4));
}

#[test]
fn failure_runs_its_handler_and_cancels_what_needed_success() {
    let d = TestDaemon::start();
    let flow = finish(
        &d,
        "jobs:\n  \
         bad: {command: sh, args: [-c, 'exit 3']}\n  \
         needs-bad: {command: 'true', requires: [bad: COMPLETED]}\n  \
         behind: {command: 'true', requires: [needs-bad: COMPLETED]}\n  \
         handler: {command: 'true', requires: [bad: FAILED]}\n  \
         finished: {command: 'true', requires: [bad: FINISHED]}\n  \
         good: {command: 'true'}\n  \
         after-good: {command: 'true', requires: [good]}\n  \
         unneeded: {command: 'true', requires: [good: FAILED]}\n  \
         after-cancel: {command: 'true', requires: [needs-bad: CANCELED]}\n",
        "FAILED",
    );
    assert_eq!(
        flow.all(),
        [
            "bad FAILED",
            "needs-bad CANCELED",
            "behind CANCELED",
            "handler COMPLETED",
            "finished COMPLETED",
            "good COMPLETED",
            "after-good COMPLETED",
            "unneeded CANCELED",
            "after-cancel COMPLETED",
        ]
    );
    assert_eq!((&flow.0["failed_jobs"], &flow.0["canceled_jobs"]), (&1.into(), &3.into()));
    assert_eq!((&flow.job("bad")["exit_code"], &flow.job("bad")["reason"]), (&3.into(), &"exited".into()));
    assert_eq!(flow.job("behind")["id"], "0", "it was never started");
}

#[test]
fn conditions_have_not_in_and_parentheses() {
    let d = TestDaemon::start();
    let flow = finish(
        &d,
        "jobs:\n  \
         a: {command: 'true'}\n  \
         b: {command: 'false'}\n  \
         c: {command: 'true'}\n  \
         either: {command: 'true', requires: ['(a=FAILED AND c=COMPLETED) OR (b=FAILED AND c=COMPLETED)']}\n  \
         one-of: {command: 'true', requires: [expression: \"b IN (FAILED, STOPPED) AND NOT a=FAILED\"]}\n  \
         none-of: {command: 'true', requires: ['b NOT IN (COMPLETED, CANCELED) && !(a != COMPLETED)']}\n  \
         never: {command: 'true', requires: ['a=COMPLETED AND (b=COMPLETED OR c=FAILED)']}\n",
        "FAILED",
    );
    let expected = ["either COMPLETED", "one-of COMPLETED", "none-of COMPLETED", "never CANCELED"];
    assert_eq!(flow.all()[3..], expected);
    assert_eq!(
        flow.job("either")["dependencies"],
        serde_json::json!(["a", "b", "c"]),
        "names of conditions too"
    );
}

#[test]
fn workflows_with_the_same_names_do_not_see_each_other() {
    let d = TestDaemon::start();
    let flow = |code: u8, word: &str| {
        format!(
            "name: {word}\njobs:\n  \
             build: {{command: sh, args: [-c, '{}; echo {word}; exit {code}']}}\n  \
             test: {{command: echo, args: [{word}], requires: [build]}}\n",
            gate::wait_for("go")
        )
    };
    let (good, bad) = (start(&d, &flow(0, "good")), start(&d, &flow(1, "bad")));
    for id in [&bad, &good] {
        let build = eventually("its build runs", || {
            let flow = status(&d, id);
            holds(flow.job("build")["status"] == "RUNNING").map(|()| flow.id("build"))
        });
        gate::open(&build, "go");
        until(&d, id, if id == &good { "COMPLETED" } else { "FAILED" });
    }
    let (good, bad) = (status(&d, &good), status(&d, &bad));
    assert_eq!((good.log(&d, "build"), good.log(&d, "test")), ("good\n".into(), "good\n".into()));
    assert_eq!(
        (bad.log(&d, "build"), bad.job("test")["status"].as_str()),
        ("bad\n".into(), Some("CANCELED"))
    );
    // GetWorkflowJobs answers about the workflow in the request.
    for flow in [&good, &bad] {
        let request = GetWorkflowJobsRequest {
            workflowUuid: flow.0["uuid"].as_str().unwrap().into(),
            ..Default::default()
        };
        let jobs = d.client("viewer").get_workflow_jobs_opt(&request, bounded()).unwrap().jobs;
        assert_eq!(jobs[0].jobUuid, flow.id("build"));
    }
}

#[test]
fn cancel_stops_what_runs_and_keeps_what_has_ended() {
    let d = TestDaemon::start();
    let text = "name: long\njobs:\n  \
                done: {command: 'true'}\n  \
                runs: {command: sleep, args: ['1000'], requires: [done]}\n  \
                waits: {command: 'true', requires: [runs]}\n  \
                handler: {command: 'true', requires: ['runs=STOPPED OR runs=FAILED OR runs=CANCELED']}\n";
    let id = start(&d, text);
    eventually("the second job runs", || holds(status(&d, &id).job("runs")["status"] == "RUNNING"));
    let out = d.rnx(["workflow", "cancel", "long"]);
    assert_eq!(out.ok(), format!("Workflow canceled:\nUUID: {id}\nStatus: {}\n", out.field("Status")));
    let flow = until(&d, &id, "CANCELED");
    assert_eq!(flow.job("done")["status"], "COMPLETED");
    assert!(["STOPPED", "CANCELED"].contains(&flow.job("runs")["status"].as_str().unwrap()), "{flow:?}");
    assert_eq!(
        (&flow.job("waits")["status"], &flow.job("handler")["status"]),
        (&"CANCELED".into(), &"CANCELED".into())
    );
    d.until_status(&flow.id("runs"), "STOPPED");
    assert_eq!(d.rnx(["workflow", "cancel", &id]).field("Status"), "CANCELED", "once more changes nothing");
    let done = finish(&d, "jobs: {a: {command: 'true'}}", "COMPLETED");
    let late = d.rnx(["workflow", "cancel", done.0["uuid"].as_str().unwrap()]);
    assert!(late.code == 6 && late.stderr.contains("(current status: COMPLETED)"), "{}", late.stderr);
    assert_eq!(d.rnx(["workflow", "cancel", "nobody"]).code, 5);
}

#[test]
fn stopped_job_fails_its_workflow() {
    let d = TestDaemon::start();
    let id = start(
        &d,
        "jobs: {a: {command: sleep, args: ['1000']}, b: {command: 'true', requires: [a: STOPPED]}}",
    );
    let running = eventually("the job runs", || {
        let flow = status(&d, &id);
        holds(flow.job("a")["status"] == "RUNNING").map(|()| flow)
    });
    d.rnx(["job", "stop", &running.id("a")]).ok();
    assert_eq!(until(&d, &id, "FAILED").all(), ["a STOPPED", "b COMPLETED"]);
}

#[test]
fn refused_workflow_leaves_nothing_and_says_where() {
    let d = TestDaemon::start();
    let client = d.client("default");
    for (yaml, wanted, words) in [
        (
            "jobs: {a: {command: x, requires: [b]}, b: {command: x, requires: [a]}}",
            RpcStatusCode::INVALID_ARGUMENT,
            "circular dependency detected: a -> b -> a",
        ),
        ("jobs: {a: {command: x, requires: [a]}}", RpcStatusCode::INVALID_ARGUMENT, "a"),
        (
            "jobs: {a: {command: x, requires: [b]}}",
            RpcStatusCode::INVALID_ARGUMENT,
            "job 'a' depends on non-existent job 'b'",
        ),
        ("jobs: {a: {command: ''}}", RpcStatusCode::INVALID_ARGUMENT, "command"),
        ("jobs: {}", RpcStatusCode::INVALID_ARGUMENT, "job"),
        (
            "jobs: {a: {command: x}, b: {command: x, requires: [a: DONE]}}",
            RpcStatusCode::INVALID_ARGUMENT,
            "DONE",
        ),
        (
            "jobs:\n  a:\n    command: x\n    max_memroy: 5\n",
            RpcStatusCode::INVALID_ARGUMENT,
            "line 4, column 5: unknown key",
        ),
        (
            "jobs: {a: {command: x, network: no-such-network}}",
            RpcStatusCode::FAILED_PRECONDITION,
            "no-such-network",
        ),
        (
            "jobs: {a: {command: x, uploads: {files: [absent.txt]}}}",
            RpcStatusCode::INVALID_ARGUMENT,
            "absent.txt",
        ),
        (
            "jobs: {a: {command: x, environment: {A: '${B}', B: '${A}'}}}",
            RpcStatusCode::INVALID_ARGUMENT,
            "A",
        ),
    ] {
        println!("{yaml}");
        let (found, text) = code(client.run_workflow_opt(&request(yaml), bounded()));
        assert!(found == wanted && text.contains(words), "{found} {text}");
    }
    // A path on the node's own disk is never read.
    let secret = d.dir().join("joblet-config.yml").display().to_string();
    for workflow in [secret.as_str(), "/etc/passwd.yaml", ""] {
        let request = RunWorkflowRequest { workflow: workflow.into(), ..Default::default() };
        let (found, text) = code(client.run_workflow_opt(&request, bounded()));
        assert!(
            found == RpcStatusCode::INVALID_ARGUMENT && !text.contains("BEGIN"),
            "{workflow:?}: {found} {text}"
        );
    }
    let all = ListWorkflowsRequest { includeCompleted: true, ..Default::default() };
    assert!(client.list_workflows_opt(&all, bounded()).unwrap().workflows.is_empty());
    assert_eq!(d.rnx(["--json", "job", "list"]).text().trim(), "[]");
    for call in [
        asked_for_nobody(&d),
        code(client.cancel_workflow_opt(
            &CancelWorkflowRequest { workflowUuid: "0".into(), ..Default::default() },
            bounded(),
        )),
    ] {
        assert!(matches!(call.0, RpcStatusCode::NOT_FOUND | RpcStatusCode::INVALID_ARGUMENT), "{call:?}");
    }
}

fn asked_for_nobody(d: &TestDaemon) -> (RpcStatusCode, String) {
    let request = GetWorkflowStatusRequest {
        workflowUuid: "f47ac10b-58cc-4372-a567-0e02b2c3d479".into(),
        ..Default::default()
    };
    code(d.client("viewer").get_workflow_status_opt(&request, bounded()))
}

#[test]
fn viewer_reads_workflows_and_changes_none_and_sees_no_secret() {
    let d = TestDaemon::start();
    let text = "name: hush\nsecret_environment: {TOKEN: swordfish-of-the-file}\njobs:\n  \
                a:\n    command: sh\n    args: [-c, 'test ${#OWN}.${#TOKEN} = 20.21']\n    \
                secret_environment: {OWN: swordfish-of-the-job}\n    environment: {PLAIN: visible}\n";
    let id = start(&d, text);
    until(&d, &id, "COMPLETED");
    let viewer = d.client("viewer");
    let refused = code(viewer.run_workflow_opt(&request(text), bounded()));
    assert_eq!(refused.0, RpcStatusCode::PERMISSION_DENIED);
    let cancel = CancelWorkflowRequest { workflowUuid: id.clone(), ..Default::default() };
    assert_eq!(code(viewer.cancel_workflow_opt(&cancel, bounded())).0, RpcStatusCode::PERMISSION_DENIED);
    let answer = asked(&d, &id);
    assert!(answer.workflow.yamlContent.contains("visible") && answer.workflow.yamlContent.contains("***"));
    let all = ListWorkflowsRequest { includeCompleted: true, ..Default::default() };
    let listed = viewer.list_workflows_opt(&all, bounded()).unwrap();
    let detail = d.rnx(["workflow", "status", "--detail", &id]).ok();
    let json = d.rnx(["--json", "workflow", "status", "--detail", &id]).ok();
    let child = d.rnx(["--json", "job", "status", &answer.jobs[0].jobUuid]).ok();
    assert!(detail.contains("YAML Content:") && detail.contains("visible"), "{detail}");
    for text in [format!("{answer:?}"), format!("{listed:?}"), detail, json, child, d.log()] {
        assert!(!text.contains("swordfish"), "{text}");
    }
}

#[test]
fn variables_are_inherited_and_expanded_in_any_order() {
    let d = TestDaemon::start();
    let text = "environment: {A: '${B}-a', B: b, SHARED: file}\nsecret_environment: {S: secret}\njobs:\n  \
                show:\n    command: sh\n    args: [-c, 'echo $A $B $SHARED $S $OWN $WITH_SECRET']\n    \
                environment: {OWN: '${A}/${SHARED}', SHARED: job, WITH_SECRET: 'x${S}'}\n";
    for _ in 0..3 {
        let flow = finish(&d, text, "COMPLETED");
        assert_eq!(flow.log(&d, "show"), "b-a b job secret b-a/job xsecret\n");
    }
}

#[test]
fn failed_job_is_tried_again_and_each_attempt_keeps_its_record() {
    let d = TestDaemon::start();
    let flow = finish(
        &d,
        "jobs:\n  \
         never: {command: sh, args: [-c, 'echo tried; exit 4'], retries: {max: 2, backoff: 10ms}}\n  \
         killed: {command: sh, args: [-c, 'kill -9 $$'], retries: {max: 1, backoff: 10ms, on: [exited]}}\n  \
         slow: {command: sleep, args: ['1000'], timeout: 300ms, retries: {max: 1, backoff: 10ms}}\n  \
         handler: {command: 'true', requires: [never: FAILED]}\n",
        "FAILED",
    );
    assert_eq!(flow.job("never")["attempts"], 3);
    assert_eq!((&flow.job("killed")["attempts"], &flow.job("slow")["attempts"]), (&1.into(), &1.into()));
    assert_eq!(flow.job("slow")["reason"], "timeout");
    assert_eq!(flow.job("handler")["status"], "COMPLETED", "it waited for the last attempt");
    let ids: Vec<&str> =
        flow.job("never")["uuids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!((ids.len(), ids[2]), (3, flow.id("never").as_str()));
    for id in ids {
        assert_eq!(d.status(id)["exitCode"], 4);
        assert_eq!(d.rnx(["job", "log", id]).ok(), "tried\n");
    }
}

#[test]
fn schedule_and_timeout_of_a_job_count_from_its_condition() {
    let d = TestDaemon::start();
    let id = start(
        &d,
        "jobs:\n  \
         first: {command: 'true'}\n  \
         later: {command: 'true', schedule: 1s, requires: [first]}\n  \
         much-later: {command: 'true', schedule: 1h, requires: [first]}\n",
    );
    let flow = eventually("the second job has ended", || {
        let flow = status(&d, &id);
        holds(flow.job("later")["status"] == "COMPLETED").map(|()| flow)
    });
    let time =
        |name: &str, key: &str| flow.job(name)[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(time("later", "start_time") >= time("first", "end_time"));
    assert_eq!(flow.job("much-later")["status"], "SCHEDULED");
    d.rnx(["workflow", "cancel", &id]).ok();
    assert_eq!(until(&d, &id, "CANCELED").job("much-later")["status"], "CANCELED");
}

#[test]
fn same_request_starts_one_workflow() {
    let d = TestDaemon::start();
    let text = "jobs: {a: {command: 'true'}}";
    let first = run(&d, &["-q", "--request-id", "r1"], text).id();
    assert_eq!(run(&d, &["-q", "--request-id", "r1"], text).id(), first);
    assert_ne!(run(&d, &["-q", "--request-id", "r2"], text).id(), first);
    let d = d.crash().start();
    assert_eq!(run(&d, &["-q", "--request-id", "r1"], text).id(), first, "also after a crash");
    assert_eq!(d.rnx(["--json", "workflow", "list", "--all"]).json().as_array().map(Vec::len), Some(2));
    until(&d, &first, "COMPLETED");
}

#[test]
fn uploads_keep_their_names_and_modes() {
    let d = TestDaemon::start();
    let sent = |path: &str, text: &str, mode| FileUpload {
        path: path.into(),
        content: text.into(),
        mode,
        ..Default::default()
    };
    let mut request = request(
        "jobs:\n  \
         a: {command: ./data/run.sh, uploads: {files: [data/run.sh]}}\n  \
         b: {command: sh, args: [-c, 'cat plain.txt; ls data || true; stat -c %a plain.txt'], uploads: {files: [plain.txt]}}\n",
    );
    request.workflowFiles =
        vec![sent("data/run.sh", "#!/bin/sh\necho ran\n", 0o755), sent("plain.txt", "plain\n", 0o640)];
    let id = d.client("default").run_workflow_opt(&request, bounded()).unwrap().workflowUuid;
    let flow: Flow = until(&d, &id, "COMPLETED");
    assert_eq!(flow.log(&d, "a"), "ran\n");
    let shown = flow.log(&d, "b");
    assert!(shown.starts_with("plain\n") && shown.contains("640") && !shown.contains("run.sh"), "{shown}");
}
