//! The shapes of `--json`. Keys are a promise: scripts read them, so they are only ever added to. Several
//! spellings of the id and of the reason exist because each is in documents that scripts were written from.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use super::text::Sent;
use super::words::is_terminal_status;
use crate::pb::joblet::{
    CancelJobRes, DataChunk, DeleteAllJobsRes, DeleteJobRes, GetJobStatusRes, Job, OutputStream,
    RunJobResponse, StopJobRes,
};

/// The JSON of `job run`.
#[derive(Debug, Serialize)]
pub(crate) struct Started<'a> {
    id: &'a str,
    uuid: &'a str,
    job_uuid: &'a str,
    command: &'a str,
    args: &'a [String],
    status: &'a str,
    start_time: &'a str,
    end_time: &'a str,
    scheduled_time: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    reason: &'a str,
    exit_reason: &'a str,
    signal: i32,
    message: &'a str,
    max_cpu: i32,
    cpu_cores: &'a str,
    max_memory: i32,
    max_iobps: i32,
    network: &'a str,
    user: &'a str,
    profile: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    writable: bool,
    unenforced_limits: &'a [String],
    created_time: &'a str,
    queue_position: i32,
    wait_reason: &'a str,
    files_uploaded: usize,
    env_vars: usize,
    secret_env_vars: usize,
}

/// Makes a [`Started`] from the server's message.
pub(crate) fn started(job: &RunJobResponse, sent: Sent) -> Started<'_> {
    Started {
        id: &job.jobUuid,
        uuid: &job.jobUuid,
        job_uuid: &job.jobUuid,
        command: &job.command,
        args: &job.args,
        status: &job.status,
        start_time: &job.startTime,
        end_time: &job.endTime,
        scheduled_time: &job.scheduledTime,
        exit_code: is_terminal_status(&job.status).then_some(job.exitCode),
        reason: &job.exit_reason,
        exit_reason: &job.exit_reason,
        signal: job.signal,
        message: &job.message,
        max_cpu: job.maxCpu,
        cpu_cores: &job.cpuCores,
        max_memory: job.maxMemory,
        max_iobps: job.maxIobps,
        network: &job.network,
        user: &job.user,
        profile: &job.profile,
        writable: job.writable,
        unenforced_limits: &job.unenforced_limits,
        created_time: &job.created_time,
        queue_position: job.queue_position,
        wait_reason: &job.wait_reason,
        files_uploaded: sent.files,
        env_vars: sent.env,
        secret_env_vars: sent.secrets,
    }
}

/// Puts how a waited-for job ended into the reply that started it, so that `--wait --json` prints one object.
pub(crate) fn merge_end(started: &mut RunJobResponse, end: &GetJobStatusRes) {
    started.status.clone_from(&end.status);
    started.startTime.clone_from(&end.startTime);
    started.endTime.clone_from(&end.endTime);
    started.exitCode = end.exitCode;
    started.exit_reason.clone_from(&end.exit_reason);
    started.signal = end.signal;
    started.message.clone_from(&end.message);
    started.network.clone_from(&end.network);
    started.user.clone_from(&end.user);
    started.profile.clone_from(&end.profile);
    started.writable = end.writable;
    started.unenforced_limits.clone_from(&end.unenforced_limits);
    started.queue_position = end.queue_position;
    started.wait_reason.clone_from(&end.wait_reason);
}

/// One job of `job list`.
#[derive(Debug, Serialize)]
pub(crate) struct Listed<'a> {
    id: &'a str,
    uuid: &'a str,
    name: &'a str,
    node_id: &'a str,
    status: &'a str,
    start_time: &'a str,
    end_time: &'a str,
    command: &'a str,
    args: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    reason: &'a str,
    exit_reason: &'a str,
    signal: i32,
    message: &'a str,
    max_cpu: i32,
    max_memory: i32,
    max_iobps: i32,
    cpu_cores: &'a str,
    network: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    ports: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    volumes: &'a [String],
    #[serde(skip_serializing_if = "<[i32]>::is_empty")]
    gpu_indices: &'a [i32],
    user: &'a str,
    profile: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    writable: bool,
    scheduled_time: &'a str,
    created_time: &'a str,
    queue_position: i32,
    wait_reason: &'a str,
    workflow_uuid: &'a str,
}

