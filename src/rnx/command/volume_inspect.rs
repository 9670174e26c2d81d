//! `rnx volume inspect`

use grpcio::RpcStatusCode;

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::volume;
use super::super::terminal::one_line;
use super::{QUERY, connect};
use crate::pb::joblet::EmptyRequest;

/// `rnx volume inspect` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["volume", "inspect"],
    alias: false,
    usage: "<volume>",
    operands: Operands::One("volume"),
    flags: &[],
    summary: "Show one volume",
    about: "With the path of its image on the host, and the number of jobs that have it, or wait to have it.",
    examples: &["rnx volume inspect data"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

/// Prints one volume.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let server = connect(&invocation.values, out)?;
    let name = invocation.operands.first().cloned().unwrap_or_default();
    let request = EmptyRequest::default();
    let found = server.ask_volumes(QUERY, |volumes, option| volumes.list_volumes_opt(&request, option))?;
    let found = found.volumes.iter().find(|volume| volume.name == name);
    let found = found.ok_or_else(|| {
        let text = format!("volume \"{}\" does not exist; rnx volume list shows all", one_line(&name));
        Error::Call(RpcStatusCode::NOT_FOUND, text.into())
    })?;
    if out.json { out.value(&volume::volume_json(found)) } else { out.text(&volume::shown(found)) }
}
