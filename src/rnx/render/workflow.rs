//! The texts of the workflow commands: the reference's lines and table, our additions below or behind them.

use std::fmt::Write;

use super::super::terminal::{lines, one_line};
use super::fit::{padded, width};
use super::span::{between, took};
use super::text::status_word;
use super::words::{has_exit_code, is_terminal_status, short};
use crate::pb::joblet::{
    ArrayProgress, CancelWorkflowResponse, GetWorkflowStatusResponse, Timestamp, WorkflowInfo, WorkflowJob,
};

/// Columns of the table of jobs: id, name, status, exit code. Names may be longer, up to [`WIDEST_NAME`].
const COLUMNS: [usize; 4] = [38, 20, 12, 10];
const WIDEST_NAME: usize = 64;
/// Length of the reference's dashed line.
const RULE: usize = 117;
/// Jobs that a summary names.
const NAMED: usize = 5;

/// The lines of `workflow run`. `file` is the word of the command line.
pub(crate) fn created(file: &str, files: usize, uuid: &str) -> String {
    let mut text = format!("Running workflow from: {}\n", one_line(file));
    if files > 0 {
        let _ = writeln!(text, "Uploading {files} {}", if files == 1 { "file" } else { "files" });
    }
    text + &format!("Workflow validation passed\nWorkflow created with UUID: {}\n", one_line(uuid))
}

/// The line about what to type next.
pub(crate) fn next_step(uuid: &str) -> String {
    format!("Use 'rnx workflow status {}' to monitor progress\n", one_line(uuid))
}

/// The table of `workflow list`.
pub(crate) fn list(workflows: &[WorkflowInfo], colour: bool) -> String {
    if workflows.is_empty() {
        return "No workflows found\n".to_owned();
    }
    let row = |id: &str, status: String, progress: &str, name: &str| {
        let line = format!("{}  {status}  {}  {name}", padded(id, 36), padded(progress, 12));
        line.trim_end().to_owned() + "\n"
    };
    let mut text = row("UUID", padded("STATUS", 11), "PROGRESS", "NAME");
    text += &format!("{}\n", "-".repeat(80));
    for workflow in workflows {
        let progress = format!("{}/{}", workflow.completedJobs, workflow.totalJobs);
        let status = coloured(&workflow.status, 11, colour);
        text += &row(&one_line(&workflow.uuid), status, &progress, &one_line(&workflow.name));
    }
    text
}

/// `workflow status`. With `detail` the file as the server keeps it: values of secrets are masked there.
pub(crate) fn status(answer: &GetWorkflowStatusResponse, detail: bool, now: &str, colour: bool) -> String {
    let workflow = &answer.workflow;
    let mut text = format!("Workflow UUID: {}\n", one_line(&workflow.uuid));
    if detail {
        let _ = write!(
            text,
            "\nYAML Content:\n=============\n{}\n=============\n\n",
            lines(&workflow.yamlContent)
        );
    }
    let _ = writeln!(text, "Status: {}", status_word(&workflow.status, colour));
    let _ = writeln!(text, "Progress: {}", progress(workflow));
    if !workflow.name.is_empty() {
        let _ = writeln!(text, "Name: {}", one_line(&workflow.name));
    }
    if !workflow.message.is_empty() {
        let _ = writeln!(text, "Message: {}", one_line(&workflow.message));
    }
    text += &timing(workflow, now);
    if !answer.jobs.is_empty() {
        text += &format!("\nJobs:\n{}", table(&answer.jobs, colour));
    }
    text + &actions(answer)
}

/// `3/5 jobs completed (1 failed)`.
fn progress(workflow: &WorkflowInfo) -> String {
    let mut text = format!("{}/{} jobs completed", workflow.completedJobs, workflow.totalJobs);
    let others = [(workflow.failedJobs, "failed"), (workflow.canceledJobs, "canceled")];
    let others: Vec<String> =
        others.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    if !others.is_empty() {
        let _ = write!(text, " ({})", others.join(", "));
    }
    text
}

fn timing(workflow: &WorkflowInfo, now: &str) -> String {
    let mut text = String::from("\nTiming:\n");
    let times = [
        ("Created", &workflow.createdAt),
        ("Started", &workflow.startedAt),
        ("Completed", &workflow.completedAt),
    ];
    for (label, at) in times {
        if let Some(at) = time(at.as_ref()) {
            let _ = writeln!(text, "  {label}: {at}");
        }
    }
    if let Some(taken) = duration(workflow, now) {
        let _ = writeln!(text, "  Duration: {taken}");
    }
    text
}

/// How long a workflow ran, or runs already.
pub(super) fn duration(workflow: &WorkflowInfo, now: &str) -> Option<String> {
    let start = time(workflow.startedAt.as_ref())?;
    let end = time(workflow.completedAt.as_ref());
    // One that has ended without a time of its end has no length.
    let end = end.or_else(|| (!is_terminal_status(&workflow.status)).then(|| now.to_owned()))?;
    between(&start, &end).map(took)
}

/// A time of the API as RFC 3339 in whole seconds; `None` where there is none.
pub(crate) fn time(at: Option<&Timestamp>) -> Option<String> {
    let at = at.filter(|at| at.seconds != 0)?;
    jiff::Timestamp::from_second(at.seconds).ok().map(|time| time.to_string())
}

