//! `rnx volume create`

use super::super::cli::flag::{Group, value};
use super::super::cli::{Command, Flag, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::volume;
use super::{CHANGE, connect};
use crate::pb::joblet::CreateVolumeReq;

/// `rnx volume create` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["volume", "create"],
    alias: false,
    usage: "<name> --size SIZE [--type filesystem|memory]",
    operands: Operands::One("name"),
    flags: FLAGS,
    summary: "Make a volume, whose files outlive jobs",
    about: "Its files are in a file system of their own, which cannot grow beyond its size. A job finds\n\
            them at /volumes/NAME with rnx job run --volume. The node keeps the volume until it is\n\
            removed. Nothing is changed of one that exists.",
    examples: &["rnx volume create data --size 1GB", "rnx volume create scratch --size 256MB --type memory"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

static FLAGS: &[Flag] = &[
    value(
        "size",
        "SIZE",
        Group::Contents,
        "Its bound, in bytes or with a unit: 512MB, 1.5GB, 1TB (of 1024s)",
    ),
    value(
        "type",
        "filesystem|memory",
        Group::Contents,
        "filesystem: on the host's disk (the default). memory: in its memory, lost\n\
         when the daemon ends",
    ),
];

/// Makes a volume.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let name = invocation.operands.first().cloned().unwrap_or_default();
    let size = invocation.values.last("size").filter(|size| !size.is_empty());
    let size = size.ok_or_else(|| Error::usage("--size is missing: give one such as --size 1GB"))?;
    let kind = invocation.values.last("type").unwrap_or_default();
    if !["", "filesystem", "memory"].contains(&kind.as_str()) {
        return Err(Error::usage(format!("invalid volume type: {kind} (must be 'filesystem' or 'memory')")));
    }
    let server = connect(&invocation.values, out)?;
    let request = CreateVolumeReq { name, size, type_: kind, ..Default::default() };
    let made = server.ask_volumes(CHANGE, |volumes, option| volumes.create_volume_opt(&request, option))?;
    if out.json { out.value(&volume::created_json(&made)) } else { out.text(&volume::created(&made)) }
}
