//! `rnx volume inspect`

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::volume;
use super::{QUERY, connect};
use crate::pb::joblet::GetVolumeReq;

/// `rnx volume inspect` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["volume", "inspect"],
    alias: false,
    usage: "<volume>",
    operands: Operands::One("volume"),
    flags: &[],
    summary: "Show one volume and the jobs that have it",
    about: "With what bounds it, what its files take, the path of its image or directory on the host, and the jobs\n\
            that have it, or wait to have it. Those that a workflow has not submitted yet are counted only.",
    examples: &["rnx volume inspect data"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

/// Prints one volume.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let server = connect(&invocation.values, out)?;
    let name = invocation.operands.first().cloned().unwrap_or_default();
    let request = GetVolumeReq { name, ..Default::default() };
    let found = server.ask_volumes(QUERY, |volumes, option| volumes.get_volume_opt(&request, option))?;
    if out.json { out.value(&volume::shown_json(&found)) } else { out.text(&volume::shown(&found)) }
}