/// The reference's table of jobs. Below a job stands, indented, what its columns have no room for.
fn table(jobs: &[WorkflowJob], colour: bool) -> String {
    let [id, name, status, code] = COLUMNS;
    let widest = jobs.iter().map(|job| width(&one_line(&job.jobName))).max().unwrap_or(0);
    let name = widest.clamp(name, WIDEST_NAME);
    let rule = "-".repeat(RULE + name - COLUMNS[1]) + "\n";
    let row = |cells: [String; 5]| cells.join(" ").trim_end().to_owned() + "\n";
    let heading = [("JOB ID", id), ("JOB NAME", name), ("STATUS", status), ("EXIT CODE", code)];
    let [a, b, c, d] = heading.map(|(word, columns)| padded(word, columns));
    let mut text = row([a, b, c, d, "DEPENDENCIES".to_owned()]) + &rule;
    for job in jobs {
        let dependencies: Vec<String> = job.dependencies.iter().map(|name| one_line(name)).collect();
        text += &row([
            padded(&one_line(&job.jobUuid), id),
            padded(&one_line(&job.jobName), name),
            coloured(&job.status, status, colour),
            padded(&exit_code(job).unwrap_or_else(|| "-".into()), code),
            if dependencies.is_empty() { "-".into() } else { dependencies.join(", ") },
        ]);
        if let Some(note) = note(job) {
            let _ = writeln!(text, "{}{note}", " ".repeat(id + 1));
        }
    }
    text + &rule
}

/// The exit code of a job that has one; the elements of an array have one each.
pub(super) fn exit_code(job: &WorkflowJob) -> Option<String> {
    (has_exit_code(&job.status) && job.array.is_none()).then(|| job.exitCode.to_string())
}

/// The details that the columns have no room for: elements, attempts, and why it ended as it did.
fn note(job: &WorkflowJob) -> Option<String> {
    let elements = job.array.as_ref().map(elements);
    let attempts = (job.attempts > 1 && job.array.is_none()).then(|| format!("attempt {}", job.attempts));
    let message = (!job.message.is_empty()).then(|| one_line(&job.message));
    let parts: Vec<String> = elements.into_iter().chain(attempts).chain(message).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// `312 of 1000 completed, 2 failed, 50 running`.
fn elements(array: &ArrayProgress) -> String {
    let mut text = format!("{} of {} completed", array.completed, array.total);
    for (count, word) in [(array.failed, "failed"), (array.canceled, "canceled"), (array.running, "running")]
    {
        if count > 0 {
            let _ = write!(text, ", {count} {word}");
        }
    }
    text
}

fn actions(answer: &GetWorkflowStatusResponse) -> String {
    let id = one_line(short(&answer.workflow.uuid));
    let mut text = String::from("\nAvailable Actions:\n");
    if !is_terminal_status(&answer.workflow.status) {
        let _ = writeln!(text, "  Watch it:  rnx workflow status --watch {id}");
        let _ = writeln!(text, "  Cancel it: rnx workflow cancel {id}");
    }
    let failed = answer.jobs.iter().find(|job| job.status == "FAILED" && job.jobUuid.len() > 1);
    if let Some(job) = failed {
        let _ = writeln!(
            text,
            "  Output of {}: rnx job log {}",
            one_line(&job.jobName),
            one_line(short(&job.jobUuid))
        );
    }
    text + &format!("  Its jobs:  rnx job list --workflow {id}\n")
}

/// The one line about a workflow that has ended: `workflow a1b2c3d4 FAILED: 3/5 jobs completed (1 failed) in 12s; shard
/// (exit code 3)`.
pub(crate) fn summary(answer: &GetWorkflowStatusResponse) -> String {
    let workflow = &answer.workflow;
    let mut text = format!(
        "workflow {} {}: {}",
        one_line(short(&workflow.uuid)),
        one_line(&workflow.status),
        progress(workflow)
    );
    if let Some(taken) = duration(workflow, "") {
        let _ = write!(text, " in {taken}");
    }
    let failed: Vec<&WorkflowJob> =
        answer.jobs.iter().filter(|job| matches!(job.status.as_str(), "FAILED" | "STOPPED")).collect();
    let named: Vec<String> = failed.iter().take(NAMED).map(|job| why(job)).collect();
    if !named.is_empty() {
        let _ = write!(text, "; {}", named.join(", "));
    }
    if failed.len() > NAMED {
        let _ = write!(text, " and {} more", failed.len() - NAMED);
    }
    text
}

/// `shard (exit code 3)`.
fn why(job: &WorkflowJob) -> String {
    let name = one_line(&job.jobName);
    match (job.array.as_ref(), job.exit_reason.as_str()) {
        (Some(array), _) => format!("{name} ({})", elements(array)),
        (None, "exited") => format!("{name} (exit code {})", job.exitCode),
        (None, "") => format!("{name} ({})", one_line(&job.status)),
        (None, _) if !job.message.is_empty() => format!("{name} ({})", one_line(&job.message)),
        (None, reason) => format!("{name} ({})", one_line(reason)),
    }
}

/// The text of `workflow cancel`.
pub(crate) fn canceled(answer: &CancelWorkflowResponse, colour: bool) -> String {
    let (uuid, status) = (one_line(&answer.workflowUuid), status_word(&answer.status, colour));
    format!("Workflow canceled:\nUUID: {uuid}\nStatus: {status}\n")
}

fn coloured(status: &str, columns: usize, colour: bool) -> String {
    let shown = one_line(status);
    status_word(status, colour) + &padded("", columns.saturating_sub(width(&shown)))
}
