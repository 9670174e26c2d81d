//! From the types of a job to messages. Values of secrets become `***` here.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use protobuf::Message;

use super::Rules;
use crate::daemon::command::{Deleted, Explained, JobPage, Removed};
use crate::job::env::MASK;
use crate::job::publish::Published;
use crate::job::{self, Denials, GpuLease, JobId, JobSpec, JobView, Layer, Limits, Secret, Verdict, units};
use crate::output::{Chunk, Full, LogItem, Stream};
use crate::pb::joblet::{
    CancelJobRes, ChangeEgressRes, DataChunk, DeleteAllJobsRes, DeleteJobRes, Denial, GetDenialsRes,
    GetJobStatusRes, Job, Jobs, OutputStream, RunJobResponse, SecurityLayer, StopJobRes, UploadStatus,
};
use crate::upload::StoredStatus;

/// The reply to RunJob.
pub(in crate::api) fn run(view: JobView) -> RunJobResponse {
    let end = End::of(&view);
    RunJobResponse {
        jobUuid: view.id.to_string(),
        status: view.status.as_str().to_owned(),
        command: view.spec.command.clone(),
        args: view.spec.args.clone(),
        maxCpu: cpu(&view.spec.limits),
        cpuCores: cores(&view.spec.limits),
        maxMemory: memory(&view.spec.limits),
        maxIobps: io(&view.spec.limits),
        startTime: time(view.started_ns),
        endTime: time(view.ended_ns),
        exitCode: end.code,
        scheduledTime: time(view.spec.not_before_ns),
        queue_position: position(view.queue_position),
        exit_reason: end.reason,
        signal: end.signal,
        message: end.message,
        created_time: time(Some(view.created_ns)),
        peak_memory_bytes: view.peak_memory_bytes,
        cpu_time_usec: view.cpu_time_usec,
        network: view.spec.network.as_str().to_owned(),
        user: view.spec.user_shown(),
        profile: view.spec.profile.as_str().to_owned(),
        writable: view.spec.writable,
        runtime: runtime(&view.spec),
        unenforced_limits: view.unenforced,
        wait_reason: view.wait_reason,
        ..RunJobResponse::default()
    }
}

/// The reply to RunJob with `explain`. It has no id, status or time, because no job exists.
pub(in crate::api) fn plan(explained: Explained) -> RunJobResponse {
    let Explained { spec, unenforced, plan } = explained;
    RunJobResponse {
        maxCpu: cpu(&spec.limits),
        cpuCores: cores(&spec.limits),
        maxMemory: memory(&spec.limits),
        maxIobps: io(&spec.limits),
        network: spec.network.as_str().to_owned(),
        user: spec.user_shown(),
        profile: spec.profile.as_str().to_owned(),
        writable: spec.writable,
        runtime: runtime(&spec),
        command: spec.command,
        args: spec.args,
        unenforced_limits: unenforced,
        plan,
        ..RunJobResponse::default()
    }
}

