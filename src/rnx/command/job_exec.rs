//! `rnx job exec`

use std::time::Duration;

use super::super::cli::flag::{Group, RAW, list, switch, value};
use super::super::cli::{Command, Flag, Invocation, Operands, Run};
use super::super::environment;
use super::super::error::{Error, Result};
use super::super::exit;
use super::super::input::{self, Sending};
use super::super::interrupt::Interrupt;
use super::super::out::Out;
use super::super::printer::{Printer, Streams};
use super::super::reconnect::Watch;
use super::super::render::{exec, json, short};
use super::super::resolve;
use super::super::server::Server;
use super::super::terminal::one_line;
use super::job_run::duration;
use super::{QUERY, connect};
use crate::pb::joblet::{ExecInfo, ExecRef, GetJobLogsReq, GetJobStatusRes, SignalExecReq, StartExecReq};

/// `rnx job exec` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["job", "exec"],
    alias: false,
    usage: "[flags] <job-uuid> [--] <command> [args...]",
    operands: Operands::JobAndCommand,
    flags: FLAGS,
    summary: "Run a command in a running job",
    about: "The command runs beside the job's own, behind the same walls and within the same limits, with a\n\
            session of its own. It has the job's variables, but not the secret ones: nobody keeps those. Its\n\
            standard input is empty, or ours with -i. Each output goes to ours; the exit code is that of the command.\n\n\
            Ctrl-C sends SIGINT to the command and its children; a second one leaves them alone and ends rnx\n\
            with 130. The command goes on when rnx or the server ends. It ends with the job. A job has room for\n\
            32 commands at one time; a command in a job at its memory limit may be what ends the job.",
    examples: &[
        "rnx job exec f47ac10b -- ps aux",
        "rnx job exec -e DEBUG=1 --workdir=/tmp f47ac10b sh -c 'ls | wc -l'",
        "rnx job exec --stdin data.tar f47ac10b tar x",
        "rnx job exec --detach --timeout=10m f47ac10b -- ./collect",
    ],
    statuses: &["RUNNING"],
    failure: Some(exit::FAILED),
    run: Run::WithCode(run),
};

static FLAGS: &[Flag] = &[
    list("env", Some('e'), "K=V", "Environment variable; K alone takes the value from rnx's environment"),
    list(
        "secret-env",
        Some('s'),
        "K=V",
        "The same, in no reply and no file. Prefer K alone: K=V is visible in ps",
    ),
    list(
        "secret-file",
        None,
        "K=FILE",
        "Secret variable read from FILE (- is stdin), less one final newline",
    ),
    value("workdir", "DIR", Group::Contents, "Working directory inside the job (default that of the job)"),
    value(
        "timeout",
        "TIME",
        Group::Limits,
        "End the command after this time: SIGTERM, then SIGKILL; the job goes on",
    ),
    input::INTERACTIVE,
    input::STDIN,
    switch("detach", Some('d'), Group::Waiting, "Return when the command runs, and print its id"),
    RAW,
];

/// How long a server may take to start a command.
const START: Duration = Duration::from_secs(60);

/// Starts the command, and follows it to its end unless it is to be left alone.
fn run(invocation: &Invocation, out: Out) -> Result<i32> {
    let values = &invocation.values;
    let [job, words @ ..] = invocation.operands.as_slice() else {
        return Err(Error::usage("must specify a job-uuid"));
    };
    let words = words.strip_prefix(&["--".to_owned()]).unwrap_or(words);
    let [command, args @ ..] = words else { return Err(Error::usage("must specify a command to run")) };
    let variables = environment::collect(values, &|name| std::env::var_os(name))?;
    let input = input::source(values)?;
    let mut request = StartExecReq {
        stdin: input.is_some(),
        command: command.clone(),
        args: args.to_vec(),
        environment: variables.plain,
        secret_environment: variables.secret,
        workDir: values.last("workdir").unwrap_or_default(),
        timeout: duration(values, "timeout")?,
        ..Default::default()
    };
    let follows = !values.is("detach");
    // Before the channel: gRPC's threads must inherit the mask.
    let interrupt = follows.then(Interrupt::watch);
    let server = connect(values, out)?;
    request.uuid = resolve::id_of(server, job)?;
    let started = server.ask_sessions(START, |sessions, option| sessions.start_exec_opt(&request, option))?;
    let sending =
        input.map(|input| Sending::begin(server, (&started.uuid, &started.exec), input)).transpose()?;
    if !follows {
        if out.json {
            out.value(&exec::shown(&started))?;
        } else {
            out.text(&format!("{}\n", one_line(&started.exec)))?;
        }
        if let Some(sending) = sending {
            sending.finish()?;
        }
        return Ok(code_of(&started));
    }
    if let Some(interrupt) = interrupt {
        let signal = SignalExecReq { signal: SIGINT, ..named(&started) };
        interrupt.about_command(move || {
            let sent =
                server.ask_sessions(QUERY, |sessions, option| sessions.signal_exec_opt(&signal, option));
            if let Err(why) = sent {
                out.note(&format!("rnx: cannot interrupt the command: {}", one_line(&why.to_string())));
            }
        });
    }
    follow(server, started, values.is("raw"), out)
}

