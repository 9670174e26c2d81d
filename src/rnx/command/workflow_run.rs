//! `rnx workflow run`

use protobuf::Message;

use super::super::cli::flag::{Group, switch, value};
use super::super::cli::{Command, Flag, Invocation, Operands, Run, Values, value};
use super::super::error::{Error, Result};
use super::super::exit;
use super::super::full_screen::{self, Ending, Signals};
use super::super::interrupt::{INTERRUPTED, Interrupt, leave_workflow};
use super::super::out::Out;
use super::super::progress::Progress;
use super::super::render::{workflow, workflow_json};
use super::super::send::{self, Upload};
use super::super::server::Server;
use super::super::terminal::one_line;
use super::super::upload;
use super::super::workflow_follow::{Event, Follow};
use super::connect;
use super::workflow_file::{self, WorkflowFile};
use crate::pb::joblet::{RunWorkflowRequest, RunWorkflowResponse};

/// `rnx workflow run` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["workflow", "run"],
    alias: false,
    usage: "[flags] <file>",
    operands: Operands::One("file"),
    flags: FLAGS,
    summary: "Run the jobs of a workflow file",
    about: ABOUT,
    examples: &[
        "rnx workflow run pipeline.yaml",
        "rnx workflow run --watch pipeline.yaml",
        "rnx workflow run --wait --quiet pipeline.yaml",
    ],
    statuses: &[],
    failure: Some(125),
    run: Run::WithCode(run),
};

static FLAGS: &[Flag] = &[
    value(
        "request-id",
        "ID",
        Group::Start,
        "Name this request: sent again, it gives the workflow that it has already\n\
         started instead of a second one",
    ),
    switch("wait", Some('w'), Group::Waiting, "Wait silently for the end and exit with the workflow's code"),
    switch(
        "watch",
        None,
        Group::Waiting,
        "The same, and draw the graph as a tree; in a pipe a line for each change",
    ),
    switch("detach", Some('d'), Group::Waiting, "Return when the workflow was accepted (the default)"),
    switch("quiet", Some('q'), Group::Output, "Print only the id (with --watch in a pipe: only the changes)"),
];

const ABOUT: &str = "\
Checks the file as rnx workflow validate does, sends it with the files that its jobs upload, and returns. Files are
found beside the workflow file, else as they are written. The file - is stdin.

Exit codes: 0 when the workflow was accepted; with --wait or --watch 0 when it completed, else the code of the job
that failed first, as job run --wait has it, or
  1      a job failed without a code of its own, as an array does
  143    it was canceled
  125    rnx or the daemon failed, or the file is wrong
  130    Ctrl-C or q while waiting; the workflow goes on";

/// The behaviour of rnx once the workflow was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Return,
    Wait,
    Print,
    Draw,
}

/// The signals that are blocked before gRPC's threads exist.
enum Guard {
    Nothing,
    Interrupt(Interrupt),
    Signals(Signals),
}

/// Runs a workflow and, with `--wait` or `--watch`, waits for its end; the exit code is then the workflow's.
fn run(invocation: &Invocation, out: Out) -> Result<i32> {
    let values = &invocation.values;
    let after = after(values, !out.json && full_screen::is_possible())?;
    let path = invocation.operands.first().map(String::as_str).unwrap_or_default();
    let file = workflow_file::read(path)?;
    let mut uploads = file.uploads()?;
    let files = uploads.files();
    let mut progress = Progress::of(&uploads, out, values.is("quiet"));
    // More than a request holds is read while it is sent.
    let ahead = (!uploads.fit()).then(|| Upload::of(&mut uploads));
    let read = uploads.read(|done, all| progress.reading(done, all));
    progress.read();
    read?;
    let mut request = request(values, path, &file)?;
    request.workflowFiles = uploads.entries;
    request.upload_handles = ahead.iter().map(Upload::handle).collect();
    let size = request.compute_size();
    upload::check_size(size)?;

    // Before the channel: gRPC's threads must inherit the mask.
    let guard = match after {
        After::Return => Guard::Nothing,
        After::Wait | After::Print => Guard::Interrupt(Interrupt::watch()),
        After::Draw => Guard::Signals(Signals::block()?),
    };
    let server = connect(values, out)?;
    let started = send::start(server, size, ahead.as_ref(), &mut progress, |deadline| {
        server.ask(deadline, |jobs, option| jobs.run_workflow_opt(&request, option))
    })?;
    if let Guard::Interrupt(interrupt) = &guard {
        interrupt.about_workflow(&started.workflowUuid);
    }
    announce(out, after, values.is("quiet"), path, &file, files, &started)?;
    finish(server, out, after, values.is("quiet"), &started.workflowUuid, &guard)
}