/// The reply to GetJobStatus.
pub(in crate::api) fn status(view: JobView, rules: &Rules) -> GetJobStatusRes {
    let end = End::of(&view);
    GetJobStatusRes {
        uuid: view.id.to_string(),
        name: view.spec.name.clone(),
        command: view.spec.command.clone(),
        args: view.spec.args.clone(),
        maxCPU: cpu(&view.spec.limits),
        cpuCores: cores(&view.spec.limits),
        maxMemory: memory(&view.spec.limits),
        maxIOBPS: io(&view.spec.limits),
        status: view.status.as_str().to_owned(),
        startTime: time(view.started_ns),
        endTime: time(view.ended_ns),
        exitCode: end.code,
        scheduledTime: time(view.spec.not_before_ns),
        queue_position: position(view.queue_position),
        environment: view.spec.environment.iter().cloned().collect(),
        secret_environment: secret(&view.spec.secrets),
        network: view.spec.network.as_str().to_owned(),
        user: view.spec.user_shown(),
        profile: view.spec.profile.as_str().to_owned(),
        writable: view.spec.writable,
        workDir: view.spec.work_dir.clone(),
        volumes: view.spec.volumes.iter().map(ToString::to_string).collect(),
        runtime: runtime(&view.spec),
        uploads: view.spec.upload_paths.clone(),
        nodeId: rules.node_id.clone(),
        timeout: timeout(view.clock.timeout),
        frozen_since: time(view.clock.paused_ns),
        timeout_at: time(view.clock.ends_ns),
        exit_reason: end.reason,
        signal: end.signal,
        message: end.message,
        created_time: time(Some(view.created_ns)),
        peak_memory_bytes: view.peak_memory_bytes,
        cpu_time_usec: view.cpu_time_usec,
        denials: view.denials,
        egress: view.egress().map(|list| list.texts().to_vec()).unwrap_or_default(),
        unenforced_limits: view.unenforced,
        wait_reason: view.wait_reason,
        workflowUuid: workflow(&view.spec),
        dependencies: view.dependencies,
        ports: ports(&view.ports),
        gpu_indices: gpu_indices(&view.gpus),
        gpu_count: gpu_wish(&view.spec).0,
        gpu_memory_mb: gpu_wish(&view.spec).1,
        net_rate_up: view.spec.rate.up.cast_signed(),
        net_rate_down: view.spec.rate.down.cast_signed(),
        address: view.address,
        ..GetJobStatusRes::default()
    }
}

/// The reply to GetJobStatus with `security`.
pub(in crate::api) fn security(view: JobView, layers: Vec<Layer>, rules: &Rules) -> GetJobStatusRes {
    let layer = |layer: Layer| SecurityLayer {
        layer: layer.name,
        expected: layer.expected,
        seen: layer.seen,
        ok: layer.verdict == Verdict::Kept,
        unenforced: layer.verdict == Verdict::Unenforced,
        ..SecurityLayer::default()
    };
    let security_layers = layers.into_iter().map(layer).collect();
    GetJobStatusRes { security_layers, ..status(view, rules) }
}

/// The runtime as NAME@VERSION; empty where it has none.
fn runtime(spec: &JobSpec) -> String {
    spec.runtime.as_ref().map(ToString::to_string).unwrap_or_default()
}

fn ports(ports: &[Published]) -> Vec<String> {
    ports.iter().map(ToString::to_string).collect()
}

/// The numbers of the GPUs that a job has, or had.
fn gpu_indices(gpus: &[GpuLease]) -> Vec<i32> {
    gpus.iter().map(|gpu| i32::try_from(gpu.index).unwrap_or(i32::MAX)).collect()
}

/// How many GPUs a job asked for, and the memory of each.
fn gpu_wish(spec: &JobSpec) -> (i32, i32) {
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    spec.gpus.map(|wish| (number(wish.count), number(wish.memory_mib))).unwrap_or_default()
}

/// One job as an entry of a list.
fn job(view: JobView, rules: &Rules) -> Job {
    let end = End::of(&view);
    Job {
        uuid: view.id.to_string(),
        name: view.spec.name.clone(),
        command: view.spec.command.clone(),
        args: view.spec.args.clone(),
        maxCPU: cpu(&view.spec.limits),
        cpuCores: cores(&view.spec.limits),
        maxMemory: memory(&view.spec.limits),
        maxIOBPS: io(&view.spec.limits),
        status: view.status.as_str().to_owned(),
        startTime: time(view.started_ns),
        endTime: time(view.ended_ns),
        exitCode: end.code,
        scheduledTime: time(view.spec.not_before_ns),
        queue_position: position(view.queue_position),
        environment: view.spec.environment.iter().cloned().collect(),
        secret_environment: secret(&view.spec.secrets),
        nodeId: rules.node_id.clone(),
        timeout: timeout(view.clock.timeout),
        frozen_since: time(view.clock.paused_ns),
        timeout_at: time(view.clock.ends_ns),
        exit_reason: end.reason,
        signal: end.signal,
        message: end.message,
        created_time: time(Some(view.created_ns)),
        peak_memory_bytes: view.peak_memory_bytes,
        cpu_time_usec: view.cpu_time_usec,
        network: view.spec.network.as_str().to_owned(),
        user: view.spec.user_shown(),
        volumes: view.spec.volumes.iter().map(ToString::to_string).collect(),
        profile: view.spec.profile.as_str().to_owned(),
        writable: view.spec.writable,
        denials: view.denials,
        unenforced_limits: view.unenforced,
        wait_reason: view.wait_reason,
        workflowUuid: workflow(&view.spec),
        ports: ports(&view.ports),
        gpu_indices: gpu_indices(&view.gpus),
        gpu_count: gpu_wish(&view.spec).0,
        gpu_memory_mb: gpu_wish(&view.spec).1,
        ..Job::default()
    }
}

