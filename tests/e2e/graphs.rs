//! Workflows over the API: what the calls answer, what starts when, and what a killed daemon goes on with.

use crate::helper::daemon::Node;
use crate::helper::random::Random;
use crate::helper::tracer::{self, Tracer};
use crate::helper::wait::{eventually, holds};
use crate::helper::{TestDaemon, gate, soak};
use grpcio::{CallOption, RpcStatusCode};
use joblet::pb::joblet::{
    CancelWorkflowRequest, FileUpload, GetWorkflowJobsRequest, GetWorkflowStatusRequest,
    GetWorkflowStatusResponse, ListWorkflowsRequest, RunWorkflowRequest, WorkflowJob,
};
use std::collections::HashMap;
use std::time::Duration;

fn patient() -> CallOption {
    CallOption::default().timeout(Duration::from_secs(60))
}

fn request(yaml: &str) -> RunWorkflowRequest {
    RunWorkflowRequest { workflow: "w.yaml".into(), yamlContent: yaml.into(), ..Default::default() }
}

fn run(d: &TestDaemon, request: &RunWorkflowRequest) -> Result<String, (RpcStatusCode, String)> {
    let answer = d.client("default").run_workflow_opt(request, patient());
    let refused = |e: grpcio::Error| match e {
        grpcio::Error::RpcFailure(status) => (status.code(), status.message().to_owned()),
        other => panic!("{other}"),
    };
    let answer = answer.map_err(refused)?;
    assert_eq!(answer.status, "STARTED");
    Ok(answer.workflowUuid)
}

fn submit(d: &TestDaemon, yaml: &str) -> String {
    run(d, &request(yaml)).unwrap_or_else(|(_, why)| panic!("{why}"))
}

fn status(d: &TestDaemon, id: &str) -> GetWorkflowStatusResponse {
    let wanted = GetWorkflowStatusRequest { workflowUuid: id.into(), ..Default::default() };
    d.client("viewer").get_workflow_status_opt(&wanted, patient()).unwrap()
}

/// The jobs by name.
fn jobs(d: &TestDaemon, id: &str) -> HashMap<String, WorkflowJob> {
    status(d, id).jobs.into_iter().map(|job| (job.jobName.clone(), job)).collect()
}

fn until(d: &TestDaemon, id: &str, wanted: &str) -> GetWorkflowStatusResponse {
    let mut last = status(d, id);
    eventually(&format!("workflow {id} is {wanted}"), || {
        last = status(d, id);
        holds(last.workflow.status == wanted)
    });
    last
}

fn until_job(d: &TestDaemon, id: &str, name: &str, wanted: &str) -> WorkflowJob {
    let mut last = WorkflowJob::default();
    eventually(&format!("{name} is {wanted}"), || {
        last = jobs(d, id).remove(name).unwrap();
        holds(last.status == wanted)
    });
    last
}

fn output(d: &TestDaemon, job: &str) -> String {
    d.rnx(["job", "log", job]).text()
}

const PIPELINE: &str = "
name: nightly
environment: {REGION: eu}
secret_environment: {PASSWORD: hunter2}
jobs:
  prepare:
    command: sh
    args: [-c, 'cat in/data; echo $PLACE-$PASSWORD']
    environment: {PLACE: '${REGION}-1'}
    uploads: {files: [in/data]}
  join:
    command: sh
    args: [-c, 'exit 3']
    requires: [prepare]
  report: {command: echo, args: [bad], requires: [join: FAILED]}
  never: {command: 'true', requires: [{expression: 'join=COMPLETED AND prepare=COMPLETED'}]}
  after: {command: 'true', requires: [never]}
";

