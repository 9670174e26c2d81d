//! `rnx job denials`

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::denials;
use super::super::resolve;
use super::{QUERY, connect};
use crate::pb::joblet::GetDenialsReq;

/// `rnx job denials` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["job", "denials"],
    alias: false,
    usage: "[flags] <job-uuid>",
    operands: Operands::One("job-uuid"),
    flags: &[],
    summary: "Show what a job tried to reach and was refused",
    about: "A line for each destination: how often, since when, the rule that refused it, and the flag or\n\
            setting that would allow it. Of a job that is over, its record has the 100 most frequent. In the\n\
            job, /run/joblet/denials has the same as lines of JSON.",
    examples: &["rnx job denials f47ac10b", "rnx --json job denials f47ac10b | jq -r '.denials[].allow'"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let server = connect(&invocation.values, out)?;
    let uuid = resolve::job(server, invocation)?;
    let request = GetDenialsReq { uuid, ..Default::default() };
    let answer = server.ask_networks(QUERY, |networks, option| networks.get_denials_opt(&request, option))?;
    if out.json { out.value(&denials::shown(&answer)) } else { out.text(&denials::table(&answer)) }
}
