//! `rnx job run`

use std::io::{self, IsTerminal};
use std::time::Instant;

use jiff::Zoned;
use serde::Serialize;

use super::super::cli::flag::{Group, RAW, list, switch, value};
use super::super::cli::{Command, Flag, Invocation, Operands, Run, Values, time, value};
use super::super::delivery::Delivery;
use super::super::error::{Error, Result};
use super::super::exit;
use super::super::input::{self, Sending, Source};
use super::super::interrupt::Interrupt;
use super::super::out::Out;
use super::super::printer::{Printer, Streams};
use super::super::progress::Progress;
use super::super::reconnect::Watch;
use super::super::render::text::Sent;
use super::super::render::{json, text};
use super::super::send::{self, Upload};
use super::super::server::Server;
use super::super::terminal::one_line;
use super::super::upload::{self, Uploads};
use super::super::warned::is_first_today;
use super::{QUERY, connect, job_delete::delete, job_egress};
use crate::config::search::process_environment;
use crate::job::units;
use crate::pb::joblet::{DataChunk, GetJobLogsReq, GetJobStatusRes, RunJobRequest, RunJobResponse};
use protobuf::Message;

/// `rnx job run` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["job", "run"],
    alias: true,
    usage: "[flags] [--] <command> [args...]",
    operands: Operands::JobCommand,
    flags: FLAGS,
    summary: "Start a job",
    about: ABOUT,
    examples: &[
        "rnx job run echo \"hello world\"",
        "rnx job run --max-cpu=50 --max-memory=512 python3 script.py",
        "rnx job run --follow --upload=script.py --upload-dir=./data python3 script.py",
        "rnx job run --wait -e DEBUG=true --secret-env API_KEY node app.js",
        "rnx job run bash -c \"sleep 10 && echo done\"",
    ],
    statuses: &[],
    failure: Some(125),
    run: Run::WithCode(run),
};

