//! `rnx gpu reset-state`

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::gpu as render;
use super::{CHANGE, connect};
use crate::pb::joblet::ResetGpuStateReq;

/// `rnx gpu reset-state` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["gpu", "reset-state"],
    alias: false,
    usage: "<gpu>",
    operands: Operands::One("gpu"),
    flags: &[],
    summary: "Give a GPU to jobs again that is lost or held back",
    about: "Its number or its UUID, as rnx gpu list shows them. Nothing is done to the GPU itself: what made\n\
            it useless must be mended before, and a GPU for which the driver does not answer stays lost.",
    examples: &["rnx gpu reset-state 1"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

/// Resets what the node remembers of a GPU.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let gpu = invocation.operands.first().cloned().unwrap_or_default();
    let server = connect(&invocation.values, out)?;
    let request = ResetGpuStateReq { gpu: gpu.clone(), ..Default::default() };
    let done = server.ask_gpus(CHANGE, |gpus, option| gpus.reset_gpu_state_opt(&request, option))?;
    if out.json { out.value(&render::list_json(&done)) } else { out.text(&render::reset(&done, &gpu)) }
}
