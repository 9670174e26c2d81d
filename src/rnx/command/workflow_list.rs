//! `rnx workflow list`

use std::time::Duration;

use super::super::cli::flag::{Group, switch};
use super::super::cli::{Command, Flag, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::{workflow, workflow_json};
use super::super::server::Server;
use super::{QUERY, connect};
use crate::pb::joblet::{ListWorkflowsRequest, WorkflowInfo};

/// `rnx workflow list` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["workflow", "list"],
    alias: false,
    usage: "[flags]",
    operands: Operands::Nothing,
    flags: FLAGS,
    summary: "List workflows, oldest first",
    about: "Those that have not ended; with --all the others too, as long as the node keeps them. PROGRESS counts the jobs\n\
            that have completed; an array counts as one.",
    examples: &["rnx workflow list", "rnx workflow list --all --json"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

static FLAGS: &[Flag] = &[switch("all", Some('a'), Group::Selection, "Also workflows that have ended")];

/// The workflows of the node, oldest first, page after page: one reply holds as much as a message may.
pub(crate) fn workflows(server: &Server, deadline: Duration, with_ended: bool) -> Result<Vec<WorkflowInfo>> {
    let mut request = ListWorkflowsRequest { includeCompleted: with_ended, ..Default::default() };
    let mut found = Vec::new();
    loop {
        let page = server.ask(deadline, |jobs, option| jobs.list_workflows_opt(&request, option))?;
        found.extend(page.workflows);
        // A server that repeats a token would be asked for ever.
        if page.next_page_token.is_empty() || page.next_page_token == request.page_token {
            return Ok(found);
        }
        request.page_token = page.next_page_token;
    }
}

/// Prints the workflows of the node.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let all = invocation.values.is("all");
    let server = connect(&invocation.values, out)?;
    let found = workflows(server, QUERY, all)?;
    if out.json {
        return out.value(&found.iter().map(workflow_json::listed).collect::<Vec<_>>());
    }
    if found.is_empty() && !all {
        out.note("rnx: none is under way; --all lists those that have ended too");
    }
    out.text(&workflow::list(&found, out.colour))
}
