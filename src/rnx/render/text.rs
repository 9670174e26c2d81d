//! The texts of the job commands.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use super::super::terminal::one_line;
use super::span::{between, measured, took};
use super::words::{command_line, has_exit_code, is_terminal_status, network, short, signal_name};
use crate::pb::joblet::{CancelJobRes, DeleteAllJobsRes, GetJobStatusRes, Job, RunJobResponse, StopJobRes};

/// Number of files and variables that a `job run` sent.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sent {
    /// Files, directories not counted.
    pub(crate) files: usize,
    /// Number of plain variables.
    pub(crate) env: usize,
    /// Number of secret variables.
    pub(crate) secrets: usize,
}

/// The text of `job run`.
pub(crate) fn started(job: &RunJobResponse, sent: Sent, colour: bool) -> String {
    let heading = match job.exit_reason.as_str() {
        "start_failed" => "Job failed to start:\n",
        _ if job.status == "SCHEDULED" => "Job scheduled:\n",
        _ if job.queue_position > 0 => "Job queued:\n",
        _ => "Job started:\n",
    };
    let mut text = String::from(heading);
    line(&mut text, "ID", &job.jobUuid);
    raw_line(&mut text, "Command", &command_line(&job.command, &job.args));
    raw_line(&mut text, "Status", &status_word(&job.status, colour));
    line(&mut text, "StartTime", &job.startTime);
    raw_line(&mut text, "MaxCPU", &job.maxCpu.to_string());
    raw_line(&mut text, "MaxMemory", &job.maxMemory.to_string());
    line(&mut text, "Network", network(&job.network));
    if sent.files > 0 {
        raw_line(&mut text, "Files", &format!("{} uploaded successfully", sent.files));
    }
    if sent.env > 0 {
        raw_line(&mut text, "Environment", &format!("{} variables set", sent.env));
    }
    if sent.secrets > 0 {
        raw_line(&mut text, "Secret Environment", &format!("{} variables set", sent.secrets));
    }
    some_line(&mut text, "ScheduledTime", &job.scheduledTime);
    waiting(&mut text, job.queue_position, &job.wait_reason);
    ending(&mut text, &job.exit_reason, job.signal, &job.message);
    unenforced(&mut text, &job.unenforced_limits);
    text
}

/// The text of `job status`. With `show_env` every plain variable has its value.
pub(crate) fn status(job: &GetJobStatusRes, colour: bool, show_env: bool) -> String {
    let mut text = String::new();
    line(&mut text, "Id", &job.uuid);
    raw_line(&mut text, "Command", &command_line(&job.command, &job.args));
    raw_line(&mut text, "Status", &status_word(&job.status, colour));
    line(&mut text, "Started At", &job.startTime);
    line(&mut text, "Ended At", &job.endTime);
    raw_line(&mut text, "MaxCPU", &job.maxCPU.to_string());
    raw_line(&mut text, "MaxMemory", &job.maxMemory.to_string());
    raw_line(&mut text, "MaxIOBPS", &job.maxIOBPS.to_string());
    raw_line(&mut text, "ExitCode", &exit_code(&job.status, job.exitCode));
    ending(&mut text, &job.exit_reason, job.signal, &job.message);
    waiting(&mut text, job.queue_position, &job.wait_reason);
    for (label, value) in [
        ("Name", job.name.as_str()),
        ("Workflow", job.workflowUuid.as_str()),
        ("Node ID", job.nodeId.as_str()),
        ("Created At", job.created_time.as_str()),
        ("Scheduled At", job.scheduledTime.as_str()),
        ("Network", network(&job.network)),
        ("Address", job.address.as_str()),
        ("User", job.user.as_str()),
        ("Profile", job.profile.as_str()),
        ("Runtime", job.runtime.as_str()),
        ("Root", if job.writable { "writable" } else { "" }),
        ("CPU Cores", job.cpuCores.as_str()),
        ("Timeout", job.timeout.as_str()),
        ("Timeout At", job.timeout_at.as_str()),
        ("Paused Since", job.frozen_since.as_str()),
        ("Working Directory", job.workDir.as_str()),
    ] {
        some_line(&mut text, label, value);
    }
    some_line(&mut text, "Egress", &job.egress.join(", "));
    if job.denials > 0 {
        raw_line(&mut text, "Denials", &job.denials.to_string());
    }
    for (label, rate) in [("Net Rate Up", job.net_rate_up), ("Net Rate Down", job.net_rate_down)] {
        if rate > 0 {
            raw_line(&mut text, label, &format!("{rate} bytes/s"));
        }
    }
    if job.gpu_count > 0 {
        raw_line(&mut text, "GPUs", &gpus(job));
    }
    section(&mut text, "Published Ports", job.ports.iter().map(|port| one_line(port)).collect());
    section(&mut text, "Volumes", job.volumes.iter().map(|volume| one_line(volume)).collect());
    section(&mut text, "Uploaded Files", job.uploads.iter().map(|f| one_line(f)).collect());
    let variables = variables(&job.environment, &job.secret_environment, show_env);
    section(&mut text, "Environment Variables", variables);
    if let Some(peak) = job.peak_memory_bytes {
        raw_line(&mut text, "Peak Memory", &mebibytes(peak));
    }
    if let Some(used) = job.cpu_time_usec {
        raw_line(&mut text, "CPU Time", &format!("{}.{:03} s", used / 1_000_000, used / 1000 % 1000));
    }
    unenforced(&mut text, &job.unenforced_limits);
    text
}

