//! `rnx network inspect`

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::network;
use super::{QUERY, connect};
use crate::pb::joblet::GetNetworkReq;

/// `rnx network inspect` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["network", "inspect"],
    alias: false,
    usage: "<network>",
    operands: Operands::One("network"),
    flags: &[],
    summary: "Show one network and the jobs in it",
    about: "With the address of each job. A job that waits has none yet.",
    examples: &["rnx network inspect lab"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

/// Prints one network.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let server = connect(&invocation.values, out)?;
    let name = invocation.operands.first().cloned().unwrap_or_default();
    let request = GetNetworkReq { name, ..Default::default() };
    let found = server.ask_networks(QUERY, |networks, option| networks.get_network_opt(&request, option))?;
    if out.json { out.value(&network::shown_json(&found)) } else { out.text(&network::shown(&found)) }
}
