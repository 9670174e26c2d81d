//! `rnx job resume`

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::clock;
use super::super::server::Server;
use super::{QUERY, job_clock};
use crate::pb::joblet::ThawJobReq;

/// `rnx job resume` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["job", "resume"],
    alias: false,
    usage: "<job-uuid>...",
    operands: Operands::Many("job-uuid"),
    flags: &[],
    summary: "Have paused jobs go on",
    about: "The timeout goes on too, with the time that was left.",
    examples: &["rnx job resume f47ac10b-58cc-4372-a567-0e02b2c3d479", "rnx job resume train evaluate"],
    statuses: &["RUNNING"],
    failure: None,
    run: Run::WithCode(run),
};

/// Has the node do it, job by job.
fn run(invocation: &Invocation, out: Out) -> Result<i32> {
    let resume = |server: &Server, uuid: &str| {
        let request = ThawJobReq { uuid: uuid.into(), ..ThawJobReq::default() };
        server.ask_sessions(QUERY, |sessions, option| sessions.thaw_job_opt(&request, option))
    };
    job_clock::change(invocation, out, resume, clock::resumed)
}
