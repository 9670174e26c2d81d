//! `rnx job pause`

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::clock;
use super::super::resolve;
use super::{QUERY, connect, several};
use crate::pb::joblet::{FreezeJobReq, JobClockRes};

/// `rnx job pause` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["job", "pause"],
    alias: false,
    usage: "<job-uuid>...",
    operands: Operands::Many("job-uuid"),
    flags: &[],
    summary: "Pause running jobs",
    about: "All processes stand still, and the timeout too; memory, files, ports and output stay. A\n\
            paused job can be stopped. After joblet.maxPause the node stops it itself.",
    examples: &["rnx job pause f47ac10b-58cc-4372-a567-0e02b2c3d479", "rnx job pause train evaluate"],
    statuses: &["RUNNING"],
    failure: None,
    run: Run::WithCode(run),
};

/// Has the node do it, job by job.
fn run(invocation: &Invocation, out: Out) -> Result<i32> {
    let server = connect(&invocation.values, out)?;
    let ask = |uuid: &str| {
        let request = FreezeJobReq { uuid: uuid.into(), ..FreezeJobReq::default() };
        server.ask_sessions(QUERY, |sessions, option| sessions.freeze_job_opt(&request, option))
    };
    let print = |job: &JobClockRes| {
        if out.json { out.value(&clock::json(job)) } else { out.text(&clock::paused(job)) }
    };
    let value = |job: &JobClockRes| serde_json::to_value(clock::json(job));
    several::each(out, &resolve::jobs(server, invocation)?, ask, print, value)
}