#[test]
fn pipeline_runs_in_order_and_its_failure_is_handled() {
    let d = TestDaemon::start();
    let file =
        FileUpload { path: "in/data".into(), content: b"rows\n".to_vec(), mode: 0o755, ..Default::default() };
    let mut wanted = request(PIPELINE);
    let (code, why) = run(&d, &wanted).unwrap_err();
    assert_eq!(code, RpcStatusCode::INVALID_ARGUMENT);
    assert!(why.contains("line 6, column 3: job 'prepare'") && why.contains("in/data"), "{why}");
    wanted.workflowFiles = vec![file];
    wanted.request_id = "once".into();
    let id = run(&d, &wanted).unwrap();
    assert_eq!(run(&d, &wanted).unwrap(), id, "the same request is the same workflow");
    let ended = until(&d, &id, "FAILED");
    let info = ended.workflow.clone().unwrap();
    assert_eq!((info.totalJobs, info.completedJobs, info.failedJobs, info.canceledJobs), (5, 2, 1, 2));
    assert!(info.createdAt.seconds > 0 && info.startedAt.seconds > 0 && info.completedAt.seconds > 0);
    assert!(!info.yamlContent.contains("hunter2") && info.yamlContent.contains("PASSWORD: \"***\""));
    assert!(info.message.contains("job 'join' is FAILED") && info.name == "nightly", "{info}");
    let by_name = jobs(&d, &id);
    let is = |name: &str, wanted: &str| assert_eq!(by_name[name].status, wanted, "{name}");
    for (name, wanted) in [
        ("prepare", "COMPLETED"),
        ("join", "FAILED"),
        ("report", "COMPLETED"),
        ("never", "CANCELED"),
        ("after", "CANCELED"),
    ] {
        is(name, wanted);
    }
    assert_eq!((by_name["join"].exitCode, by_name["join"].exit_reason.as_str()), (3, "exited"));
    assert_eq!((by_name["never"].jobUuid.as_str(), by_name["never"].dependencies.len()), ("0", 2));
    let prepare = &by_name["prepare"].jobUuid;
    assert_eq!(output(&d, prepare), "rows\neu-1-hunter2\n");
    let shown = d.status(prepare);
    assert_eq!((&shown["name"], &shown["workflowUuid"]), (&"prepare".into(), &id.as_str().into()));
    assert!(!shown.to_string().contains("hunter2"), "{shown}");
    let of_id = GetWorkflowJobsRequest { workflowUuid: id[..8].into(), ..Default::default() };
    assert_eq!(d.client("viewer").get_workflow_jobs_opt(&of_id, patient()).unwrap().jobs, ended.jobs);
    let list = |with: bool| {
        let wanted = ListWorkflowsRequest { includeCompleted: with, ..Default::default() };
        d.client("viewer").list_workflows_opt(&wanted, patient()).unwrap().workflows.len()
    };
    assert_eq!((list(true), list(false)), (1, 0));
    assert!(!d.log().contains("hunter2"));
    d.stop();
}

#[test]
fn killed_daemon_goes_on_with_the_graph_and_runs_no_job_twice() {
    let node = Node::set_up();
    let d = node.start();
    let script = format!("echo ran; {}", gate::wait_for("go"));
    let yaml = format!(
        "secret_environment: {{KEY: hunter2}}\njobs:\n  a: {{command: echo, args: [ran]}}\n  b: {{command: sh, args: [-c, '{script}'], \
         requires: [a]}}\n  c: {{command: sh, args: [-c, 'echo $KEY'], requires: [b]}}\n  d: {{command: 'true', requires: [c: FAILED]}}\n"
    );
    let id = submit(&d, &yaml);
    let b = until_job(&d, &id, "b", "RUNNING");
    let node = d.crash();
    let sealed = std::fs::read(node.dir().join("state.db")).unwrap();
    assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
    let d = node.start();
    assert_eq!(until_job(&d, &id, "b", "RUNNING").jobUuid, b.jobUuid);
    gate::open(&b.jobUuid, "go");
    let ended = until(&d, &id, "COMPLETED");
    let by_name = jobs(&d, &id);
    assert_eq!(output(&d, &b.jobUuid), "ran\n");
    assert_eq!(output(&d, &by_name["c"].jobUuid), "hunter2\n");
    assert_eq!((by_name["d"].status.as_str(), ended.workflow.completedJobs), ("CANCELED", 3));
    // The jobs may go; the workflow keeps what they were.
    d.rnx(["job", "delete-all"]).ok();
    let d = d.crash().start();
    assert_eq!(status(&d, &id).jobs, ended.jobs);
    d.stop();
}

