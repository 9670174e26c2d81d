//! `rnx job status`

use super::super::cli::Invocation;
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::{json, text};
use super::{QUERY, connect, job_id};
use crate::pb::joblet::GetJobStatusReq;

/// Prints everything about one job.
pub(super) fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let server = connect(&invocation.values, out)?;
    let request = GetJobStatusReq { uuid: job_id(invocation)?, ..Default::default() };
    let job = server.ask(QUERY, |jobs, option| jobs.get_job_status_opt(&request, option))?;
    if out.json { out.value(&json::shown(&job)) } else { out.text(&text::status(&job, out.colour)) }
}
