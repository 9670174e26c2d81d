//! `rnx runtime info`

use grpcio::RpcStatusCode;

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::runtime;
use super::super::terminal::one_line;
use super::{QUERY, connect};
use crate::pb::joblet::RuntimeInfoReq;

/// `rnx runtime info` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["runtime", "info"],
    alias: false,
    usage: "<runtime>",
    operands: Operands::One("runtime"),
    flags: &[],
    summary: "Show one runtime",
    about: "NAME is the highest version, NAME@VERSION that one.",
    examples: &["rnx runtime info python-3.11", "rnx runtime info python-3.11@1.3.1"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

/// Prints one version.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let server = connect(&invocation.values, out)?;
    let name = invocation.operands.first().cloned().unwrap_or_default();
    let request = RuntimeInfoReq { runtime: name.clone(), ..Default::default() };
    let answer =
        server.ask_runtimes(QUERY, |runtimes, option| runtimes.get_runtime_info_opt(&request, option))?;
    let Some(found) = answer.runtime.as_ref().filter(|_| answer.found) else {
        let text = format!("runtime \"{}\" is not installed; rnx runtime list shows all", one_line(&name));
        return Err(Error::Call(RpcStatusCode::NOT_FOUND, text.into()));
    };
    if out.json { out.value(&runtime::info_json(found)) } else { out.text(&runtime::shown(found)) }
}
