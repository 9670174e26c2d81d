//! `rnx job delete-all`

use std::io::{self, BufRead, IsTerminal, Read, Write};

use super::super::cli::flag::{Group, switch};
use super::super::cli::{Command, Flag, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::{json, text};
use super::{CHANGE, connect};
use crate::pb::joblet::DeleteAllJobsReq;

/// `rnx job delete-all` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["job", "delete-all"],
    alias: false,
    usage: "[flags]",
    operands: Operands::Nothing,
    flags: FLAGS,
    summary: "Delete all finished jobs",
    about: "Asks only when stdin and stderr are a terminal.",
    examples: &["rnx job delete-all --yes"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

static FLAGS: &[Flag] = &[switch("yes", Some('y'), Group::Output, "Do not ask, also not on a terminal")];

/// The longest answer that is read.
const MAX_ANSWER: u64 = 64;

/// Deletes every finished job.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let server = connect(&invocation.values, out)?;
    if !invocation.values.is("yes")
        && !confirmed(&format!("Delete all finished jobs of {}?", server.address()))?
    {
        out.note("nothing was deleted");
        return Ok(());
    }
    let request = DeleteAllJobsReq::default();
    let answer = server.ask(CHANGE, |jobs, option| jobs.delete_all_jobs_opt(&request, option))?;
    if !answer.success {
        return Err(Error::Call(grpcio::RpcStatusCode::INTERNAL, answer.message.into()));
    }
    if out.json { out.value(&json::deleted_all(&answer)) } else { out.text(&text::deleted_all(&answer)) }
}

/// Asks the user for confirmation; without a terminal the command line counts as one.
fn confirmed(question: &str) -> Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(true);
    }
    write!(io::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    io::stdin().lock().take(MAX_ANSWER).read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