fn after(values: &Values, can_draw: bool) -> Result<After> {
    let after = match (values.is("wait"), values.is("watch")) {
        (_, true) if can_draw => After::Draw,
        (_, true) => After::Print,
        (true, false) => After::Wait,
        (false, false) => After::Return,
    };
    if values.is("detach") && after != After::Return {
        return Err(Error::usage("--detach and --wait or --watch exclude each other"));
    }
    Ok(after)
}

fn request(values: &Values, path: &str, file: &WorkflowFile) -> Result<RunWorkflowRequest> {
    let request_id = match values.last("request-id") {
        // A variable that is not set must not make a start that can happen twice.
        Some(id) if id.is_empty() => return Err(value::invalid("request-id", "", "it is empty")),
        id => id.unwrap_or_default(),
    };
    Ok(RunWorkflowRequest {
        workflow: path.to_owned(),
        totalJobs: i32::try_from(file.workflow.jobs.len()).unwrap_or(i32::MAX),
        yamlContent: file.text.clone(),
        request_id,
        ..Default::default()
    })
}

/// Says that the workflow was accepted.
fn announce(
    out: Out,
    after: After,
    quiet: bool,
    path: &str,
    file: &WorkflowFile,
    files: usize,
    started: &RunWorkflowResponse,
) -> Result<()> {
    let uuid = started.workflowUuid.as_str();
    let json = workflow_json::Created {
        uuid,
        workflow_uuid: uuid,
        status: &started.status,
        name: &file.workflow.name,
        total_jobs: file.workflow.jobs.len(),
        files_uploaded: files,
    };
    match (out.json, after) {
        (true, After::Return) => out.value(&json),
        (true, After::Print) => out.value_line(&Event { event: "started", body: json }),
        // One object, when it has ended; or the picture.
        (true, _) | (false, After::Draw) => Ok(()),
        (false, After::Print) if quiet => Ok(()),
        (false, _) if quiet => out.text(&format!("{}\n", one_line(uuid))),
        (false, After::Return) => {
            out.text(&(workflow::created(path, files, uuid) + &workflow::next_step(uuid)))
        }
        (false, _) => out.text(&workflow::created(path, files, uuid)),
    }
}

/// Waits as the flags say; returns the exit code.
fn finish(
    server: &'static Server,
    out: Out,
    after: After,
    quiet: bool,
    uuid: &str,
    guard: &Guard,
) -> Result<i32> {
    let lost = |e: Error| match e {
        Error::Print(e) => Error::Print(e),
        e => Error::Follow(format!("lost sight of workflow {uuid}: {e}").into())
            .hint(format!("it may go on: rnx workflow status {}", one_line(uuid))),
    };
    let follow = Follow::new(server, uuid);
    let ended = match (after, guard) {
        (After::Return, _) => return Ok(0),
        (After::Draw, Guard::Signals(signals)) => match follow.draw(signals, out).map_err(lost)? {
            (_, Ending::UserLeft) => {
                out.note(&leave_workflow(uuid));
                return Ok(INTERRUPTED);
            }
            (ended, Ending::UpdatesEnded) => ended,
        },
        (After::Wait, _) => follow.end().map_err(lost)?,
        (After::Print | After::Draw, _) => follow.print(out).map_err(lost)?,
    };
    let code = exit::of_workflow(&ended);
    match after {
        After::Wait if out.json => out.value(&workflow_json::shown(&ended, false))?,
        After::Wait if code != 0 => out.note(&format!("rnx: {}", workflow::summary(&ended))),
        After::Draw if !quiet => out.text(&format!("{}\n", workflow::summary(&ended)))?,
        _ => {}
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::super::super::cli::{Parsed, parse};
    use super::*;

    fn values(line: &str) -> Values {
        match parse(format!("workflow run {line} flow.yaml").split_whitespace().map(Into::into).collect()) {
            Ok(Parsed::Invoke(invocation)) => invocation.values,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn flags_decide_what_follows_the_start() {
        for (flags, can_draw, expected) in [
            ("", true, After::Return),
            ("-d", true, After::Return),
            ("--wait", true, After::Wait),
            ("--watch", true, After::Draw),
            ("--wait --watch", false, After::Print),
        ] {
            assert_eq!(after(&values(flags), can_draw).unwrap(), expected, "{flags}");
        }
        for flags in ["-d -w", "--detach --watch"] {
            assert_eq!(after(&values(flags), true).unwrap_err().exit_code(None), 2, "{flags}");
        }
    }

    #[test]
    fn request_has_the_file_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flow.yaml");
        let text = "jobs: {a: {command: x}, b: {command: x, requires: [a]}} # as it is\n";
        std::fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        let file = workflow_file::read(&path).unwrap();
        let sent = request(&values("--request-id r1"), &path, &file).unwrap();
        assert_eq!((sent.totalJobs, sent.yamlContent.as_str(), sent.request_id.as_str()), (2, text, "r1"));
        assert!(request(&values("--request-id="), &path, &file).is_err());
    }
}
