//! Every shape of an answer about workflows against a file of `tests/golden/rnx/`.

use super::golden_tests::{golden, golden_json};
use super::{workflow, workflow_json};
use crate::pb::joblet::*;

const ID: &str = "a1b2c3d4-e5f6-7890-1234-567890abcdef";
const NOW: &str = "2024-01-15T10:31:05Z";
/// The second 2024-01-15T10:30:00Z, from which the times here count.
const START: i64 = 1_705_314_600;

fn at(seconds: i64) -> protobuf::MessageField<Timestamp> {
    Some(Timestamp { seconds: START + seconds, ..Default::default() }).into()
}

fn job(uuid: &str, name: &str, status: &str, needs: &[&str]) -> WorkflowJob {
    WorkflowJob {
        jobUuid: uuid.into(),
        jobName: name.into(),
        status: status.into(),
        dependencies: needs.iter().map(|name| name.to_string()).collect(),
        ..Default::default()
    }
}

/// The reference's two jobs.
fn reference() -> GetWorkflowStatusResponse {
    let mut first = job("f47ac10b-58cc-4372-a567-0e02b2c3d479", "setup-data", "COMPLETED", &[]);
    (first.exit_reason, first.attempts) = ("exited".into(), 1);
    (first.startTime, first.endTime) = (at(0), at(2));
    let mut second = job("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "process-data", "RUNNING", &["setup-data"]);
    second.startTime = at(2);
    let info = WorkflowInfo {
        uuid: ID.into(),
        status: "RUNNING".into(),
        totalJobs: 2,
        completedJobs: 1,
        createdAt: at(0),
        startedAt: at(0),
        yamlContent: "jobs:\n  setup-data: {command: python3}\n".into(),
        ..Default::default()
    };
    GetWorkflowStatusResponse { workflow: Some(info).into(), jobs: vec![first, second], ..Default::default() }
}

/// One that has failed, with everything that we add.
fn failed() -> GetWorkflowStatusResponse {
    let mut answer = reference();
    let info = answer.workflow.mut_or_insert_default();
    (info.name, info.status) = ("nightly".into(), "FAILED".into());
    (info.totalJobs, info.failedJobs, info.canceledJobs) = (4, 2, 1);
    info.completedAt = at(65);
    let mut shards = job("6ba7b811-9dad-11d1-80b4-00c04fd430c8", "shards", "FAILED", &["setup-data"]);
    shards.array =
        Some(ArrayProgress { total: 1000, completed: 998, failed: 2, ..Default::default() }).into();
    let name = "a-job-whose-name-is-longer-than-its-column";
    let mut killed = job("6ba7b812-9dad-11d1-80b4-00c04fd430c8", name, "FAILED", &[]);
    (killed.exitCode, killed.exit_reason, killed.attempts) = (137, "oom".into(), 3);
    killed.message = "killed: out of memory (limit 512 MiB, peak 512 MiB)".into();
    let join = job("0", "join", "CANCELED", &["shards", name]);
    answer.jobs.truncate(1);
    answer.jobs.extend([shards, killed, join]);
    answer
}

#[test]
fn text_of_a_run() {
    let text = workflow::created("pipeline.yaml", 2, ID) + &workflow::next_step(ID);
    golden("workflow-run.txt", &text);
    let json = workflow_json::Created {
        uuid: ID,
        workflow_uuid: ID,
        status: "STARTED",
        name: "nightly",
        total_jobs: 4,
        files_uploaded: 2,
    };
    golden_json("workflow-run.json", &json);
}

#[test]
fn text_and_json_of_a_status() {
    golden("workflow-status.txt", &workflow::status(&reference(), false, NOW, false));
    golden("workflow-status-detail.txt", &workflow::status(&reference(), true, NOW, false));
    golden("workflow-status-failed.txt", &workflow::status(&failed(), false, NOW, false));
    golden_json("workflow-status.json", &workflow_json::shown(&failed(), false));
    assert!(
        serde_json::to_string(&workflow_json::shown(&reference(), true))
            .unwrap()
            .contains("\"yaml_content\":\"jobs")
    );
}

#[test]
fn text_and_json_of_a_list() {
    let all = [*reference().workflow.0.unwrap(), *failed().workflow.0.unwrap()];
    golden("workflow-list.txt", &workflow::list(&all, false));
    golden_json("workflow-list.json", &all.iter().map(workflow_json::listed).collect::<Vec<_>>());
    assert_eq!(workflow::list(&[], true), "No workflows found\n");
}

#[test]
fn texts_of_an_end() {
    let answer =
        CancelWorkflowResponse { workflowUuid: ID.into(), status: "CANCELED".into(), ..Default::default() };
    golden("workflow-cancel.txt", &workflow::canceled(&answer, false));
    golden_json("workflow-cancel.json", &workflow_json::canceled(&answer));
    let summary = "workflow a1b2c3d4 FAILED: 1/4 jobs completed (2 failed, 1 canceled) in 1m05s; shards (998 of 1000 \
                   completed, 2 failed), a-job-whose-name-is-longer-than-its-column (killed: out of memory (limit 512 \
                   MiB, peak 512 MiB))";
    assert_eq!(workflow::summary(&failed()), summary);
}

#[test]
fn reference_table_is_kept_word_for_word() {
    let text = workflow::status(&reference(), false, NOW, true);
    let bare = ["\x1b[32m", "\x1b[33m", "\x1b[0m"].iter().fold(text, |text, code| text.replace(code, ""));
    let words: Vec<Vec<&str>> = bare.lines().map(|line| line.split_whitespace().collect()).collect();
    let table = [
        vec!["JOB", "ID", "JOB", "NAME", "STATUS", "EXIT", "CODE", "DEPENDENCIES"],
        vec![
            "---------------------------------------------------------------------------------------------------------------------",
        ],
        vec!["f47ac10b-58cc-4372-a567-0e02b2c3d479", "setup-data", "COMPLETED", "0", "-"],
        vec!["6ba7b810-9dad-11d1-80b4-00c04fd430c8", "process-data", "RUNNING", "-", "setup-data"],
    ];
    let from = words.iter().position(|line| line == &table[0]).unwrap();
    assert_eq!(words[from..from + 4], table);
}
