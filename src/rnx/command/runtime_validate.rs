//! `rnx runtime validate`

use grpcio::RpcStatusCode;

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::runtime;
use super::{QUERY, connect};
use crate::pb::joblet::ValidateRuntimeSpecRequest;

/// `rnx runtime validate` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["runtime", "validate"],
    alias: false,
    usage: "<runtime>",
    operands: Operands::One("runtime"),
    flags: &[],
    summary: "Check how the name of a runtime is written",
    about: "Nothing is looked up: the runtime need not be installed. Both NAME[@VERSION] and the\n\
            older LANGUAGE:VERSION[-VARIANT] are valid.",
    examples: &["rnx runtime validate python:3.11-ml"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

/// Prints the name in its usual form.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let server = connect(&invocation.values, out)?;
    let spec = invocation.operands.first().cloned().unwrap_or_default();
    let request = ValidateRuntimeSpecRequest { runtimeSpec: spec, ..Default::default() };
    let answer = server
        .ask_runtimes(QUERY, |runtimes, option| runtimes.validate_runtime_spec_opt(&request, option))?;
    if !answer.valid {
        return Err(Error::Call(RpcStatusCode::INVALID_ARGUMENT, answer.message.into()));
    }
    if out.json { out.value(&runtime::spelling_json(&answer)) } else { out.text(&runtime::spelling(&answer)) }
}
