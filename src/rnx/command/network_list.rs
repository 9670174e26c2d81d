//! `rnx network list`

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::network;
use super::{QUERY, connect};
use crate::pb::joblet::EmptyRequest;

/// `rnx network list` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["network", "list"],
    alias: false,
    usage: "",
    operands: Operands::Nothing,
    flags: &[],
    summary: "List the networks of the node",
    about: "With the number of jobs that have each, or wait to have it. The modes none and host are no\n\
            networks.",
    examples: &["rnx network list", "rnx --json network list"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

/// Prints every network.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let server = connect(&invocation.values, out)?;
    let request = EmptyRequest::default();
    let found =
        server.ask_networks(QUERY, |networks, option| networks.list_networks_opt(&request, option))?;
    if out.json { out.value(&network::list_json(&found)) } else { out.text(&network::list(&found.networks)) }
}
