//! `rnx job delete`

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::{json, text};
use super::super::resolve;
use super::super::server::Server;
use super::{CHANGE, connect, several};
use crate::pb::joblet::{DeleteJobReq, DeleteJobRes};

/// `rnx job delete` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["job", "delete"],
    alias: false,
    usage: "<job-uuid>...",
    operands: Operands::Many("job-uuid"),
    flags: &[],
    summary: "Delete finished jobs with their output",
    about: "It never asks.",
    examples: &["rnx job delete f47ac10b-58cc-4372-a567-0e02b2c3d479", "rnx job delete train evaluate"],
    statuses: &["COMPLETED", "FAILED", "STOPPED", "CANCELED"],
    failure: None,
    run: Run::WithCode(run),
};

/// Deletes finished jobs.
fn run(invocation: &Invocation, out: Out) -> Result<i32> {
    let server = connect(&invocation.values, out)?;
    let print = |answer: &DeleteJobRes| {
        if out.json { out.value(&json::deleted(answer)) } else { out.text(&text::deleted(&answer.uuid)) }
    };
    let value = |answer: &DeleteJobRes| serde_json::to_value(json::deleted(answer));
    several::each(out, &resolve::jobs(server, invocation)?, |uuid| delete(server, uuid), print, value)
}

/// Deletes one job; an answer that says it did not is a failure.
pub(super) fn delete(server: &Server, uuid: &str) -> Result<DeleteJobRes> {
    let request = DeleteJobReq { uuid: uuid.into(), ..Default::default() };
    let answer = server.ask(CHANGE, |jobs, option| jobs.delete_job_opt(&request, option))?;
    if answer.success {
        return Ok(answer);
    }
    let text = if answer.message.is_empty() { format!("job {uuid} was not deleted") } else { answer.message };
    Err(Error::Call(grpcio::RpcStatusCode::INTERNAL, text.into()))
}
