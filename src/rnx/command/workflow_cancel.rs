//! `rnx workflow cancel`

use grpcio::RpcStatusCode;

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::{workflow, workflow_json};
use super::super::resolve;
use super::super::terminal::one_line;
use super::{CHANGE, connect};
use crate::pb::joblet::CancelWorkflowRequest;

/// `rnx workflow cancel` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["workflow", "cancel"],
    alias: false,
    usage: "<workflow>",
    operands: Operands::One("workflow"),
    flags: &[],
    summary: "Cancel a workflow",
    about: "Jobs that have not started are canceled, and those that run are stopped. Jobs that have ended stay as they are. \
            rnx returns when all of them are over.",
    examples: &["rnx workflow cancel a1b2c3d4"],
    statuses: &["PENDING", "RUNNING"],
    failure: None,
    run: Run::Plain(run),
};

/// Cancels one workflow.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let text = invocation.operands.first().map(String::as_str).unwrap_or_default();
    let server = connect(&invocation.values, out)?;
    let request =
        CancelWorkflowRequest { workflowUuid: resolve::workflow(server, text)?, ..Default::default() };
    let answer = server.ask(CHANGE, |jobs, option| jobs.cancel_workflow_opt(&request, option))?;
    if answer.status != "CANCELED" {
        // The server shows one that is over as it ended.
        let (id, status) = (one_line(&answer.workflowUuid), one_line(&answer.status));
        let text = format!("workflow is over: {id} (current status: {status})");
        return Err(Error::Call(RpcStatusCode::FAILED_PRECONDITION, text.into()));
    }
    match out.json {
        true => out.value(&workflow_json::canceled(&answer)),
        false => out.text(&workflow::canceled(&answer, out.colour)),
    }
}
