//! `rnx gpu list`

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::gpu;
use super::{QUERY, connect};
use crate::pb::joblet::EmptyRequest;

/// `rnx gpu list` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["gpu", "list"],
    alias: false,
    usage: "",
    operands: Operands::Nothing,
    flags: &[],
    summary: "List the GPUs of the node",
    about: "With the job that has each. A job asks for GPUs with rnx job run --gpu, and has them alone\n\
            until it ends.",
    examples: &["rnx gpu list", "rnx --json gpu list"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

/// Prints every GPU.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let server = connect(&invocation.values, out)?;
    let request = EmptyRequest::default();
    let found = server.ask_gpus(QUERY, |gpus, option| gpus.list_gpus_opt(&request, option))?;
    if out.json { out.value(&gpu::list_json(&found)) } else { out.text(&gpu::list(&found)) }
}