/// How many GPUs, what they have, and their numbers where the job has them.
fn gpus(job: &GetJobStatusRes) -> String {
    let each = if job.gpu_memory_mb > 0 {
        format!(", {} MB or more each", job.gpu_memory_mb)
    } else {
        String::new()
    };
    let numbers: Vec<String> = job.gpu_indices.iter().map(ToString::to_string).collect();
    let which = if numbers.is_empty() { String::new() } else { format!(" ({})", numbers.join(", ")) };
    format!("{}{which}{each}", job.gpu_count)
}

/// `job list`: the reference's line, one for each job. A job that waits has its reason behind the command, in
/// parentheses, which the words of a command have only within quotes.
pub(crate) fn list(jobs: &[Job], colour: bool) -> String {
    if jobs.is_empty() {
        return NO_JOBS.to_string();
    }
    let mut text = String::new();
    for job in jobs {
        let _ = writeln!(
            text,
            "{} {} StartTime: {} Command: {}{}",
            one_line(&job.uuid),
            status_word(&job.status, colour),
            one_line(start_of(job).unwrap_or("N/A")),
            command_line(&job.command, &job.args),
            queued(job)
        );
    }
    text
}

/// ` (queue position 3: waits for a place)`, ` (paused)`, or nothing.
pub(crate) fn queued(job: &Job) -> String {
    let place = (job.queue_position > 0).then(|| format!("queue position {}", job.queue_position));
    let reason = (!job.wait_reason.is_empty()).then(|| one_line(&job.wait_reason));
    match (place, reason) {
        (None, None) if !job.frozen_since.is_empty() => " (paused)".into(),
        (None, None) => String::new(),
        (Some(one), None) | (None, Some(one)) => format!(" ({one})"),
        (Some(place), Some(reason)) => format!(" ({place}: {reason})"),
    }
}

/// The text of an empty list.
pub(crate) const NO_JOBS: &str = "No jobs found\n";

/// When the job started, was about to, or will. A job that was canceled or stopped before its start has no such time.
pub(crate) fn start_of(job: &Job) -> Option<&str> {
    let time = match job.status.as_str() {
        _ if !job.startTime.is_empty() => &job.startTime,
        "FAILED" => &job.created_time,
        "CANCELED" | "STOPPED" => return None,
        _ => &job.scheduledTime,
    };
    (!time.is_empty()).then_some(time)
}

