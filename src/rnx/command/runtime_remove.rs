//! `rnx runtime remove`

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::runtime;
use super::{CHANGE, connect};
use crate::pb::joblet::RuntimeRemoveReq;

/// `rnx runtime remove` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["runtime", "remove"],
    alias: false,
    usage: "<runtime>",
    operands: Operands::One("runtime"),
    flags: &[],
    summary: "Remove a runtime that no job has",
    about: "NAME means all of its versions, NAME@VERSION that one. It never asks. A version that a\n\
            job has, or waits to have, is not removed.",
    examples: &["rnx runtime remove python-3.11@1.3.1"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

/// Removes versions; an answer that says it did not is a failure.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let name = invocation.operands.first().cloned().unwrap_or_default();
    let server = connect(&invocation.values, out)?;
    let request = RuntimeRemoveReq { runtime: name.clone(), ..Default::default() };
    let answer =
        server.ask_runtimes(CHANGE, |runtimes, option| runtimes.remove_runtime_opt(&request, option))?;
    if !answer.success {
        return Err(Error::Call(grpcio::RpcStatusCode::INTERNAL, answer.message.into()));
    }
    if out.json {
        out.value(&runtime::removed_json(&name, &answer))
    } else {
        out.text(&runtime::removed(&answer))
    }
}
