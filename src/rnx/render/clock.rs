//! Pauses and timeouts of jobs.

use serde::Serialize;

use crate::pb::joblet::JobClockRes;
use crate::rnx::terminal::one_line;

/// The JSON of `job pause`, `job resume` and `job timeout`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Clock<'a> {
    uuid: &'a str,
    frozen: bool,
    timeout_at: &'a str,
}

/// Makes a [`Clock`] from the server's message.
pub(crate) fn json(job: &JobClockRes) -> Clock<'_> {
    Clock { uuid: &job.uuid, frozen: job.frozen, timeout_at: &job.timeout_at }
}

/// The text of `job pause`.
pub(crate) fn paused(job: &JobClockRes) -> String {
    let uuid = one_line(&job.uuid);
    if job.frozen {
        format!("Job paused: {uuid}\n")
    } else {
        format!(
            "Job pauses, but a process of it sleeps in the kernel and stands still when it wakes: {uuid}\n"
        )
    }
}

/// The text of `job resume`.
pub(crate) fn resumed(job: &JobClockRes) -> String {
    format!("Job goes on: {}{}\n", one_line(&job.uuid), until(job))
}

/// The text of `job timeout`.
pub(crate) fn timed(job: &JobClockRes) -> String {
    let rest = if job.frozen { ", once it is resumed".to_owned() } else { until(job) };
    format!("Timeout changed: {}{rest}\n", one_line(&job.uuid))
}

fn until(job: &JobClockRes) -> String {
    if job.timeout_at.is_empty() { String::new() } else { format!(", until {}", one_line(&job.timeout_at)) }
}
