//! `rnx audit`

use jiff::Zoned;

use super::super::cli::flag::{Group, switch, value};
use super::super::cli::{Command, Flag, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::audit::Trail;
use super::super::terminal::escaped_json;
use super::{connect, range};
use crate::pb::joblet::AuditQuery;

/// `rnx audit` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["audit"],
    alias: false,
    usage: "[flags]",
    operands: Operands::Nothing,
    flags: FLAGS,
    summary: "Show who changed what on the node",
    about: "One line a call, oldest first: time, outcome, role and subject of the client, method, and what the\n\
            call was about. Calls that only read have a line where they were refused. For admins only.\n\
            --json prints the lines of the trail as they are, two a call (docs/audit.md).",
    examples: &[
        "rnx audit --since 1h",
        "rnx audit --job f47ac10b",
        "rnx audit --method StopJob --since 2025-08-03",
        "rnx --json audit --follow",
    ],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

static FLAGS: &[Flag] = &[
    value("since", "TIME", Group::Selection, "Only from this time on: 1h (ago), 2025-08-03T15:00 (here)"),
    value("until", "TIME", Group::Selection, "Only up to this time"),
    value("job", "ID", Group::Selection, "Only calls about this job or workflow: its id, or its beginning"),
    value("method", "METHOD", Group::Selection, "Only calls of this method: RunJob, JobService/StopJob"),
    switch("follow", Some('f'), Group::Output, "Go on with what comes, until Ctrl-C"),
];

/// Prints the wanted lines.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let values = &invocation.values;
    let (since_ns, until_ns) = range(values, &Zoned::now(), out)?;
    let query = AuditQuery {
        since_ns,
        until_ns,
        job: values.last("job").unwrap_or_default(),
        method: values.last("method").unwrap_or_default(),
        follow: values.is("follow"),
        ..AuditQuery::default()
    };
    let server = connect(values, out)?;
    let mut trail = Trail::default();
    server.audit(&query, |lines| {
        for line in &lines.lines {
            if out.json {
                out.text(&format!("{}\n", escaped_json(line)))?;
            } else {
                out.text(&trail.line(line))?;
            }
        }
        Ok(())
    })?;
    if out.json { Ok(()) } else { out.text(&trail.unanswered()) }
}