static FLAGS: &[Flag] = &[
    value(
        "schedule",
        "TIME",
        Group::Start,
        "Start later: after a delay (45s, 30min, 2h30m, 1d) or at a time, here\n\
         (2025-08-03T15:00) or anywhere (2025-08-03T15:00:00Z)",
    ),
    value(
        "request-id",
        "ID",
        Group::Start,
        "Name this request: sent again, it gives the job that it has already\n\
         started instead of a second one",
    ),
    value(
        "max-cpu",
        "PERCENT",
        Group::Limits,
        "CPU in percent of one core (default of a node: 100, one core)",
    ),
    value(
        "max-memory",
        "MB",
        Group::Limits,
        "Memory in MB, or with a unit: 512M, 2G (default of a node: 512)",
    ),
    value("max-iobps", "BYTES", Group::Limits, "I/O in bytes a second, or with a unit: 4M (0 = unlimited)"),
    value(
        "net-rate-up",
        "BYTES",
        Group::Limits,
        "Bytes a second that the job may send, or with a unit: 10M (default: the node's)",
    ),
    value("net-rate-down", "BYTES", Group::Limits, "Bytes a second that the job may receive, likewise"),
    value("cpu-cores", "CORES", Group::Limits, "Cores the job may use: 3, 0-2, 0,2,4"),
    value(
        "gpu",
        "N",
        Group::Limits,
        "GPUs that the job has alone until it ends (rnx gpu list); it waits until so\n\
         many are free",
    ),
    value(
        "gpu-memory",
        "MB",
        Group::Limits,
        "Memory of each of them at least, in MB or with a unit: 4096, 1024MB, 8GB",
    ),
    value(
        "timeout",
        "TIME",
        Group::Limits,
        "Stop the job after this time: 30s, 5m, 1h30m, 2d (default and most of a node: 1h)",
    ),
    value(
        "stop-grace",
        "TIME",
        Group::Limits,
        "Time between SIGTERM and SIGKILL when the job is stopped or reaches its\n\
         timeout: 10s, 1m (default: server)",
    ),
    list("upload", None, "PATH", "Put this file or directory into the job's /work, under its base name"),
    list(
        "upload-dir",
        None,
        "DIR",
        "Put what is below DIR into /work. Symlinks that stay below DIR, or lead into\n\
         a system directory, stay symlinks; others and special files are left out,\n\
         with a warning",
    ),
    list("env", Some('e'), "K=V", "Environment variable; K alone takes the value from rnx's environment"),
    list(
        "secret-env",
        Some('s'),
        "K=V",
        "The same, shown as *** in every reply. Prefer K alone: K=V is\nvisible in ps",
    ),
    list(
        "secret-file",
        None,
        "K=FILE",
        "Secret variable read from FILE (- is stdin), less one final newline",
    ),
    value("workdir", "DIR", Group::Contents, "Working directory inside the job (default /work)"),
    Flag { hidden: true, ..value("work-dir", "DIR", Group::Contents, "Another spelling of --workdir") },
    value(
        "network",
        "NETWORK",
        Group::Contents,
        "Network of the job: none, isolated, bridge, or one of rnx network list\n\
         (default: server)",
    ),
    list(
        "egress",
        None,
        "LIST",
        "What the job may reach outside its network, separated by commas: example.org,\n\
         '*.github.com:443', 10.1.0.0/16, 1.2.3.4:5432, '!secret.example.org' (denied);\n\
         nothing else then (default: server)",
    ),
    list("egress-preset", None, "NAME", "The same by name: pypi, npm, debian, git, crates"),
    Flag {
        short: Some('p'),
        ..list(
            "publish",
            None,
            "PORTS",
            "Let this port of the host reach a port of the job: 8080:80, or on an address\n\
             of the host other than 127.0.0.1, 192.0.2.1:8080:80 (what a node allows)",
        )
    },
    list(
        "volume",
        None,
        "VOLUME",
        "Give the job this volume (rnx volume list) at /volumes/NAME; with :ro behind\n\
         the name it can only read it",
    ),
    value(
        "runtime",
        "RUNTIME",
        Group::Contents,
        "Root of the job: NAME[@VERSION] of a runtime (rnx runtime list) instead of the\n\
         host's programs. Without a command it runs that of its image",
    ),
    value(
        "user",
        "NAME",
        Group::Contents,
        "User inside: root (uid 0), or job (uid 1000) for programs that refuse to\n\
         run as root; in the profile container also USER[:GROUP] of the root, by name\n\
         or number (default: that of the image there, else server)",
    ),
    value(
        "profile",
        "NAME",
        Group::Contents,
        "Walls of the job: strict, or container for images of containers (65536 users,\n\
         chown, su and the like work; what a node allows) (default: strict)",
    ),
    switch(
        "writable",
        None,
        Group::Contents,
        "With --runtime: the job may write its root. What it writes counts as files in\n\
         /work do, and is gone with the job",
    ),
    input::INTERACTIVE,
    input::STDIN,
    value("name", "NAME", Group::Contents, "A name for lists"),
    Flag {
        hidden: true,
        ..value("workflow", "FILE", Group::Contents, "Of other clients; refused with the command of ours")
    },
    switch("wait", Some('w'), Group::Waiting, "Wait silently for the end and exit with the job's code"),
    switch("follow", Some('f'), Group::Waiting, "Print the job's output until its end, exit with its code"),
    switch("rm", None, Group::Waiting, "With --wait or --follow: delete the job after it succeeded"),
    switch("detach", Some('d'), Group::Waiting, "Return when the job has started (the default)"),
    switch("explain", None, Group::Waiting, "Print what a start would do, step by step, and start nothing"),
    switch("quiet", Some('q'), Group::Output, "Print only the id (with --follow: only the job's output)"),
    RAW,
];

const ABOUT: &str = "\
Flags end at the first word that is not a flag, or at --. That word and everything after it are the
job's own command line and pass unchanged, also what looks like a flag. The command is executed
directly, without a shell.