/// Makes a [`Listed`] from the server's message.
pub(crate) fn listed(job: &Job) -> Listed<'_> {
    Listed {
        id: &job.uuid,
        uuid: &job.uuid,
        name: &job.name,
        node_id: &job.nodeId,
        status: &job.status,
        start_time: &job.startTime,
        end_time: &job.endTime,
        command: &job.command,
        args: &job.args,
        exit_code: is_terminal_status(&job.status).then_some(job.exitCode),
        reason: &job.exit_reason,
        exit_reason: &job.exit_reason,
        signal: job.signal,
        message: &job.message,
        max_cpu: job.maxCPU,
        max_memory: job.maxMemory,
        max_iobps: job.maxIOBPS,
        cpu_cores: &job.cpuCores,
        network: &job.network,
        ports: &job.ports,
        volumes: &job.volumes,
        gpu_indices: &job.gpu_indices,
        user: &job.user,
        profile: &job.profile,
        writable: job.writable,
        scheduled_time: &job.scheduledTime,
        created_time: &job.created_time,
        queue_position: job.queue_position,
        wait_reason: &job.wait_reason,
        workflow_uuid: &job.workflowUuid,
    }
}

fn is_unlimited(rate: &i64) -> bool {
    *rate == 0
}

/// The JSON of `job status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shown<'a> {
    id: &'a str,
    uuid: &'a str,
    name: &'a str,
    node_id: &'a str,
    command: &'a str,
    args: &'a [String],
    status: &'a str,
    start_time: &'a str,
    end_time: &'a str,
    exit_code: i32,
    #[serde(rename = "exit_code")]
    exit_code_of_scripts: i32,
    reason: &'a str,
    exit_reason: &'a str,
    #[serde(rename = "exit_reason")]
    exit_reason_of_scripts: &'a str,
    signal: i32,
    message: &'a str,
    scheduled_time: &'a str,
    created_time: &'a str,
    environment: BTreeMap<&'a str, &'a str>,
    secret_environment: BTreeMap<&'a str, &'a str>,
    network: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    ports: &'a [String],
    #[serde(skip_serializing_if = "is_unlimited")]
    net_rate_up: i64,
    #[serde(skip_serializing_if = "is_unlimited")]
    net_rate_down: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    address: &'a str,
    user: &'a str,
    profile: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    writable: bool,
    volumes: &'a [String],
    #[serde(skip_serializing_if = "is_zero")]
    gpu_count: i32,
    #[serde(skip_serializing_if = "is_zero")]
    gpu_memory_mb: i32,
    #[serde(skip_serializing_if = "<[i32]>::is_empty")]
    gpu_indices: &'a [i32],
    runtime: &'a str,
    work_dir: &'a str,
    uploads: &'a [String],
    dependencies: &'a [String],
    workflow_uuid: &'a str,
    timeout: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    timeout_at: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    paused_since: &'a str,
    #[serde(rename = "maxCPU", skip_serializing_if = "is_zero")]
    max_cpu: i32,
    #[serde(skip_serializing_if = "is_zero")]
    max_memory: i32,
    #[serde(rename = "maxIOBPS", skip_serializing_if = "is_zero")]
    max_iobps: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    cpu_cores: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_time_usec: Option<u64>,
    unenforced_limits: &'a [String],
    queue_position: i32,
    wait_reason: &'a str,
    egress: &'a [String],
    denials: u64,
}

fn is_zero(n: &i32) -> bool {
    *n == 0
}

/// See [`Shown`]. Secrets are masked here too, even if the server sent their values.
pub(crate) fn shown(job: &GetJobStatusRes) -> Shown<'_> {
    Shown {
        id: &job.uuid,
        uuid: &job.uuid,
        name: &job.name,
        node_id: &job.nodeId,
        command: &job.command,
        args: &job.args,
        status: &job.status,
        start_time: &job.startTime,
        end_time: &job.endTime,
        exit_code: job.exitCode,
        exit_code_of_scripts: job.exitCode,
        reason: &job.exit_reason,
        exit_reason: &job.exit_reason,
        exit_reason_of_scripts: &job.exit_reason,
        signal: job.signal,
        message: &job.message,
        scheduled_time: &job.scheduledTime,
        created_time: &job.created_time,
        environment: job.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
        secret_environment: job.secret_environment.keys().map(|k| (k.as_str(), "***")).collect(),
        network: &job.network,
        ports: &job.ports,
        net_rate_up: job.net_rate_up,
        net_rate_down: job.net_rate_down,
        address: &job.address,
        user: &job.user,
        profile: &job.profile,
        writable: job.writable,
        volumes: &job.volumes,
        gpu_count: job.gpu_count,
        gpu_memory_mb: job.gpu_memory_mb,
        gpu_indices: &job.gpu_indices,
        runtime: &job.runtime,
        work_dir: &job.workDir,
        uploads: &job.uploads,
        dependencies: &job.dependencies,
        workflow_uuid: &job.workflowUuid,
        timeout: &job.timeout,
        timeout_at: &job.timeout_at,
        paused_since: &job.frozen_since,
        max_cpu: job.maxCPU,
        max_memory: job.maxMemory,
        max_iobps: job.maxIOBPS,
        cpu_cores: &job.cpuCores,
        peak_memory_bytes: job.peak_memory_bytes,
        cpu_time_usec: job.cpu_time_usec,
        unenforced_limits: &job.unenforced_limits,
        queue_position: job.queue_position,
        wait_reason: &job.wait_reason,
        egress: &job.egress,
        denials: job.denials,
    }
}

