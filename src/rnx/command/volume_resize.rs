//! `rnx volume resize`

use super::super::cli::flag::{Group, value};
use super::super::cli::{Command, Flag, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::volume;
use super::{CHANGE, connect};
use crate::pb::joblet::ResizeVolumeReq;

/// `rnx volume resize` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["volume", "resize"],
    alias: false,
    usage: "<volume> --size SIZE",
    operands: Operands::One("volume"),
    flags: FLAGS,
    summary: "Give a volume another size, also while jobs have it",
    about: "One of type filesystem only grows. One of type memory also shrinks, but not below what its files\n\
            take. No file is touched, and jobs that have the volume see its new size at once.",
    examples: &["rnx volume resize data --size 2GB"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

static FLAGS: &[Flag] = &[value(
    "size",
    "SIZE",
    Group::Contents,
    "Its new bound, in bytes or with a unit: 512MB, 1.5GB, 1TB (of 1024s)",
)];

/// Gives a volume another size.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let name = invocation.operands.first().cloned().unwrap_or_default();
    let size = invocation.values.last("size").filter(|size| !size.is_empty());
    let size = size.ok_or_else(|| Error::usage("--size is missing: give one such as --size 2GB"))?;
    let server = connect(&invocation.values, out)?;
    let request = ResizeVolumeReq { name, size, ..Default::default() };
    let done = server.ask_volumes(CHANGE, |volumes, option| volumes.resize_volume_opt(&request, option))?;
    if out.json { out.value(&volume::resized_json(&done)) } else { out.text(&volume::resized(&done)) }
}
