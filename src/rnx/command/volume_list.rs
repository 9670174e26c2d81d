//! `rnx volume list`

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::volume;
use super::{QUERY, connect};
use crate::pb::joblet::EmptyRequest;

/// `rnx volume list` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["volume", "list"],
    alias: false,
    usage: "",
    operands: Operands::Nothing,
    flags: &[],
    summary: "List the volumes of the node",
    about: "With the number of jobs that have each, or wait to have it.",
    examples: &["rnx volume list", "rnx --json volume list"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

/// Prints every volume.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let server = connect(&invocation.values, out)?;
    let request = EmptyRequest::default();
    let found = server.ask_volumes(QUERY, |volumes, option| volumes.list_volumes_opt(&request, option))?;
    if out.json { out.value(&volume::list_json(&found)) } else { out.text(&volume::list(&found.volumes)) }
}
