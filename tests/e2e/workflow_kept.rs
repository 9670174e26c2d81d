//! The records and files that are kept of workflows that are over, and of what their jobs have left for each other.

use crate::helper::wait::{eventually, holds};
use crate::helper::workflow::{finish, start, status, until};
use crate::helper::{TestDaemon, residue};
use grpcio::{CallOption, RpcStatusCode};
use joblet::pb::joblet::{GetWorkflowStatusRequest, ListWorkflowsRequest};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;

fn bounded() -> CallOption {
    CallOption::default().timeout(Duration::from_secs(60))
}

const LEAVES: &str = "jobs: {a: {command: sh, args: [-c, 'echo kept >f'], outputs: [f]}}";

#[test]
fn workflows_beyond_the_number_are_forgotten_with_their_files() {
    let d = TestDaemon::with([("state.retention.max", 2)]);
    let ids: Vec<String> =
        (0..3).map(|_| finish(&d, LEAVES, "COMPLETED").0["uuid"].as_str().unwrap().to_owned()).collect();
    let kept = |id: &String| d.dir().join("workflows").join(id).join("0-0/manifest").exists();
    eventually("the files of the oldest are removed", || holds(!kept(&ids[0])));
    assert!(kept(&ids[1]) && kept(&ids[2]));
    assert_eq!(d.rnx(["workflow", "status", &ids[0]]).code, 5);
    let d = d.crash().start();
    let all = d.rnx(["--json", "workflow", "list", "--all"]).json();
    let listed: Vec<&str> = all.as_array().unwrap().iter().map(|one| one["uuid"].as_str().unwrap()).collect();
    assert_eq!(listed, [&ids[1], &ids[2]]);
}

#[test]
fn attempts_of_a_job_take_the_room_of_one() {
    let d = TestDaemon::with([("workflow.maxOutputBytes", "1MiB")]);
    let flow = finish(
        &d,
        "jobs:\n  \
         again: {command: sh, args: [-c, 'truncate -s 700K f; exit 1'], outputs: [f], retries: {max: 2, backoff: 1ms}}\n  \
         gets: {command: stat, args: [-c, '%s', f], inputs: {again: [f]}, requires: [again: FAILED]}\n  \
         more: {command: truncate, args: [-s, 700K, g], outputs: [g], requires: [gets]}\n  \
         lacks: {command: 'true', inputs: {more: [g]}, requires: [more]}\n",
        "FAILED",
    );
    assert_eq!(flow.all(), ["again FAILED", "gets COMPLETED", "more COMPLETED", "lacks FAILED"]);
    assert_eq!((&flow.job("again")["attempts"], flow.log(&d, "gets")), (&3.into(), "716800\n".to_owned()));
    let why = flow.job("lacks")["message"].as_str().unwrap();
    assert!(why.contains("workflow.maxOutputBytes"), "{why}");
}

#[test]
fn attempt_that_was_lost_is_tried_again_where_it_is_named() {
    let d = TestDaemon::start();
    let text = "jobs:\n  \
                lost: {command: sleep, args: ['1000'], retries: {max: 1, backoff: 1ms, on: [lost]}}\n  \
                handler: {command: 'true', requires: [lost: FAILED]}\n";
    let id = start(&d, text);
    let mut ended: Vec<String> = Vec::new();
    for _ in 0..2 {
        let running = eventually("an attempt runs", || {
            let flow = status(&d, &id);
            let job = flow.job("lost")["id"].as_str().unwrap().to_owned();
            holds(flow.job("lost")["status"] == "RUNNING" && !ended.contains(&job)).map(|()| job)
        });
        let init = eventually("its joblet-init is found", || {
            let all = residue::processes_in_cgroup(&running);
            all.iter().find_map(|process| process.strip_suffix(" joblet-init")?.parse().ok())
        });
        kill(Pid::from_raw(init), Signal::SIGKILL).unwrap();
        ended.push(running);
    }
    let flow = until(&d, &id, "FAILED");
    assert_eq!(flow.all(), ["lost FAILED", "handler COMPLETED"]);
    let job = flow.job("lost");
    assert_eq!((&job["attempts"], &job["reason"]), (&2.into(), &"lost".into()), "{job:#}");
}

#[test]
fn workflow_is_found_by_the_beginning_of_its_id_over_the_wire() {
    let d = TestDaemon::start();
    let ids: Vec<String> = (0..3).map(|_| start(&d, "jobs: {a: {command: 'true'}}")).collect();
    let client = d.client("viewer");
    let ask = |word: &str| {
        let request = GetWorkflowStatusRequest { workflowUuid: word.into(), ..Default::default() };
        client.get_workflow_status_opt(&request, bounded())
    };
    for (word, wanted) in [
        (&ids[0][..3], RpcStatusCode::INVALID_ARGUMENT),
        ("", RpcStatusCode::INVALID_ARGUMENT),
        ("0", RpcStatusCode::INVALID_ARGUMENT),
        ("no-such-workflow", RpcStatusCode::NOT_FOUND),
    ] {
        match ask(word) {
            Err(grpcio::Error::RpcFailure(status)) => {
                assert_eq!(status.code(), wanted, "{word:?}: {status:?}")
            }
            other => panic!("{word:?}: {other:?}"),
        }
    }
    for id in &ids {
        assert_eq!(ask(&id[..13]).unwrap().workflow.uuid, *id);
        until(&d, id, "COMPLETED");
    }
    let list = |all: bool| {
        let request = ListWorkflowsRequest { includeCompleted: all, ..Default::default() };
        let found = client.list_workflows_opt(&request, bounded()).unwrap().workflows;
        found.into_iter().map(|workflow| workflow.uuid).collect::<Vec<_>>()
    };
    assert_eq!((list(true), list(false)), (ids, vec![]));
}
