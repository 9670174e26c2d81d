//! `rnx runtime list`

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::runtime;
use super::{QUERY, connect};
use crate::pb::joblet::EmptyRequest;

/// `rnx runtime list` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["runtime", "list"],
    alias: false,
    usage: "",
    operands: Operands::Nothing,
    flags: &[],
    summary: "List the runtimes of the node",
    about: "Every version, with its size on disk, the part of it that other runtimes have too, the number of\n\
            jobs that have it, or wait to have it, and the time at which a job last got it.",
    examples: &["rnx runtime list", "rnx --json runtime list"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

/// Prints every version of every runtime.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let server = connect(&invocation.values, out)?;
    let request = EmptyRequest::default();
    let found =
        server.ask_runtimes(QUERY, |runtimes, option| runtimes.list_runtimes_opt(&request, option))?;
    if out.json { out.value(&runtime::list_json(&found)) } else { out.text(&runtime::list(&found.runtimes)) }
}