/// The JSON of `job stop`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stopped<'a> {
    uuid: &'a str,
    status: &'a str,
    end_time: &'a str,
    exit_code: i32,
}

/// Makes a [`Stopped`] from the server's message.
pub(crate) fn stopped(job: &StopJobRes) -> Stopped<'_> {
    Stopped { uuid: &job.uuid, status: &job.status, end_time: &job.endTime, exit_code: job.exitCode }
}

/// The JSON of `job cancel`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Canceled<'a> {
    uuid: &'a str,
    status: &'a str,
    canceled_at: &'a str,
}

/// Makes a [`Canceled`] from the server's message.
pub(crate) fn canceled<'a>(job: &'a CancelJobRes, when: &'a str) -> Canceled<'a> {
    Canceled { uuid: &job.uuid, status: &job.status, canceled_at: when }
}

/// The JSON of `job delete`.
#[derive(Debug, Serialize)]
pub(crate) struct Deleted<'a> {
    uuid: &'a str,
    success: bool,
    message: &'a str,
}

/// Makes a [`Deleted`] from the server's message.
pub(crate) fn deleted(answer: &DeleteJobRes) -> Deleted<'_> {
    Deleted { uuid: &answer.uuid, success: answer.success, message: &answer.message }
}

/// The JSON of `job delete-all`.
#[derive(Debug, Serialize)]
pub(crate) struct DeletedAll<'a> {
    success: bool,
    message: &'a str,
    deleted_count: i32,
    skipped_count: i32,
}

/// Makes a [`DeletedAll`] from the server's message.
pub(crate) fn deleted_all(answer: &DeleteAllJobsRes) -> DeletedAll<'_> {
    DeletedAll {
        success: answer.success,
        message: &answer.message,
        deleted_count: answer.deleted_count,
        skipped_count: answer.skipped_count,
    }
}

/// One line of `job log --json`. `data` is text; where the bytes are not, `data_base64` has them exactly.
#[derive(Debug, Serialize)]
pub(crate) struct Chunk<'a> {
    /// The job, where the output of several is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<&'a str>,
    timestamp: Option<String>,
    stream: &'static str,
    seq: u64,
    data: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_bytes: Option<u64>,
}

impl<'a> Chunk<'a> {
    /// The same with the id of its job.
    pub(crate) fn of(self, uuid: Option<&'a str>) -> Self {
        Chunk { uuid, ..self }
    }
}

/// Makes a [`Chunk`] from the server's message.
pub(crate) fn chunk(chunk: &DataChunk) -> Chunk<'_> {
    let data = String::from_utf8_lossy(&chunk.payload);
    let exact = data.as_bytes() == chunk.payload;
    let time = jiff::Timestamp::from_nanosecond(chunk.timestamp_ns.into()).ok();
    Chunk {
        uuid: None,
        timestamp: time.filter(|_| chunk.timestamp_ns != 0).map(|t| format!("{t:.9}")),
        stream: match chunk.stream.enum_value_or_default() {
            OutputStream::OUTPUT_STREAM_STDERR => "stderr",
            OutputStream::OUTPUT_STREAM_STDOUT => "stdout",
            OutputStream::OUTPUT_STREAM_UNSPECIFIED => "",
        },
        seq: chunk.seq,
        data_base64: (!exact).then(|| openssl::base64::encode_block(&chunk.payload)),
        lost_bytes: (chunk.lost_bytes > 0).then_some(chunk.lost_bytes),
        data,
    }
}
