//! `rnx job cancel`

use grpcio::RpcStatusCode;

use super::super::cli::Invocation;
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::{json, short, text};
use super::super::terminal::one_line;
use super::{QUERY, connect, resolve};
use crate::pb::joblet::{CancelJobReq, GetJobStatusReq};

/// Cancels a job that waits for its time.
pub(super) fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let server = connect(&invocation.values, out)?;
    let uuid = resolve::job(server, invocation)?;
    let request = CancelJobReq { uuid: uuid.clone(), ..Default::default() };
    let job =
        server.ask(QUERY, |jobs, option| jobs.cancel_job_opt(&request, option)).map_err(|e| match e {
            Error::Call(RpcStatusCode::FAILED_PRECONDITION, _) => {
                let hint = format!("rnx job stop {} ends a job that has started", one_line(short(&uuid)));
                e.hint(hint)
            }
            e => e,
        })?;
    // The answer does not tell when; the job's status does. It is canceled either way.
    let request = GetJobStatusReq { uuid: job.uuid.clone(), ..Default::default() };
    let when = match server.ask(QUERY, |jobs, option| jobs.get_job_status_opt(&request, option)) {
        Ok(status) => status.endTime,
        Err(e) => {
            out.note(&format!("warning: the time is not known: {}", one_line(&e.to_string())));
            String::new()
        }
    };
    if out.json {
        out.value(&json::canceled(&job, &when))
    } else {
        out.text(&text::canceled(&job, &when, out.colour))
    }
}