/// The text of `job stop`.
pub(crate) fn stopped(job: &StopJobRes, colour: bool) -> String {
    let mut text = String::from("Job stopped successfully:\n");
    line(&mut text, "ID", &job.uuid);
    raw_line(&mut text, "Status", &status_word(&job.status, colour));
    raw_line(&mut text, "ExitCode", &job.exitCode.to_string());
    line(&mut text, "EndTime", &job.endTime);
    text
}

/// The text of `job cancel`.
pub(crate) fn canceled(job: &CancelJobRes, when: &str, colour: bool) -> String {
    let mut text = String::from("Job canceled successfully:\n");
    line(&mut text, "ID", &job.uuid);
    raw_line(&mut text, "Status", &status_word(&job.status, colour));
    line(&mut text, "CanceledAt", when);
    text
}

/// One job of `job wait`.
pub(crate) fn waited(job: &GetJobStatusRes, colour: bool) -> String {
    let mut text = format!("{} {}", one_line(&job.uuid), status_word(&job.status, colour));
    if has_exit_code(&job.status) {
        let _ = write!(text, " ExitCode: {}", job.exitCode);
    }
    if !job.exit_reason.is_empty() {
        let _ = write!(text, " Reason: {}", one_line(&job.exit_reason));
    }
    text + "\n"
}

/// The text of `job delete`.
pub(crate) fn deleted(uuid: &str) -> String {
    let mut text = String::from("Job deleted successfully:\n");
    line(&mut text, "ID", uuid);
    text
}

/// `job delete-all`: the server's sentence.
pub(crate) fn deleted_all(answer: &DeleteAllJobsRes) -> String {
    format!("{}\n", one_line(&answer.message))
}

/// The heading of `job log`.
pub(crate) fn log_heading(id: &str) -> String {
    format!("Logs for job {} (Press Ctrl+C to exit if streaming):", one_line(id))
}

/// A status in the colour of its kind.
pub(crate) fn status_word(status: &str, colour: bool) -> String {
    let word = one_line(status);
    let code = match status {
        "RUNNING" => 33,
        "COMPLETED" => 32,
        "FAILED" => 31,
        "SCHEDULED" | "PENDING" => 36,
        "STOPPED" | "CANCELED" => 35,
        "INITIALIZING" => 34,
        _ => return word,
    };
    if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word }
}

/// The one line for a job that never ran.
pub(crate) fn failed_start(uuid: &str, message: &str) -> String {
    let message = if message.is_empty() { "no reason was given" } else { message };
    format!("rnx: job {} failed to start: {}", one_line(short(uuid)), one_line(message))
}

/// How to see more of a job that was started: `Output: rnx job log f47ac10b`.
pub(crate) fn next_steps(job: &RunJobResponse) -> String {
    let id = one_line(short(&job.jobUuid));
    match job.status.as_str() {
        "SCHEDULED" => {
            format!("Output, once it has started: rnx job log {id}   Cancel it: rnx job cancel {id}")
        }
        _ => format!("Output: rnx job log {id}   Wait for its end: rnx job wait {id}"),
    }
}

/// The line at the end of a job that exited by itself: `exit 0 in 23.7 s, peak 310 of 512 MiB`. `ran` is the time
/// that was measured here; the times of the server are whole seconds.
pub(crate) fn exit_summary(job: &GetJobStatusRes, ran: Option<Duration>) -> String {
    let mut text = format!("exit {}", job.exitCode);
    let seconds = || between(&job.startTime, &job.endTime).map(took);
    if let Some(time) = ran.map(measured).or_else(seconds) {
        let _ = write!(text, " in {time}");
    }
    if let Some(peak) = job.peak_memory_bytes {
        let limit = if job.maxMemory > 0 { format!(" of {}", job.maxMemory) } else { String::new() };
        let _ = write!(text, ", peak {}{limit} MiB", peak.div_ceil(1 << 20));
    }
    text
}

/// The line with the reason of an end other than an exit code of the job's own.
pub(crate) fn end_summary(job: &GetJobStatusRes) -> Option<String> {
    if job.exit_reason == "start_failed" {
        return Some(failed_start(&job.uuid, &job.message));
    }
    end_words(job).map(|words| format!("rnx: job {} {words}", one_line(short(&job.uuid))))
}

