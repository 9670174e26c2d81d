//! `rnx job stop`

use std::time::Duration;

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::{json, text};
use super::super::resolve;
use super::connect;
use crate::pb::joblet::StopJobReq;

/// `rnx job stop` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["job", "stop"],
    alias: true,
    usage: "<job-uuid>",
    operands: Operands::One("job-uuid"),
    flags: &[],
    summary: "Stop a running job: SIGTERM, then SIGKILL",
    about: "",
    examples: &["rnx job stop f47ac10b-58cc-4372-a567-0e02b2c3d479"],
    statuses: &["RUNNING", "INITIALIZING"],
    failure: None,
    run: Run::Plain(run),
};

/// The server answers when the job has ended, which is after its grace period, and that is configured there.
const STOP: Duration = Duration::from_secs(600);

/// Stops a running job; the answer comes when it has ended.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let server = connect(&invocation.values, out)?;
    let request = StopJobReq { uuid: resolve::job(server, invocation)?, ..Default::default() };
    let job = server.ask(STOP, |jobs, option| jobs.stop_job_opt(&request, option))?;
    if out.json { out.value(&json::stopped(&job)) } else { out.text(&text::stopped(&job, out.colour)) }
}