#[test]
fn canceled_workflow_ends_its_jobs_and_stays_canceled() {
    let d = TestDaemon::start();
    let id = submit(
        &d,
        "jobs:\n  a: {command: sleep, args: ['1000']}\n  b: {command: 'true', requires: [a: STOPPED]}\n",
    );
    let a = until_job(&d, &id, "a", "RUNNING");
    d.rnx(["job", "delete-all"]).ok();
    let wanted = CancelWorkflowRequest { workflowUuid: id.clone(), ..Default::default() };
    for _ in 0..2 {
        let answer = d.client("default").cancel_workflow_opt(&wanted, patient()).unwrap();
        assert_eq!((answer.workflowUuid.as_str(), answer.status.as_str()), (id.as_str(), "CANCELED"));
    }
    let by_name = jobs(&d, &id);
    assert_eq!((by_name["a"].status.as_str(), by_name["b"].status.as_str()), ("STOPPED", "CANCELED"));
    assert_eq!(by_name["a"].jobUuid, a.jobUuid);
    let refused = d.client("viewer").cancel_workflow_opt(&wanted, patient()).unwrap_err();
    assert!(refused.to_string().contains("not allowed to perform operation stop_job"), "{refused}");
    d.stop();
}

#[test]
fn files_move_between_jobs_and_over_a_kill_of_the_daemon() {
    let node = Node::set_up();
    let d = node.start();
    let leave = "mkdir out; echo $JOB_ARRAY_INDEX >out/part; ln -s /etc/passwd out/link; mkfifo out/pipe; chmod 750 out/part";
    let wait = gate::wait_for("go");
    let yaml = format!(
        "jobs:
  shard: {{command: sh, args: [-c, '{leave}'], array: '3-5', outputs: [out]}}
  big: {{command: truncate, args: [-s, 4T, sparse], outputs: [sparse]}}
  mid: {{command: sh, args: [-c, 'echo kept >f; {wait}'], requires: [shard], inputs: {{shard: []}}, outputs: [f]}}
  join:
    command: sh
    args: [-c, 'cat shard/?/out/part f; stat -c %a shard/3/out/part; ls shard/4/out; echo more >>f']
    requires: [shard, mid]
    inputs: {{shard: [out], mid: [f]}}
  bad: {{command: 'true', requires: ['big IN (COMPLETED, FAILED)'], inputs: {{big: [sparse]}}}}
"
    );
    let id = submit(&d, &yaml);
    let mid = until_job(&d, &id, "mid", "RUNNING").jobUuid;
    let bad = until_job(&d, &id, "bad", "FAILED");
    assert!(bad.message.contains("job 'big'") && bad.exit_reason == "start_failed", "{}", bad.message);
    let d = d.crash().start();
    gate::open(&mid, "go");
    until(&d, &id, "FAILED");
    let by_name = jobs(&d, &id);
    assert_eq!(by_name["join"].status, "COMPLETED", "{}", by_name["join"].message);
    assert_eq!(output(&d, &by_name["join"].jobUuid), "3\n4\n5\nkept\n750\npart\n");
    assert_eq!((by_name["shard"].array.total, by_name["shard"].array.completed), (3, 3));
    let kept = d.dir().join("workflows").join(&id);
    assert!(kept.join("0-0/manifest").exists() && kept.join("2-0/data").exists());
    d.stop();
}

