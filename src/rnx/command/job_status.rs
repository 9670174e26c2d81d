//! `rnx job status`

use serde::Serialize;

use super::super::cli::flag::{Group, switch};
use super::super::cli::{Command, Flag, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::{exec, json, security, text};
use super::super::resolve;
use super::super::server::Server;
use super::{QUERY, connect, several};
use crate::pb::joblet::{ExecInfo, GetJobStatusReq, GetJobStatusRes, ListExecsReq};

/// `rnx job status` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["job", "status"],
    alias: true,
    usage: "[flags] <job-uuid>...",
    operands: Operands::Many("job-uuid"),
    flags: FLAGS,
    summary: "Show everything about a job",
    about: "The first four characters of the id are enough when no other job shares them.\n\
            With --security: each layer around a running job, as promised and as the kernel shows it:\n\
            namespaces, ids, capabilities, seccomp, limits, mounts. Exit code 1: one is not as promised.",
    examples: &[
        "rnx job status f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "rnx --json job status f47ac10b | jq -r .status",
        "rnx job status train evaluate",
        "rnx job status --security f47ac10b",
    ],
    statuses: &[],
    failure: None,
    run: Run::WithCode(run),
};

static FLAGS: &[Flag] = &[
    switch("security", None, Group::Output, "Read back from the kernel what stands around the running job"),
    switch(
        "show-env",
        None,
        Group::Output,
        "Print the values of plain variables whose names sound secret, such as\n\
         API_KEY. JSON always has them; secret variables are never shown",
    ),
];

/// Prints everything about one job, or with `--security` what the kernel shows around it; the exit code is 1
/// when a layer is not as promised.
fn run(invocation: &Invocation, out: Out) -> Result<i32> {
    let asked = invocation.values.is("security");
    if asked && invocation.operands.len() > 1 {
        return Err(Error::usage("--security is about one job, and there are several"));
    }
    let server = connect(&invocation.values, out)?;
    let status = |uuid: &str| {
        let request = GetJobStatusReq { uuid: uuid.into(), security: asked, ..Default::default() };
        server.ask(QUERY, |jobs, option| jobs.get_job_status_opt(&request, option))
    };
    if !asked {
        let show_env = invocation.values.is("show-env");
        let ask = |uuid: &str| status(uuid).map(|job| (commands(server, &job), job));
        let print = |(execs, job): &(Vec<ExecInfo>, GetJobStatusRes)| match out.json {
            true => out.value(&whole(execs, job)),
            false => out.text(&(text::status(job, out.colour, show_env) + &exec::section(execs))),
        };
        let each = |(execs, job): &(Vec<ExecInfo>, GetJobStatusRes)| serde_json::to_value(whole(execs, job));
        return several::each(out, &resolve::jobs(server, invocation)?, ask, print, each);
    }
    let job = status(&resolve::job(server, invocation)?)?;
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

/// The commands that run, or ran, in a job. An older server knows none.
fn commands(server: &Server, job: &GetJobStatusRes) -> Vec<ExecInfo> {
    let request = ListExecsReq { uuid: job.uuid.clone(), ..Default::default() };
    let answer = server.ask_sessions(QUERY, |sessions, option| sessions.list_execs_opt(&request, option));
    answer.map(|answer| answer.execs).unwrap_or_default()
}

/// A job for `--json`; `execs` only where it has some.
#[derive(Debug, Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    job: json::Shown<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    execs: Vec<exec::Shown<'a>>,
}

fn whole<'a>(execs: &'a [ExecInfo], job: &'a GetJobStatusRes) -> Whole<'a> {
    Whole { job: json::shown(job), execs: execs.iter().map(exec::shown).collect() }
}