Without flags a job gets what the node's configuration says, usually 1 CPU,
512 MB, 1 h, and 100 ms between SIGTERM and SIGKILL when it is stopped. The
uploads of one job are at most 128 MiB.

Exit codes: 0 when the job was started; with --wait or --follow the job's own code, or
  128+n  killed by signal n          137  out of memory
  124    its timeout was reached     143  stopped (job stop, daemon shut down)
  153    it wrote more output than it may
  125    rnx or the daemon failed, the job did not run or its code is not known
  1      also: its output was not written; it ran, and rnx job log has it
  126    the command cannot be executed
  127    the command was not found
  130    Ctrl-C while waiting; the job keeps running";

/// The behaviour of rnx once the job has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Return,
    Wait,
    Follow,
}

/// The flags that decide what happens after the start.
#[derive(Debug, Clone, Copy)]
struct RunOptions {
    after: After,
    remove: bool,
    quiet: bool,
    raw: bool,
}

/// Starts a job and, with `--wait` or `--follow`, waits for its end; the exit code is then the job's own.
fn run(invocation: &Invocation, out: Out) -> Result<i32> {
    let values = &invocation.values;
    refuse_workflow(values)?;
    let options = options(values)?;
    let mut uploads = uploads(values)?;
    for warning in &uploads.warnings {
        out.note(&format!("warning: {}", one_line(warning)));
    }
    if values.is("explain") {
        return explain(invocation, uploads, out);
    }
    let input = input::source(values)?;
    let scheduled = schedule(values)?;
    if let Some(note) = scheduled.as_ref().and_then(|given| given.note.as_deref()) {
        out.note(&format!("warning: {}", one_line(note)));
    }
    let mut progress = Progress::of(&uploads, out, options.quiet);
    let files = uploads.files();
    // More than a request holds is read while it is sent.
    let ahead = (!uploads.fit()).then(|| Upload::of(&mut uploads));
    let read = uploads.read(|done, all| progress.reading(done, all));
    progress.read();
    read?;
    let (mut request, mut sent) = request(invocation, uploads, out, options.quiet)?;
    sent.files = files;
    request.stdin = input.is_some();
    request.upload_handles = ahead.iter().map(Upload::handle).collect();
    request.schedule = scheduled.map(|given| given.time.to_string()).unwrap_or_default();
    upload::check_size(request.compute_size())?;

    // Before the channel: gRPC's threads must inherit the mask.
    let interrupt = (options.after != After::Return).then(Interrupt::watch);
    let server = connect(values, out)?;
    let size = request.compute_size();
    let mut started = send::start(server, size, ahead.as_ref(), &mut progress, |deadline| {
        server.ask(deadline, |jobs, option| jobs.run_job_opt(&request, option))
    })?;
    let begun = Instant::now();
    let limits = &started.unenforced_limits;
    let is_text = !out.json && !options.quiet;
    if is_text && !limits.is_empty() && !is_first_today(&process_environment, server.address(), limits) {
        started.unenforced_limits.clear();
    }
    if let Some(interrupt) = interrupt {
        match started.status.as_str() {
            "SCHEDULED" => interrupt.about_scheduled(&started.jobUuid),
            _ => interrupt.about(&started.jobUuid),
        }
    }
    let is_fed = input.is_some();
    let unread = is_fed || input::warn_of_unread(out, options.quiet);
    let mut delivery = Delivery::of(out, &started.jobUuid);
    delivery.write(|| announce(out, options, &started, sent))?;
    feed(server, &started, input, options.after == After::Return)?;
    if options.after != After::Return {
        let code = follow_to_end(server, out, options, (started, begun), sent, delivery)?;
        // Input may come later than the start.
        if !unread {
            input::warn_of_unread(out, options.quiet);
        }
        return Ok(code);
    }
    if started.exit_reason != "start_failed" {
        if is_text {
            out.note(&text::next_steps(&started));
        }
        return Ok(delivery.exit_code(0));
    }
    if options.quiet && !out.json {
        out.note(&text::failed_start(&started.jobUuid, &started.message));
    }
    Ok(exit::of_failed_start(started.exitCode))
}

