//! `rnx workflow status`

use super::super::cli::flag::{Group, switch};
use super::super::cli::{Command, Flag, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::full_screen::{self, Signals};
use super::super::interrupt::Interrupt;
use super::super::out::Out;
use super::super::render::{workflow, workflow_json};
use super::super::resolve;
use super::super::workflow_follow::Follow;
use super::{QUERY, connect};
use crate::pb::joblet::GetWorkflowStatusRequest;

/// `rnx workflow status` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["workflow", "status"],
    alias: false,
    usage: "[flags] <workflow>",
    operands: Operands::One("workflow"),
    flags: FLAGS,
    summary: "Show a workflow and its jobs",
    about: "A workflow is named by its id, the beginning of its id, its name, or @last. A job that has not started has\n\
            the id 0. An array is one job; the line below it counts its elements.\n\n\
            With --watch the graph is drawn as a tree until the workflow ends; q leaves, and the workflow goes on. In a\n\
            pipe, or with --json, there is one line for each change of a job.",
    examples: &[
        "rnx workflow status a1b2c3d4-e5f6-7890-1234-567890abcdef",
        "rnx workflow status --watch nightly",
        "rnx workflow status --json @last | jq -r .status",
    ],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

static FLAGS: &[Flag] = &[
    switch("detail", Some('d'), Group::Output, "Also the workflow file; values of secrets are masked"),
    switch("watch", None, Group::Waiting, "Follow it to its end"),
];

/// Prints one workflow, or follows it.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let values = &invocation.values;
    let text = invocation.operands.first().map(String::as_str).unwrap_or_default();
    let detail = values.is("detail");
    if !values.is("watch") {
        let server = connect(values, out)?;
        let uuid = resolve::workflow(server, text)?;
        let request = GetWorkflowStatusRequest { workflowUuid: uuid, ..Default::default() };
        let answer = server.ask(QUERY, |jobs, option| jobs.get_workflow_status_opt(&request, option))?;
        let now = jiff::Timestamp::now().to_string();
        return match out.json {
            true => out.value(&workflow_json::shown(&answer, detail)),
            false => out.text(&workflow::status(&answer, detail, &now, out.colour)),
        };
    }
    if detail {
        return Err(Error::usage("--watch and --detail exclude each other"));
    }
    if !out.json && full_screen::is_possible() {
        // It reads Ctrl-C as a key, and other signals by itself.
        let signals = Signals::block()?;
        let server = connect(values, out)?;
        let uuid = resolve::workflow(server, text)?;
        return Follow::new(server, &uuid).draw(&signals, out).map(|_| ());
    }
    // Before the channel: gRPC's threads must inherit the mask.
    let interrupt = Interrupt::watch();
    let server = connect(values, out)?;
    let uuid = resolve::workflow(server, text)?;
    interrupt.about_workflow(&uuid);
    Follow::new(server, &uuid).print(out).map(|_| ())
}
