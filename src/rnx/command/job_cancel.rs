//! `rnx job cancel`

use grpcio::RpcStatusCode;

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::{json, short, text};
use super::super::resolve;
use super::super::terminal::one_line;
use super::{QUERY, connect};
use crate::pb::joblet::{CancelJobReq, GetJobStatusReq};

/// `rnx job cancel` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["job", "cancel"],
    alias: false,
    usage: "<job-uuid>",
    operands: Operands::One("job-uuid"),
    flags: &[],
    summary: "Cancel a job that is scheduled and has not started",
    about: "A job that has started is stopped instead: rnx job stop.",
    examples: &["rnx job cancel f47ac10b-58cc-4372-a567-0e02b2c3d479"],
    statuses: &["SCHEDULED"],
    failure: None,
    run: Run::Plain(run),
};

/// Cancels a job that waits for its time.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let server = connect(&invocation.values, out)?;
    let uuid = resolve::job(server, invocation)?;
    let request = CancelJobReq { uuid: uuid.clone(), ..Default::default() };
    let job =
        server.ask(QUERY, |jobs, option| jobs.cancel_job_opt(&request, option)).map_err(|e| match e {
            Error::Call(RpcStatusCode::FAILED_PRECONDITION, _) if can_be_stopped(&e.to_string()) => {
                let hint = format!("rnx job stop {} ends a job that has started", one_line(short(&uuid)));
                e.hint(hint)
            }
            e => e,
        })?;
    // The answer has no time; the job's status has it. The job is canceled either way.
    let request = GetJobStatusReq { uuid: job.uuid.clone(), ..Default::default() };
    let when = match server.ask(QUERY, |jobs, option| jobs.get_job_status_opt(&request, option)) {
        Ok(status) => status.endTime,
        Err(e) => {
            out.note(&format!("warning: the time is not known: {}", one_line(&e.to_string())));
            String::new()
        }
    };
    if out.json {
        out.value(&json::canceled(&job, &when))
    } else {
        out.text(&text::canceled(&job, &when, out.colour))
    }
}

/// Whether the refusal is about a job that runs or is about to: one that has ended needs no advice.
fn can_be_stopped(refusal: &str) -> bool {
    ["RUNNING", "INITIALIZING"].iter().any(|status| refusal.ends_with(&format!("(current status: {status})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_job_that_has_not_ended_can_be_stopped() {
        let refusal = |status: &str| format!("Job is not scheduled: f47ac10b (current status: {status})");
        for status in ["RUNNING", "INITIALIZING"] {
            assert!(can_be_stopped(&refusal(status)), "{status}");
        }
        for status in ["COMPLETED", "FAILED", "STOPPED", "CANCELED"] {
            assert!(!can_be_stopped(&refusal(status)), "{status}");
        }
    }
}
