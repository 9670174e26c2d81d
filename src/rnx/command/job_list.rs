//! `rnx job list`

use std::io::{self, IsTerminal};

use super::super::cli::flag::{Group, switch, value};
use super::super::cli::{Command, Flag, Invocation, Operands, Run, value};
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::overview::overview;
use super::super::render::table::{Style, table};
use super::super::render::{json, text};
use super::super::resolve;
use super::super::screen;
use super::super::wanted::Wanted;
use super::{QUERY, connect};

/// `rnx job list` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["job", "list"],
    alias: true,
    usage: "[flags]",
    operands: Operands::Nothing,
    flags: FLAGS,
    summary: "List all jobs, oldest first",
    about: "On a terminal a table as wide as the terminal, with eight letters of each id.\n\
            Elsewhere one line for each job: id, status, start time, command.",
    examples: &[
        "rnx job list",
        "rnx job list --last 10 --reverse",
        "rnx job list --status running --name train-*",
        "rnx job list --workflow nightly",
        "rnx job list -o wide",
    ],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

static FLAGS: &[Flag] = &[
    Flag {
        multi: true,
        ..value(
            "status",
            "STATUS",
            Group::Selection,
            "Only jobs in one of these: RUNNING,FAILED or one a flag",
        )
    },
    value("name", "NAME", Group::Selection, "Only jobs of this name; * ? and [a-z] are patterns"),
    value("workflow", "WORKFLOW", Group::Selection, "Only jobs of this workflow: its id, its name, @last"),
    value("limit", "N", Group::Selection, "At most N jobs, the oldest that fit"),
    value("last", "N", Group::Selection, "At most N jobs, the newest that fit"),
    switch("reverse", Some('r'), Group::Output, "The newest first"),
    Flag {
        short: Some('o'),
        ..value("output", "table|wide|json", Group::Output, "As a table, one with every column, or JSON")
    },
];

enum Form {
    Lines,
    Overview,
    Table { wide: bool },
    Json,
}

/// Prints every job.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let form = match invocation.values.last("output").as_deref() {
        _ if out.json => Form::Json,
        None if io::stdout().is_terminal() => Form::Overview,
        None => Form::Lines,
        Some("json") => Form::Json,
        Some("table") => Form::Table { wide: false },
        Some("wide") => Form::Table { wide: true },
        Some(other) => return Err(value::invalid("output", other, "it is table, wide or json")),
    };
    let mut wanted = Wanted::of(&invocation.values)?;
    let server = connect(&invocation.values, out)?;
    if let Some(text) = invocation.values.last("workflow") {
        wanted.workflow = Some(resolve::workflow(server, &text)?);
    }
    let jobs =
        wanted.jobs(|request| server.ask(QUERY, |jobs, option| jobs.list_jobs_opt(request, option)))?;
    match form {
        Form::Lines => out.text(&text::list(&jobs, out.colour)),
        Form::Overview => {
            let now = jiff::Timestamp::now().to_string();
            out.text(&overview(&jobs, screen::columns(&io::stdout()), &now, out.colour))
        }
        Form::Json => out.value(&jobs.iter().map(json::listed).collect::<Vec<_>>()),
        Form::Table { wide } => {
            let cut = io::stdout().is_terminal();
            out.text(&table(&jobs, Style { wide, colour: out.colour, cut }))
        }
    }
}
