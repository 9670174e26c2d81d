//! `rnx job status`

use super::super::cli::Invocation;
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::{json, security, text};
use super::{QUERY, connect, resolve};
use crate::pb::joblet::GetJobStatusReq;

/// Prints everything about one job, or with `--security` what the kernel shows around it; the exit code is 1
/// when a layer is not as promised.
pub(super) fn run(invocation: &Invocation, out: Out) -> Result<i32> {
    let server = connect(&invocation.values, out)?;
    let asked = invocation.values.is("security");
    let uuid = resolve::job(server, invocation)?;
    let request = GetJobStatusReq { uuid, security: asked, ..Default::default() };
    let job = server.ask(QUERY, |jobs, option| jobs.get_job_status_opt(&request, option))?;
    if !asked {
        if out.json {
            out.value(&json::shown(&job))?
        } else {
            out.text(&text::status(&job, out.colour))?
        }
        return Ok(0);
    }
    let layers = &job.security_layers;
    if layers.is_empty() {
        // An older server passes the question over.
        let text = "the server does not tell what stands around a job";
        return Err(
            Error::Follow(text.to_owned().into()).hint("it needs the version of this rnx: rnx version")
        );
    }
    if out.json {
        out.value(&layers.iter().map(security::row).collect::<Vec<_>>())?;
    } else {
        out.text(&security::table(layers, out.colour))?;
    }
    Ok(i32::from(layers.iter().any(security::is_broken)))
}
