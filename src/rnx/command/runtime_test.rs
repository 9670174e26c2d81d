//! `rnx runtime test`

use grpcio::RpcStatusCode;

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::runtime;
use super::{CHANGE, connect};
use crate::pb::joblet::RuntimeTestReq;

/// `rnx runtime test` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["runtime", "test"],
    alias: false,
    usage: "<runtime>",
    operands: Operands::One("runtime"),
    flags: &[],
    summary: "Run the interpreter of a runtime once",
    about: "In a job of its own, for at most 10 seconds: it says its version. A runtime without a\n\
            language, as one made of an image, starts its shell.",
    examples: &["rnx runtime test python-3.11"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

/// Prints what the interpreter said; a failed test is a failure.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let server = connect(&invocation.values, out)?;
    let name = invocation.operands.first().cloned().unwrap_or_default();
    let request = RuntimeTestReq { runtime: name.clone(), ..Default::default() };
    let answer =
        server.ask_runtimes(CHANGE, |runtimes, option| runtimes.test_runtime_opt(&request, option))?;
    if out.json {
        out.value(&runtime::tested_json(&name, &answer))?;
    } else {
        out.text(&runtime::tested(&name, &answer))?;
    }
    if answer.success {
        return Ok(());
    }
    Err(Error::Call(RpcStatusCode::FAILED_PRECONDITION, format!("test failed: {}", answer.error).into()))
}
