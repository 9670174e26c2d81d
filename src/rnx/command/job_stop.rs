//! `rnx job stop`

use std::time::Duration;

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::{json, text};
use super::super::resolve;
use super::{connect, several};
use crate::pb::joblet::{StopJobReq, StopJobRes};

/// `rnx job stop` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["job", "stop"],
    alias: true,
    usage: "<job-uuid>...",
    operands: Operands::Many("job-uuid"),
    flags: &[],
    summary: "Stop running jobs: SIGTERM, then SIGKILL",
    about: "",
    examples: &["rnx job stop f47ac10b-58cc-4372-a567-0e02b2c3d479", "rnx job stop train evaluate"],
    statuses: &["RUNNING", "INITIALIZING"],
    failure: None,
    run: Run::WithCode(run),
};

/// The server answers when the job has ended, which is after its grace period, and that is configured there.
const STOP: Duration = Duration::from_secs(600);

/// Stops running jobs; the answer to each comes when it has ended.
fn run(invocation: &Invocation, out: Out) -> Result<i32> {
    let server = connect(&invocation.values, out)?;
    let stop = |uuid: &str| {
        let request = StopJobReq { uuid: uuid.into(), ..Default::default() };
        server.ask(STOP, |jobs, option| jobs.stop_job_opt(&request, option))
    };
    let print = |job: &StopJobRes| {
        if out.json { out.value(&json::stopped(job)) } else { out.text(&text::stopped(job, out.colour)) }
    };
    let value = |job: &StopJobRes| serde_json::to_value(json::stopped(job));
    several::each(out, &resolve::jobs(server, invocation)?, stop, print, value)
}
