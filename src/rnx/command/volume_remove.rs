//! `rnx volume remove`

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::volume;
use super::{CHANGE, connect};
use crate::pb::joblet::RemoveVolumeReq;

/// `rnx volume remove` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["volume", "remove"],
    alias: false,
    usage: "<volume>",
    operands: Operands::One("volume"),
    flags: &[],
    summary: "Remove a volume that no job has, with its files",
    about: "It never asks. A volume that a job has, or waits to have, is not removed.",
    examples: &["rnx volume remove data"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

/// Removes a volume; an answer that says it did not is a failure.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let name = invocation.operands.first().cloned().unwrap_or_default();
    let server = connect(&invocation.values, out)?;
    let request = RemoveVolumeReq { name: name.clone(), ..Default::default() };
    let answer = server.ask_volumes(CHANGE, |volumes, option| volumes.remove_volume_opt(&request, option))?;
    if !answer.success {
        return Err(Error::Call(grpcio::RpcStatusCode::INTERNAL, answer.message.into()));
    }
    if out.json { out.value(&volume::removed_json(&name)) } else { out.text(&volume::removed(&name)) }
}