const SIGINT: i32 = 2;

fn named(started: &ExecInfo) -> SignalExecReq {
    SignalExecReq { uuid: started.uuid.clone(), exec: started.exec.clone(), ..Default::default() }
}

/// Prints the output of a command to its end; its exit code.
fn follow(server: &'static Server, started: ExecInfo, raw: bool, out: Out) -> Result<i32> {
    let wanted =
        GetJobLogsReq { uuid: started.uuid.clone(), exec: started.exec.clone(), ..Default::default() };
    let mut watch = Watch::new(server);
    if out.json {
        watch.output(&wanted, |chunk| out.value_line(&json::chunk(chunk)))?;
    } else {
        let mut printer = Printer::new(out, Streams::Apart, raw);
        let ended = watch.output(&wanted, |chunk| printer.chunk(chunk));
        printer.finish()?;
        ended?;
    }
    let at = ExecRef { uuid: started.uuid.clone(), exec: started.exec, ..Default::default() };
    let ended = loop {
        match server.ask_sessions(QUERY, |sessions, option| sessions.get_exec_opt(&at, option)) {
            Ok(ended) => break ended,
            Err(why) => drop(watch.lost(&started.uuid, why, None)?),
        }
    };
    if out.json {
        out.value_line(&exec::shown(&ended))?;
    } else if !ended.message.is_empty() {
        let id = one_line(short(&ended.uuid));
        out.note(&format!("rnx: command in job {id}: {}", one_line(&ended.message)));
    }
    Ok(code_of(&ended))
}

/// The code for a command, as for a job that ended so; 0 for one that still runs.
fn code_of(info: &ExecInfo) -> i32 {
    if info.exit_reason.is_empty() {
        return 0;
    }
    exit::of_job(&GetJobStatusRes {
        status: info.status.clone(),
        exit_reason: info.exit_reason.clone(),
        exitCode: info.exit_code,
        signal: info.signal,
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::cli::{Parsed, parse};
    use super::*;

    fn operands(line: &str) -> Vec<String> {
        match parse(line.split_whitespace().map(Into::into).collect()) {
            Ok(Parsed::Invoke(i)) => i.operands.clone(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn words_behind_the_job_are_those_of_the_command() {
        assert_eq!(operands("job exec -e A=B f47a ls -e --json"), ["f47a", "ls", "-e", "--json"]);
        assert_eq!(operands("job exec f47a -- ls -l"), ["f47a", "--", "ls", "-l"]);
        for line in ["job exec", "job exec f47a"] {
            let words = line.split_whitespace().map(Into::into).collect();
            assert!(parse(words).unwrap_err().error.to_string().starts_with("must specify a "), "{line}");
        }
    }

    #[test]
    fn command_that_ended_has_the_code_of_such_a_job() {
        let info = |status: &str, reason: &str, code, signal| ExecInfo {
            status: status.into(),
            exit_reason: reason.into(),
            exit_code: code,
            signal,
            ..Default::default()
        };
        let code = |status, reason, code, signal| code_of(&info(status, reason, code, signal));
        assert_eq!(code("FAILED", "exited", 3, 0), 3);
        assert_eq!(code("FAILED", "signaled", 137, 9), 137);
        assert_eq!(code("STOPPED", "timeout", -1, 0), 124);
        assert_eq!(code("FAILED", "start_failed", 127, 0), 127);
        assert_eq!(code("STOPPED", "job_ended", -1, 0), 143);
        assert_eq!(code("FAILED", "lost", -1, 0), 125);
        assert_eq!(code("RUNNING", "", 0, 0), 0);
    }
}