/// Sends the job its standard input: to its end before rnx returns, or beside what it waits for.
fn feed(server: &'static Server, started: &RunJobResponse, input: Option<Source>, waits: bool) -> Result<()> {
    let Some(input) = input.filter(|_| started.exit_reason != "start_failed") else { return Ok(()) };
    let sending = Sending::begin(server, (&started.jobUuid, ""), input)?;
    if waits { sending.finish() } else { Ok(()) }
}

/// A workflow has a command of its own; other clients run one by this flag.
fn refuse_workflow(values: &Values) -> Result<()> {
    let Some(file) = values.last("workflow") else { return Ok(()) };
    // Behind a colon stands one of several workflows of a file; our files have one each.
    let file = file.split_once(':').map_or(file.as_str(), |(file, _)| file);
    let text = "a workflow is not a job, and --workflow is no flag of this command";
    Err(Error::usage(text).hint(format!("rnx workflow run {file}")))
}

/// Prints the plan of a start, which the server makes without starting anything.
fn explain(invocation: &Invocation, mut uploads: Uploads, out: Out) -> Result<i32> {
    if !uploads.fit() {
        let text = "--explain sends its uploads in one request, and these are larger than one may be";
        return Err(Error::Upload(text.to_owned().into()).hint("leave --upload and --upload-dir out"));
    }
    uploads.read(|_, _| ())?;
    let (mut request, _) = request(invocation, uploads, out, false)?;
    request.explain = true;
    let size = request.compute_size();
    upload::check_size(size)?;
    let server = connect(&invocation.values, out)?;
    let plan = server.ask(send::deadline(size), |jobs, option| jobs.run_job_opt(&request, option))?.plan;
    if out.json {
        out.value(&plan)?;
    } else {
        out.text(&plan.iter().map(|step| one_line(step) + "\n").collect::<String>())?;
    }
    Ok(0)
}

fn options(values: &Values) -> Result<RunOptions> {
    let (wait, follow) = (values.is("wait"), values.is("follow"));
    if values.is("explain") && (wait || follow || values.is("detach")) {
        return Err(Error::usage(
            "--explain starts nothing: there is no job for --wait, --follow or --detach",
        ));
    }
    // Following is waiting with the output on top, so both together mean the larger one.
    let after = match (wait, follow) {
        (_, true) => After::Follow,
        (true, false) => After::Wait,
        (false, false) => After::Return,
    };
    if values.is("detach") && after != After::Return {
        return Err(Error::usage("--detach and --wait or --follow exclude each other"));
    }
    if values.is("rm") && after == After::Return {
        return Err(Error::usage(
            "--rm needs --wait or --follow: rnx deletes the job when it has seen it succeed",
        ));
    }
    Ok(RunOptions { after, remove: values.is("rm"), quiet: values.is("quiet"), raw: values.is("raw") })
}

/// When the job is to start, if not now. The delay counts from here on, before uploads travel.
fn schedule(values: &Values) -> Result<Option<time::Given>> {
    values.last("schedule").map(|text| time::schedule(&text, &Zoned::now())).transpose()
}

fn uploads(values: &Values) -> Result<Uploads> {
    let mut uploads = Uploads::default();
    for (flag, path) in values.in_order(&["upload", "upload-dir"]) {
        if flag == "upload" { uploads.add_named(&path)? } else { uploads.add_tree(&path)? }
    }
    Ok(uploads)
}

