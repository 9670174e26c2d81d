//! `rnx job pause`

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::clock;
use super::super::server::Server;
use super::{QUERY, job_clock};
use crate::pb::joblet::FreezeJobReq;

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
    let pause = |server: &Server, uuid: &str| {
        let request = FreezeJobReq { uuid: uuid.into(), ..FreezeJobReq::default() };
        server.ask_sessions(QUERY, |sessions, option| sessions.freeze_job_opt(&request, option))
    };
    job_clock::change(invocation, out, pause, clock::paused)
}
