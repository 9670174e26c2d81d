//! `rnx network remove`

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::network;
use super::{CHANGE, NETWORK_MODES, connect};
use crate::pb::joblet::RemoveNetworkReq;

/// `rnx network remove` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["network", "remove"],
    alias: false,
    usage: "<network>",
    operands: Operands::One("network"),
    flags: &[],
    summary: "Remove a network that no job has",
    about: "It never asks. A network that a job has, or waits to have, is not removed.",
    examples: &["rnx network remove lab"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

/// Removes a network; an answer that says it did not is a failure.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let name = invocation.operands.first().cloned().unwrap_or_default();
    if NETWORK_MODES.contains(&name.as_str()) {
        return Err(Error::usage(format!("cannot remove built-in network: {name}")));
    }
    let server = connect(&invocation.values, out)?;
    let request = RemoveNetworkReq { name: name.clone(), ..Default::default() };
    let answer =
        server.ask_networks(CHANGE, |networks, option| networks.remove_network_opt(&request, option))?;
    if !answer.success {
        return Err(Error::Call(grpcio::RpcStatusCode::INTERNAL, answer.message.into()));
    }
    if out.json { out.value(&network::removed_json(&name)) } else { out.text(&network::removed(&name)) }
}
