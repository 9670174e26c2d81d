//! `rnx job stop`

use std::time::Duration;

use super::super::cli::Invocation;
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::{json, text};
use super::{connect, resolve};
use crate::pb::joblet::StopJobReq;

/// The server answers when the job has ended, which is after its grace period, and that is configured there.
const STOP: Duration = Duration::from_secs(600);

/// Stops a running job; the answer comes when it has ended.
pub(super) fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let server = connect(&invocation.values, out)?;
    let request = StopJobReq { uuid: resolve::job(server, invocation)?, ..Default::default() };
    let job = server.ask(STOP, |jobs, option| jobs.stop_job_opt(&request, option))?;
    if out.json { out.value(&json::stopped(&job)) } else { out.text(&text::stopped(&job, out.colour)) }
}