fn request(
    invocation: &Invocation,
    uploads: Uploads,
    out: Out,
    quiet: bool,
) -> Result<(RunJobRequest, Sent)> {
    let values = &invocation.values;
    let mut words = invocation.operands.iter().cloned();
    let mut request = RunJobRequest {
        command: words.next().unwrap_or_default(),
        args: words.collect(),
        runtime: values.last("runtime").unwrap_or_default(),
        ..Default::default()
    };
    // A runtime may have a command of its own.
    if invocation.operands.is_empty() && request.runtime.is_empty() {
        return Err(Error::usage("must specify a command to run"));
    }
    if let Some(text) = values.last("max-cpu") {
        request.maxCpu = value::percent("max-cpu", &text)?;
    }
    if let Some(text) = values.last("max-memory") {
        request.maxMemory = value::megabytes("max-memory", &text)?;
    }
    if let Some(text) = values.last("max-iobps") {
        request.maxIobps = value::bytes("max-iobps", &text)?;
    }
    if let Some(text) = values.last("net-rate-up") {
        request.net_rate_up = value::rate("net-rate-up", &text)?;
    }
    if let Some(text) = values.last("net-rate-down") {
        request.net_rate_down = value::rate("net-rate-down", &text)?;
    }
    (request.gpu_count, request.gpu_memory_mb) = gpus(values)?;
    request.timeout = duration(values, "timeout")?;
    request.stop_grace = duration(values, "stop-grace")?;
    request.cpuCores = values.last("cpu-cores").unwrap_or_default();
    let presets = job_egress::entries(values, "egress-preset").into_iter();
    request.egress = job_egress::entries(values, "egress");
    request.egress.extend(presets.map(|name| format!("preset:{name}")));
    request.network = values.last("network").unwrap_or_default();
    request.publish = values.all("publish");
    request.volumes = values.all("volume");
    request.user = values.last("user").unwrap_or_default();
    request.profile = values.last("profile").unwrap_or_default();
    request.writable = values.is("writable");
    request.name = values.last("name").unwrap_or_default();
    request.request_id = values.last("request-id").map_or(Ok(String::new()), |id| match id.as_str() {
        // A variable that is not set must not make a start that can happen twice.
        "" => Err(value::invalid("request-id", "", "it is empty")),
        _ => Ok(id),
    })?;
    let (_, workdir) = values.in_order(&["workdir", "work-dir"]).pop().unwrap_or_default();
    request.workDir = workdir;
    let variables = super::super::environment::collect(values, &|name| std::env::var_os(name))?;
    if variables.secret_on_command_line && !quiet {
        out.note(
            "warning: --secret-env K=V shows the value in ps; prefer --secret-env K or --secret-file K=FILE",
        );
    }
    request.environment = variables.plain;
    request.secret_environment = variables.secret;
    let sent = Sent {
        files: uploads.files(),
        env: request.environment.len(),
        secrets: request.secret_environment.len(),
    };
    request.uploads = uploads.entries;
    Ok((request, sent))
}

/// The number of GPUs, and the memory of each in MB.
fn gpus(values: &Values) -> Result<(i32, i32)> {
    let count = values.last("gpu").map_or(Ok(0), |text| value::count("gpu", &text))?;
    let Some(text) = values.last("gpu-memory") else { return Ok((count, 0)) };
    if count == 0 {
        return Err(Error::usage("--gpu-memory needs --gpu: the number of GPUs that have so much each"));
    }
    Ok((count, value::megabytes("gpu-memory", &text)?))
}

/// A duration in the units of the contract, which has no long names; empty: not given.
pub(super) fn duration(values: &Values, flag: &'static str) -> Result<String> {
    let Some(text) = values.last(flag) else { return Ok(String::new()) };
    Ok(units::format_duration(time::span(flag, &text)?))
}

/// One line of `--follow --json`.
#[derive(Debug, Serialize)]
struct Event<T> {
    event: &'static str,
    #[serde(flatten)]
    body: T,
}