/// The same without the job, as the second half of a sentence.
pub(crate) fn end_words(job: &GetJobStatusRes) -> Option<String> {
    let message = one_line(&job.message);
    let or = |fallback: String| if message.is_empty() { fallback } else { message.clone() };
    let also = if message.is_empty() { String::new() } else { format!(": {message}") };
    Some(match job.exit_reason.as_str() {
        "exited" if message.is_empty() => return None,
        // The server knows more than the code says, such as that the job has filled its disk.
        "exited" => format!("exited with {}: {message}", job.exitCode),
        "oom" => or(format!("killed: out of memory (limit {} MiB)", job.maxMemory)),
        "signaled" => {
            // The server names the signal too, and may know more behind that.
            let hint = message.split_once("; ").map(|(_, hint)| format!("; {hint}")).unwrap_or_default();
            format!("killed by signal {}{hint}", signal_name(job.signal))
        }
        "timeout" => or("ran longer than its timeout".into()),
        "output_limit" => or("killed: it wrote more output than it may".into()),
        "disk_full" => or("killed: the node has no room for its output".into()),
        "stopped" => format!("was stopped{also}"),
        "canceled" => format!("was canceled before it started{also}"),
        "start_failed" => format!("did not start{also}"),
        "lost" => format!("is lost{also}"),
        _ if !is_terminal_status(&job.status) => format!("is still {}", one_line(&job.status)),
        _ if job.status == "COMPLETED" || job.exitCode > 0 => return None,
        _ if job.status == "STOPPED" => format!("was stopped{also}"),
        _ => format!("ended {}{also}", one_line(&job.status)),
    })
}

/// A size in MiB with one decimal: `12.3 MiB`.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The exit code, where there is one: 0 for a job that runs would look like its success.
fn exit_code(status: &str, code: i32) -> String {
    if has_exit_code(status) { code.to_string() } else { String::new() }
}

fn line(text: &mut String, label: &str, value: &str) {
    raw_line(text, label, &one_line(value));
}

fn raw_line(text: &mut String, label: &str, value: &str) {
    let space = if value.is_empty() { "" } else { " " };
    let _ = writeln!(text, "{label}:{space}{value}");
}

fn some_line(text: &mut String, label: &str, value: &str) {
    if !value.is_empty() {
        line(text, label, value);
    }
}

fn section(text: &mut String, label: &str, entries: Vec<String>) {
    if entries.is_empty() {
        return;
    }
    raw_line(text, label, "");
    for entry in entries {
        let _ = writeln!(text, "  {entry}");
    }
}

fn ending(text: &mut String, reason: &str, signal: i32, message: &str) {
    some_line(text, "Reason", reason);
    if signal > 0 {
        raw_line(text, "Signal", &signal_name(signal));
    }
    some_line(text, "Message", message);
}

fn waiting(text: &mut String, position: i32, reason: &str) {
    if position > 0 {
        raw_line(text, "Queue Position", &position.to_string());
    }
    some_line(text, "Wait Reason", reason);
}

fn unenforced(text: &mut String, limits: &[String]) {
    for limit in limits {
        line(text, "Warning", limit);
    }
}

fn variables(
    plain: &HashMap<String, String>,
    secret: &HashMap<String, String>,
    show_env: bool,
) -> Vec<String> {
    let shown = plain.iter().map(|(k, v)| {
        let value = if !show_env && sounds_secret(k) { "***" } else { v };
        one_line(&format!("{k}={value}"))
    });
    // A secret is never printed, even if the server sent it.
    let hidden = secret.keys().map(|k| one_line(&format!("{k}=*** (secret)")));
    let mut all: Vec<String> = shown.chain(hidden).collect();
    all.sort();
    all
}

/// Names that usually hold secrets: their values are not put on a screen, even where they were given as
/// ordinary variables. JSON and `--show-env` have them.
fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    name.starts_with("SECRET_")
        || ["_TOKEN", "_KEY", "_PASSWORD", "_SECRET"].iter().any(|e| name.ends_with(e))
}
