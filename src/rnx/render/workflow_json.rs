//! The JSON of the workflow commands, with the reference's keys and ours behind them.

use serde::Serialize;

use super::words::has_exit_code;
use super::workflow::time;
use crate::pb::joblet::{
    ArrayProgress, CancelWorkflowResponse, GetWorkflowStatusResponse, WorkflowInfo, WorkflowJob,
};

/// The JSON of `workflow run` that does not wait.
#[derive(Debug, Serialize)]
pub(crate) struct Created<'a> {
    pub(crate) uuid: &'a str,
    pub(crate) workflow_uuid: &'a str,
    pub(crate) status: &'a str,
    pub(crate) name: &'a str,
    /// Jobs of the graph.
    pub(crate) total_jobs: usize,
    pub(crate) files_uploaded: usize,
}

/// One workflow of `workflow list`.
#[derive(Debug, Serialize)]
pub(crate) struct Listed<'a> {
    uuid: &'a str,
    name: &'a str,
    status: &'a str,
    total_jobs: i32,
    completed_jobs: i32,
    failed_jobs: i32,
    canceled_jobs: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<String>,
    message: &'a str,
}

/// Makes a [`Listed`] from the server's message.
pub(crate) fn listed(workflow: &WorkflowInfo) -> Listed<'_> {
    Listed {
        uuid: &workflow.uuid,
        name: &workflow.name,
        status: &workflow.status,
        total_jobs: workflow.totalJobs,
        completed_jobs: workflow.completedJobs,
        failed_jobs: workflow.failedJobs,
        canceled_jobs: workflow.canceledJobs,
        created_at: time(workflow.createdAt.as_ref()),
        started_at: time(workflow.startedAt.as_ref()),
        completed_at: time(workflow.completedAt.as_ref()),
        message: &workflow.message,
    }
}

/// The JSON of `workflow status`.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    #[serde(flatten)]
    workflow: Listed<'a>,
    jobs: Vec<ShownJob<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    yaml_content: Option<&'a str>,
}

/// Makes a [`Shown`] from the server's message; `detail`: with the file.
pub(crate) fn shown(answer: &GetWorkflowStatusResponse, detail: bool) -> Shown<'_> {
    Shown {
        workflow: listed(&answer.workflow),
        jobs: answer.jobs.iter().map(job).collect(),
        yaml_content: detail.then_some(&answer.workflow.yamlContent),
    }
}

/// One job of a workflow.
#[derive(Debug, Serialize)]
pub(crate) struct ShownJob<'a> {
    id: &'a str,
    uuid: &'a str,
    name: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    dependencies: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<String>,
    reason: &'a str,
    message: &'a str,
    attempts: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    array: Option<Elements>,
    uuids: &'a [String],
}

#[derive(Debug, Serialize)]
struct Elements {
    total: i32,
    running: i32,
    completed: i32,
    failed: i32,
    canceled: i32,
}

/// Makes a [`ShownJob`] from the server's message.
pub(crate) fn job(job: &WorkflowJob) -> ShownJob<'_> {
    ShownJob {
        id: &job.jobUuid,
        uuid: &job.jobUuid,
        name: &job.jobName,
        status: &job.status,
        // The elements of an array have a code each.
        exit_code: (has_exit_code(&job.status) && job.array.is_none()).then_some(job.exitCode),
        dependencies: &job.dependencies,
        start_time: time(job.startTime.as_ref()),
        end_time: time(job.endTime.as_ref()),
        reason: &job.exit_reason,
        message: &job.message,
        attempts: job.attempts,
        array: job.array.as_ref().map(elements),
        uuids: &job.uuids,
    }
}

fn elements(array: &ArrayProgress) -> Elements {
    Elements {
        total: array.total,
        running: array.running,
        completed: array.completed,
        failed: array.failed,
        canceled: array.canceled,
    }
}

/// The JSON of `workflow cancel`.
#[derive(Debug, Serialize)]
pub(crate) struct Canceled<'a> {
    uuid: &'a str,
    workflow_uuid: &'a str,
    status: &'a str,
}

/// Makes a [`Canceled`] from the server's message.
pub(crate) fn canceled(answer: &CancelWorkflowResponse) -> Canceled<'_> {
    Canceled { uuid: &answer.workflowUuid, workflow_uuid: &answer.workflowUuid, status: &answer.status }
}