/// Says that the job was started. With `--follow` stdout belongs to the job, so this goes to stderr.
fn announce(out: Out, options: RunOptions, started: &RunJobResponse, sent: Sent) -> Result<()> {
    match (out.json, options.after) {
        (true, After::Return) => out.value(&json::started(started, sent)),
        // One object, when it has ended.
        (true, After::Wait) => Ok(()),
        (true, After::Follow) => {
            out.value_line(&Event { event: "started", body: json::started(started, sent) })
        }
        (false, After::Follow) if options.quiet => Ok(()),
        (false, _) if options.quiet => out.text(&format!("{}\n", one_line(&started.jobUuid))),
        (false, After::Follow) => {
            out.note(text::started(started, sent, false).trim_end());
            Ok(())
        }
        (false, _) => out.text(&text::started(started, sent, out.colour)),
    }
}

fn follow_to_end(
    server: &'static Server,
    out: Out,
    options: RunOptions,
    (mut started, begun): (RunJobResponse, Instant),
    sent: Sent,
    mut delivery: Delivery,
) -> Result<i32> {
    let uuid = started.jobUuid.clone();
    // A job that waits first has the times of the server only.
    let runs = started.status == "RUNNING";
    let mut printer = Printer::new(out, Streams::Apart, options.raw);
    let ended = watch(server, out, options, &uuid, &mut printer, &mut delivery)?;
    let ran = runs.then(|| begun.elapsed());
    if out.json && options.after == After::Follow {
        delivery.write(|| out.value_line(&Event { event: "ended", body: json::shown(&ended) }))?;
    } else if out.json {
        json::merge_end(&mut started, &ended);
        delivery.write(|| out.value(&json::started(&started, sent)))?;
    }
    let is_shown = options.after == After::Follow && !options.quiet && !out.json;
    let line = text::end_summary(&ended);
    if let Some(line) = line.or_else(|| is_shown.then(|| text::exit_summary(&ended, ran))) {
        if io::stderr().is_terminal() {
            delivery.write(|| printer.break_line())?;
        }
        out.note(&line);
    }
    let code = exit::of_job(&ended);
    if options.remove && code == 0 && !delivery.is_incomplete() {
        // The job has succeeded, and that is the answer; a failed deletion is only a note.
        if let Err(e) = delete(server, &uuid) {
            out.note(&format!("warning: the job was not deleted: {}", one_line(&e.to_string())));
        }
    }
    Ok(delivery.exit_code(code))
}

/// Follows the output, or waits for its end, which is that of the job; then returns the job's status.
fn watch(
    server: &'static Server,
    out: Out,
    options: RunOptions,
    uuid: &str,
    printer: &mut Printer,
    delivery: &mut Delivery,
) -> Result<GetJobStatusRes> {
    let mut watch = Watch::new(server);
    let wanted = GetJobLogsReq { uuid: uuid.into(), ..Default::default() };
    let followed = match (options.after, out.json) {
        (After::Follow, true) => {
            let line = |chunk: &DataChunk| out.value_line(&Event::<json::Chunk<'_>>::of(chunk));
            watch.output(&wanted, |chunk| delivery.write(|| line(chunk)))
        }
        (After::Follow, false) => watch.output(&wanted, |chunk| delivery.write(|| printer.chunk(chunk))),
        _ => watch.end(uuid),
    };
    delivery.write(|| printer.finish())?;
    let lost = |e: Error| match e {
        Error::Print(e) => Error::Print(e),
        e => {
            let id = super::super::render::short(uuid);
            let text = format!("lost sight of job {uuid}: {e}");
            Error::Follow(text.into()).hint(format!("it may go on: rnx job status {id}, rnx job log {id}"))
        }
    };
    followed.map_err(lost)?;
    watch.status(uuid, QUERY).map_err(lost)
}

impl<'a> Event<json::Chunk<'a>> {
    fn of(chunk: &'a DataChunk) -> Self {
        Event { event: "output", body: json::chunk(chunk) }
    }
}

#[cfg(test)]
#[path = "job_run_tests.rs"]
mod tests;
