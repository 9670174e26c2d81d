//! `rnx job timeout`

use super::super::cli::{Command, Invocation, Operands, Run, time};
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::clock;
use super::super::resolve;
use super::{QUERY, connect};
use crate::job::units;
use crate::pb::joblet::SetJobTimeoutReq;

/// `rnx job timeout` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["job", "timeout"],
    alias: false,
    usage: "<job-uuid> <time>",
    operands: Operands::Two("job-uuid", "time"),
    flags: &[],
    summary: "Give a running job another timeout",
    about: "The time counts from now, and replaces the one that the job had. From its start the job may\n\
            run for joblet.jobTimeout of the node, pauses not counted.",
    examples: &["rnx job timeout f47ac10b-58cc-4372-a567-0e02b2c3d479 30m", "rnx job timeout train 2h"],
    statuses: &["RUNNING"],
    failure: None,
    run: Run::Plain(run),
};

/// Changes the timeout of one job.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let server = connect(&invocation.values, out)?;
    let given = invocation.operands.get(1).map(String::as_str).unwrap_or_default();
    let timeout = units::format_duration(time::span("time", given)?);
    let uuid = resolve::job(server, invocation)?;
    let request = SetJobTimeoutReq { uuid, timeout, ..SetJobTimeoutReq::default() };
    let job =
        server.ask_sessions(QUERY, |sessions, option| sessions.set_job_timeout_opt(&request, option))?;
    if out.json { out.value(&clock::json(&job)) } else { out.text(&clock::timed(&job)) }
}
