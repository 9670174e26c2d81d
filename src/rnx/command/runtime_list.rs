//! `rnx runtime list`

use super::super::cli::flag::{Group, value};
use super::super::cli::{Command, Flag, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::runtime;
use super::{QUERY, connect};
use crate::pb::joblet::EmptyRequest;
use crate::registry::{Downloads, Index, index_url};

/// `rnx runtime list` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["runtime", "list"],
    alias: false,
    usage: "[--registry PLACE]",
    operands: Operands::Nothing,
    flags: FLAGS,
    summary: "List the runtimes of the node, or of a registry",
    about: "Every version, with its size on disk, the part of it that other runtimes have too, the number of\n\
            jobs that have it, or wait to have it, and the time at which a job last got it.",
    examples: &["rnx runtime list", "rnx --json runtime list"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

static FLAGS: &[Flag] = &[value(
    "registry",
    "PLACE",
    Group::Selection,
    "List those of a registry: OWNER/REPOSITORY of GitHub, or the URL of a directory\n\
     with registry.json",
)];

/// Prints every version of every runtime.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    if let Some(place) = invocation.values.last("registry") {
        let failed = |why: String| Error::Connect(format!("cannot list the registry: {why}").into());
        let url = index_url(&place, "").map_err(failed)?;
        let text = Downloads::new(false).text(&url).map_err(failed)?;
        let index = Index::parse(&text).map_err(failed)?;
        let found = index.releases();
        return if out.json {
            out.value(&runtime::releases_json(&found))
        } else {
            out.text(&runtime::releases(&found))
        };
    }
    let server = connect(&invocation.values, out)?;
    let request = EmptyRequest::default();
    let found =
        server.ask_runtimes(QUERY, |runtimes, option| runtimes.list_runtimes_opt(&request, option))?;
    if out.json { out.value(&runtime::list_json(&found)) } else { out.text(&runtime::list(&found.runtimes)) }
}
