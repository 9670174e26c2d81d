//! `rnx job delete`

use super::super::cli::Invocation;
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::{json, text};
use super::super::server::Server;
use super::{CHANGE, connect, resolve};
use crate::pb::joblet::{DeleteJobReq, DeleteJobRes};

/// Deletes a finished job.
pub(super) fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let server = connect(&invocation.values, out)?;
    let answer = delete(server, &resolve::job(server, invocation)?)?;
    if out.json { out.value(&json::deleted(&answer)) } else { out.text(&text::deleted(&answer.uuid)) }
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
