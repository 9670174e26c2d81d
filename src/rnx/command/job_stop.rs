//! `rnx job stop`

use std::time::Duration;

use super::super::cli::flag::{Group, value};
use super::super::cli::{Command, Flag, Invocation, Operands, Run, time};
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::{json, text};
use super::super::resolve;
use super::{connect, several};
use crate::job::units;
use crate::pb::joblet::{StopJobReq, StopJobRes};

/// `rnx job stop` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["job", "stop"],
    alias: true,
    usage: "[flags] <job-uuid>...",
    operands: Operands::Many("job-uuid"),
    flags: FLAGS,
    summary: "Stop running jobs: SIGTERM, then SIGKILL",
    about: "",
    examples: &[
        "rnx job stop f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "rnx job stop train evaluate",
        "rnx job stop --stop-grace=30s f47ac10b",
    ],
    statuses: &["RUNNING", "INITIALIZING"],
    failure: None,
    run: Run::WithCode(run),
};

static FLAGS: &[Flag] = &[value(
    "stop-grace",
    "TIME",
    Group::Waiting,
    "Time between SIGTERM and SIGKILL: 30s, 2m; 0s kills at once, also a job\n\
     whose longer time is running (default: the job's own, else server)",
)];

/// The server answers when the job has ended, which is after its grace period. The node's own period, or the job's, may
/// be so long.
const STOP: Duration = Duration::from_secs(600);

/// Stops running jobs; the answer to each comes when it has ended.
fn run(invocation: &Invocation, out: Out) -> Result<i32> {
    let server = connect(&invocation.values, out)?;
    let given = invocation.values.last("stop-grace");
    let grace = given.map(|text| time::span("stop-grace", &text)).transpose()?;
    let deadline = STOP.saturating_add(grace.unwrap_or_default());
    // In the units of the contract, which has no long names.
    let grace = grace.map(units::format_duration).unwrap_or_default();
    let stop = |uuid: &str| {
        let request = StopJobReq { uuid: uuid.into(), grace: grace.clone(), ..Default::default() };
        server.ask(deadline, |jobs, option| jobs.stop_job_opt(&request, option))
    };
    let print = |job: &StopJobRes| {
        if out.json { out.value(&json::stopped(job)) } else { out.text(&text::stopped(job, out.colour)) }
    };
    let value = |job: &StopJobRes| serde_json::to_value(json::stopped(job));
    several::each(out, &resolve::jobs(server, invocation)?, stop, print, value)
}
