//! Commands in running jobs, as text and as JSON.

use serde::Serialize;

use super::{command_line, short};
use crate::pb::joblet::ExecInfo;
use crate::rnx::terminal::one_line;

/// A command as `--json` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    uuid: &'a str,
    exec: &'a str,
    number: u32,
    status: &'a str,
    exit_code: i32,
    exit_reason: &'a str,
    signal: i32,
    message: &'a str,
    start_time: &'a str,
    end_time: &'a str,
    command: &'a str,
    args: &'a [String],
}

/// A command for `--json`.
pub(crate) fn shown(info: &ExecInfo) -> Shown<'_> {
    Shown {
        uuid: &info.uuid,
        exec: &info.exec,
        number: info.number,
        status: &info.status,
        exit_code: info.exit_code,
        exit_reason: &info.exit_reason,
        signal: info.signal,
        message: &info.message,
        start_time: &info.start_time,
        end_time: &info.end_time,
        command: &info.command,
        args: &info.args,
    }
}

/// The part of a job's status about its commands; empty where it has none.
pub(crate) fn section(execs: &[ExecInfo]) -> String {
    let line = |info: &ExecInfo| {
        let end = match info.exit_reason.as_str() {
            "" => String::new(),
            "exited" => format!(" ({})", info.exit_code),
            reason => format!(" ({})", one_line(reason)),
        };
        let id = one_line(short(&info.exec));
        format!("  {id}  {}{end}  {}\n", one_line(&info.status), command_line(&info.command, &info.args))
    };
    if execs.is_empty() {
        return String::new();
    }
    std::iter::once("Commands:\n".to_owned()).chain(execs.iter().map(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_shows_each_command_with_its_end() {
        let info = |reason: &str, code, command: &str| ExecInfo {
            exec: "0a1b2c3d-58cc-4372-a567-0e02b2c3d479".into(),
            status: if reason.is_empty() { "RUNNING" } else { "FAILED" }.into(),
            exit_reason: reason.into(),
            exit_code: code,
            command: command.into(),
            args: vec!["-x".into()],
            ..Default::default()
        };
        let text = section(&[info("", 0, "ps"), info("exited", 3, "ls"), info("timeout", -1, "\x1b[2J")]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "Commands:");
        assert_eq!(lines[1], "  0a1b2c3d  RUNNING  ps -x");
        assert_eq!(lines[2], "  0a1b2c3d  FAILED (3)  ls -x");
        assert!(lines[3].starts_with("  0a1b2c3d  FAILED (timeout)") && !text.contains('\x1b'), "{text}");
        assert_eq!(section(&[]), "");
    }
}