#[test]
fn elements_and_attempts_are_jobs_of_their_own() {
    let d = TestDaemon::start();
    let yaml = "jobs:
  many: {command: sh, args: [-c, 'exit $((JOB_ARRAY_INDEX == 7))'], array: '0-19%4'}
  grid: {command: sh, args: [-c, 'echo $JOB_MATRIX_OS-$JOB_MATRIX_N'], matrix: {os: [a, b], n: ['1', '2']}}
  again: {command: sh, args: [-c, 'kill -9 $$'], retries: {max: 2, backoff: 10ms}}
  slow: {command: sleep, args: ['1000'], timeout: 100ms, retries: {max: 1, backoff: 1ms, on: [exited]}}
  later: {command: 'true', schedule: 50ms, requires: [grid]}
  handler: {command: 'true', requires: [many: FAILED, again: FAILED]}
";
    let id = submit(&d, yaml);
    let info = until(&d, &id, "FAILED").workflow;
    assert_eq!((info.totalJobs, info.completedJobs, info.failedJobs), (6, 3, 3), "{info:?}");
    let by_name = jobs(&d, &id);
    let many = &by_name["many"];
    assert_eq!(
        (many.array.total, many.array.completed, many.array.failed, many.uuids.len()),
        (20, 19, 1, 20)
    );
    assert_eq!(
        (many.exitCode, d.status(&many.jobUuid)["environment"]["JOB_ARRAY_INDEX"].as_str()),
        (1, Some("7"))
    );
    let mut grid: Vec<String> = by_name["grid"].uuids.iter().map(|id| output(&d, id)).collect();
    grid.sort();
    assert_eq!(grid, ["a-1\n", "a-2\n", "b-1\n", "b-2\n"]);
    let again = &by_name["again"];
    assert_eq!((again.attempts, again.uuids.len(), again.exit_reason.as_str()), (3, 3, "signaled"));
    assert_eq!(again.jobUuid, again.uuids[2]);
    for attempt in &again.uuids {
        assert_eq!(d.status(attempt)["exit_reason"], "signaled");
    }
    let slow = &by_name["slow"];
    assert_eq!((slow.status.as_str(), slow.attempts, slow.exit_reason.as_str()), ("STOPPED", 1, "timeout"));
    d.stop();
}

/// Steps of a job's start and end: its record, its intent, its sandbox, its streams, what is removed.
const STEPS: [&str; 6] =
    ["fdatasync", "pwrite64", "clone3", "pidfd_send_signal,waitid", "unlink,unlinkat", "sendto,sendmsg"];

#[test]
fn kill_before_any_call_between_two_jobs_runs_each_once() {
    needs!(tracer::is_there(), "strace is not installed");
    let mut random = Random::new();
    let mut d = Node::set_up().start();
    let mut killed = 0;
    for _ in 0..soak::rounds(3, 200) {
        let (step, number) = (STEPS[random.below(STEPS.len() as u64) as usize], 1 + random.below(6));
        let said = format!("kill before {step} number {number}");
        let change = format!("signal=SIGKILL:when={number}");
        let tracer = Tracer::attach_threads(d.pid(), None, &d.dir().join("strace"), step, &change);
        let job = |n: u32| {
            let after = if n == 0 { String::new() } else { format!(", requires: [j{}]", n - 1) };
            format!("  j{n}: {{command: echo, args: [ran]{after}}}\n")
        };
        let wanted = RunWorkflowRequest {
            request_id: uuid::Uuid::new_v4().to_string(),
            ..request(&format!("jobs:\n{}", (0..5).map(job).collect::<String>()))
        };
        let asked = d.client("default").run_workflow_opt(&wanted, patient());
        let alive = || std::fs::metadata(format!("/proc/{}/exe", d.pid())).is_ok();
        let client = d.client("default");
        let is_over = |id: &str| {
            let wanted = GetWorkflowStatusRequest { workflowUuid: id.into(), ..Default::default() };
            client
                .get_workflow_status_opt(&wanted, patient())
                .is_ok_and(|all| all.workflow.status == "COMPLETED")
        };
        if let Ok(answer) = &asked {
            eventually("the daemon is killed, or the workflow is over", || {
                holds(!alive() || is_over(&answer.workflowUuid))
            });
        }
        killed += usize::from(!alive());
        drop(tracer);
        d = d.crash().start();
        // The same request again is the same workflow, whether its answer came or not.
        let id = run(&d, &wanted).unwrap();
        assert!(asked.is_err() || asked.is_ok_and(|answer| answer.workflowUuid == id), "{said}");
        let all = until(&d, &id, "COMPLETED");
        for job in &all.jobs {
            assert_eq!(output(&d, &job.jobUuid), "ran\n", "{said}: {job:?}");
            assert_eq!(job.attempts, 1, "{said}: {job:?}");
        }
    }
    println!("{killed} kills");
    d.stop();
}
