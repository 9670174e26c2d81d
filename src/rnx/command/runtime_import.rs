//! `rnx runtime import`

use std::path::Path;

use super::super::archive::{self, Archive};
use super::super::cli::flag::{Group, switch, value};
use super::super::cli::{Command, Flag, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::import;
use super::connect;
use crate::pb::joblet::ImportRuntimeRequest;

/// `rnx runtime import` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["runtime", "import"],
    alias: false,
    usage: "<name>[@<version>] <image> [--replace]",
    operands: Operands::Two("name", "image"),
    flags: FLAGS,
    summary: "Make a runtime of a container image",
    about: "The image is an archive of docker save or podman save, or an OCI layout, as a directory or as\n\
            a tar archive, compressed or not; - reads it from standard input. The node checks every\n\
            digest and stores each layer once. Without a version the runtime has that of the image's\n\
            label org.opencontainers.image.version, where it is one such as 1.2.3, else 1.0.0.",
    examples: &[
        "rnx runtime import app app.tar",
        "rnx runtime import app@2.1.0 ./layout --replace",
        "rnx runtime import app -",
    ],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

static FLAGS: &[Flag] = &[
    value(
        "platform",
        "PLATFORM",
        Group::Selection,
        "The platform of an image with several, such as linux/arm64/v8; the node's\n\
         own without it",
    ),
    value(
        "image",
        "NAME",
        Group::Selection,
        "The image of an archive with several: its name, or the end of it",
    ),
    switch(
        "replace",
        None,
        Group::Start,
        "Replace the runtime of this name and version, unless jobs have it",
    ),
];

/// Sends an image.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let [runtime, image] = invocation.operands.as_slice() else {
        return Err(Error::usage("give the name of the runtime and the image"));
    };
    let (name, version) = runtime.split_once('@').unwrap_or((runtime, ""));
    if name.is_empty() || (runtime.contains('@') && version.is_empty()) {
        return Err(Error::usage(format!("invalid runtime: {runtime} (must be NAME or NAME@VERSION)")));
    }
    let text = |flag| invocation.values.last(flag).unwrap_or_default();
    let first = ImportRuntimeRequest {
        name: name.to_owned(),
        version: version.to_owned(),
        platform: text("platform"),
        image: text("image"),
        replace: invocation.values.is("replace"),
        ..Default::default()
    };
    let archive = if image == "-" { Archive::standard_input() } else { archive::open(Path::new(image))? };
    let server = connect(&invocation.values, out)?;
    let made = archive::send(server, first, archive, out)?;
    if out.json { out.value(&import::imported_json(&made)) } else { out.text(&import::imported(&made)) }
}