/// Most bytes of the tag and length before an entry of a list.
const ENTRY: u64 = 6;

/// A page of at most `bytes` serialized bytes, but with one job at least if it has any, so that every job can be reached.
/// The token names the job behind which the next page begins.
pub(in crate::api) fn page(page: JobPage, rules: &Rules, bytes: u64) -> Jobs {
    let mut jobs = Jobs::default();
    let mut room = bytes;
    let mut last = None;
    let mut next = page.next;
    for (serial, view) in page.jobs {
        let entry = job(view, rules);
        match room.checked_sub(entry.compute_size() + ENTRY) {
            Some(left) => room = left,
            None if last.is_none() => room = 0,
            None => {
                next = last;
                break;
            }
        }
        jobs.jobs.push(entry);
        last = Some(serial);
    }
    jobs.next_page_token = next.map(|serial| serial.to_string()).unwrap_or_default();
    jobs
}

/// The reply to StopJob.
pub(in crate::api) fn stop(view: &JobView) -> StopJobRes {
    StopJobRes {
        uuid: view.id.to_string(),
        status: view.status.as_str().to_owned(),
        endTime: time(view.ended_ns),
        exitCode: End::of(view).code,
        ..StopJobRes::default()
    }
}

/// The reply to CancelJob.
pub(in crate::api) fn cancel(view: &JobView) -> CancelJobRes {
    CancelJobRes {
        uuid: view.id.to_string(),
        status: view.status.as_str().to_owned(),
        ..CancelJobRes::default()
    }
}

/// The reply to ChangeEgress.
pub(in crate::api) fn egress((id, egress): (JobId, Vec<String>)) -> ChangeEgressRes {
    ChangeEgressRes { uuid: id.to_string(), egress, ..ChangeEgressRes::default() }
}

/// The reply to GetDenials.
pub(in crate::api) fn denials(denials: Denials) -> GetDenialsRes {
    let row = |row: job::Denial| Denial {
        name: row.name,
        address: row.address.map(|address| address.to_string()).unwrap_or_default(),
        port: row.port.into(),
        protocol: row.protocol,
        count: row.count,
        first_time: time(Some(row.first_ns)),
        rule: row.rule,
        allow: row.allow,
        ..Denial::default()
    };
    GetDenialsRes {
        denials: denials.rows.into_iter().map(row).collect(),
        uncounted: denials.uncounted,
        ..GetDenialsRes::default()
    }
}

/// The reply to the calls about an upload.
pub(in crate::api) fn upload(stored: &StoredStatus) -> UploadStatus {
    UploadStatus {
        handle: stored.handle.to_string(),
        received: stored.received,
        size: stored.size,
        complete: stored.complete,
        ..UploadStatus::default()
    }
}

/// The end of the message where history is not gone yet.
fn history_later(gone: bool) -> &'static str {
    if gone { "" } else { "; history is deleted when persist is back" }
}

