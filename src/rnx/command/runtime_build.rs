//! `rnx runtime build`

use std::io::Read;

use super::super::cli::flag::{Group, switch};
use super::super::cli::{Command, Flag, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::build;
use super::super::terminal::lines;
use super::connect;
use crate::pb::joblet::{BuildRuntimeProgress, BuildRuntimeRequest};

/// Bytes of the longest recipe.
const LONGEST: u64 = 256 << 10;

/// `rnx runtime build` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["runtime", "build"],
    alias: false,
    usage: "<file> [--dry-run] [--force] [--verbose]",
    operands: Operands::One("file"),
    flags: FLAGS,
    summary: "Build a runtime from a recipe",
    about: "The recipe is a YAML file with a name, a version, a base language, packages of pip or npm,\n\
            variables and hooks; the file - is stdin. A job of the node builds it: rnx shows its phases,\n\
            and rnx job log everything that it wrote. Interrupting rnx ends the build. A build that\n\
            fails leaves nothing.",
    examples: &["rnx runtime build python-ml.yml", "rnx runtime build python-ml.yml --dry-run"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

static FLAGS: &[Flag] = &[
    switch("dry-run", None, Group::Start, "Check the recipe and the node, and build nothing"),
    switch(
        "force",
        Some('f'),
        Group::Start,
        "Replace the runtime of this name and version, unless jobs have it",
    ),
    switch("verbose", None, Group::Output, "Show everything that the build writes, not its errors alone"),
];

/// Builds a runtime, and prints on stderr what is done.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let file = invocation.operands.first().map(String::as_str).unwrap_or_default();
    let request = BuildRuntimeRequest {
        yaml_content: read(file)?,
        dry_run: invocation.values.is("dry-run"),
        verbose: invocation.values.is("verbose"),
        force_rebuild: invocation.values.is("force"),
        ..Default::default()
    };
    let mut result = None;
    let each = |progress: &BuildRuntimeProgress| {
        if progress.has_phase() {
            let at = progress.phase();
            let (number, of, name) = (at.phase_number, at.total_phases, lines(&at.phase_name));
            out.note(&format!("[{number}/{of}] {name}: {}", lines(&at.message)));
        }
        if progress.has_log() {
            out.note(lines(&progress.log().message).trim_end());
        }
        if progress.has_result() {
            result = Some(progress.result().clone());
        }
        Ok(())
    };
    connect(&invocation.values, out)?.build_runtime(&request, each)?;
    let made = result
        .ok_or_else(|| Error::Follow("the server did not say how the build ended".to_owned().into()))?;
    if out.json { out.value(&build::built_json(&made)) } else { out.text(&build::built(&made)) }
}

/// The text of a recipe.
pub(super) fn read(file: &str) -> Result<String> {
    let cannot = |why: String| Error::Upload(format!("cannot read the recipe {file}: {why}").into());
    let mut text = String::new();
    let read = match file {
        "-" => std::io::stdin().lock().take(LONGEST + 1).read_to_string(&mut text),
        path => std::fs::File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text)),
    };
    read.map_err(|why| cannot(why.to_string()))?;
    if text.len() as u64 > LONGEST {
        return Err(cannot(format!("it has more than {} KiB", LONGEST >> 10)));
    }
    Ok(text)
}