/// The reply to DeleteJob.
pub(in crate::api) fn delete(job: Removed) -> DeleteJobRes {
    DeleteJobRes {
        uuid: job.id.to_string(),
        success: true,
        message: format!("Job deleted successfully{}", history_later(job.history_gone)),
        ..DeleteJobRes::default()
    }
}

/// The reply to DeleteAllJobs.
pub(in crate::api) fn delete_all(done: Deleted) -> DeleteAllJobsRes {
    let Deleted { deleted, skipped, history_gone } = done;
    let later = history_later(history_gone);
    let count = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    DeleteAllJobsRes {
        success: true,
        message: format!(
            "Successfully deleted {deleted} jobs, skipped {skipped} running/scheduled jobs{later}"
        ),
        deleted_count: count(deleted),
        skipped_count: count(skipped),
        ..DeleteAllJobsRes::default()
    }
}

/// An item of a job's log.
pub(in crate::api) fn log_item(item: LogItem) -> DataChunk {
    match item {
        LogItem::Output(output) => chunk(output),
        LogItem::Wait { sequence, limit } => DataChunk {
            seq: sequence,
            wait_reason: limit.map_or("", Full::reason).to_owned(),
            ..DataChunk::default()
        },
    }
}

fn chunk(chunk: Chunk) -> DataChunk {
    let stream = match chunk.stream {
        Stream::Stdout => OutputStream::OUTPUT_STREAM_STDOUT,
        Stream::Stderr => OutputStream::OUTPUT_STREAM_STDERR,
    };
    DataChunk {
        payload: chunk.bytes,
        stream: stream.into(),
        seq: chunk.sequence,
        timestamp_ns: chunk.time_ns,
        lost_bytes: chunk.lost,
        ..DataChunk::default()
    }
}

/// The end of a job as fields; zero and empty before it has ended.
#[derive(Default)]
struct End {
    code: i32,
    signal: i32,
    reason: String,
    message: String,
}

impl End {
    /// The end of a job, with its note; one that goes on has that at most.
    fn of(view: &JobView) -> Self {
        let goes_on = || End { message: view.note.clone(), ..End::default() };
        view.ending.as_ref().map_or_else(goes_on, |e| End {
            code: e.code,
            signal: e.signal,
            reason: e.reason.as_str().to_owned(),
            message: [e.message.as_str(), view.note.as_str()]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join("; "),
        })
    }
}

fn cpu(limits: &Limits) -> i32 {
    number(limits.cpu.map(|cpu| cpu.get()))
}

fn memory(limits: &Limits) -> i32 {
    number(limits.memory.map(|memory| memory.mib()))
}

fn io(limits: &Limits) -> i32 {
    number(limits.io.map(|io| io.get()))
}

/// A limit on the wire, where 0 means "no limit".
fn number(limit: Option<u32>) -> i32 {
    i32::try_from(limit.unwrap_or(0)).unwrap_or(i32::MAX)
}

fn cores(limits: &Limits) -> String {
    limits.cores.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// A time as RFC 3339 in UTC, in whole seconds; empty for an event that has not happened.
pub(super) fn time(ns: Option<i64>) -> String {
    ns.and_then(|ns| Timestamp::from_second(ns.div_euclid(1_000_000_000)).ok())
        .map(|at| at.to_string())
        .unwrap_or_default()
}

/// The workflow that a job belongs to; empty for a job by itself.
fn workflow(spec: &JobSpec) -> String {
    spec.part.map(|part| part.workflow.to_string()).unwrap_or_default()
}

fn position(position: u32) -> i32 {
    i32::try_from(position).unwrap_or(i32::MAX)
}

fn secret(secrets: &[(String, Secret)]) -> HashMap<String, String> {
    secrets.iter().map(|(name, _)| (name.clone(), MASK.to_owned())).collect()
}

/// A timeout in words; empty for none.
fn timeout(timeout: Option<Duration>) -> String {
    timeout.map(units::go_duration).unwrap_or_default()
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
