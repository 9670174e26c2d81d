//! Input that is odd and right: names, times, numbers of arguments and files that a server takes, an output that cannot be
//! written, and input for which a job has no place.

use crate::helper::TestDaemon;
use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Runs `rnx job run` with this standard input and output.
fn rnx(command: &mut Command, stdin: impl Into<Stdio>, stdout: impl Into<Stdio>) -> Output {
    command.stdin(stdin).stdout(stdout).output().expect("rnx can be executed")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn variable_names_are_those_that_the_server_takes() {
    let d = TestDaemon::start();
    let out = d.run(["-e", "my.prop=1", "-e", "a-b=2", "-s", "npm_config_//r/:_auth=3", "env"]).ok();
    for line in ["my.prop=1", "a-b=2", "npm_config_//r/:_auth=3"] {
        assert!(out.lines().any(|l| l == line), "{line} in {out}");
    }
    let refused = d.run(["-e", "JOB_ID=x", "true"]);
    refused.exits(125);
    assert!(
        refused.stderr.contains("names starting with JOB_ or JOBLET_ are set by joblet"),
        "{}",
        refused.stderr
    );
}

#[test]
fn timeouts_are_written_as_delays_are_or_in_seconds() {
    let d = TestDaemon::with([("joblet.jobTimeout", "5d")]);
    for (given, seconds) in [("2d", 172_800), ("90", 90), ("1 hour 5 min", 3900), ("1.5h", 5400), ("+1s", 0)]
    {
        let out = d.rnx(["job", "run", "-q", "--timeout", given, "true"]);
        if seconds == 0 {
            assert!(out.stderr.contains("invalid value \"+1s\" for --timeout"), "{}", out.stderr);
            continue;
        }
        let id = out.id();
        let shown = d.status(&id)["timeout"].as_str().unwrap().to_owned();
        let shown = joblet::job::units::parse_duration(&shown).unwrap().as_secs();
        assert_eq!(shown, seconds, "{given}");
    }
}

#[test]
fn as_many_arguments_reach_a_job_as_the_kernel_takes() {
    let d = TestDaemon::start();
    let script = ["sh", "-c", "echo $# ${#9}", "x"].map(str::to_owned);
    let args = |count, length| script.iter().cloned().chain((0..count).map(move |_| "a".repeat(length)));
    assert_eq!(d.run(args(100_000, 1)).ok(), "100000 1\n");
    assert_eq!(d.run(args(14, 130_000)).ok(), "14 130000\n");
    let refused = d.run(args(200_000, 1));
    refused.exits(125);
    assert!(refused.stderr.contains("fit into execve"), "{}", refused.stderr);
}

#[test]
fn file_without_a_size_is_uploaded_with_its_content() {
    let d = TestDaemon::start();
    let kernel = fs::read_to_string("/proc/version").unwrap();
    assert_eq!(d.run(["--upload=/proc/version", "cat", "version"]).ok(), kernel);
}

#[test]
fn refused_command_names_the_ways_to_run_it() {
    let d = TestDaemon::start();
    for command in ["./a(1).sh", "echo a; echo b"] {
        let refused = d.run([command]);
        refused.exits(125);
        for word in ["sh -c", "joblet.validateCommands"] {
            assert!(refused.stderr.contains(word), "{word} in {}", refused.stderr);
        }
    }
}

#[test]
fn unwritable_output_keeps_the_code_of_the_job() {
    let d = TestDaemon::start();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let run = |args: &[&str]| {
        let mut command = d.rnx_command(["job", "run"].iter().chain(args));
        let out = rnx(&mut command, Stdio::null(), full());
        (out.status.code(), text(&out.stderr))
    };
    let (code, stderr) = run(&["--follow", "--rm", "-q", "sh", "-c", "seq 99999; exit 3"]);
    assert_eq!(code, Some(3), "{stderr}");
    let (code, stderr) = run(&["--follow", "--rm", "-q", "echo", "kept"]);
    assert_eq!((code, stderr.matches("No space left").count()), (Some(1), 1), "{stderr}");
    let id = stderr.split("rnx job log ").nth(1).unwrap().trim();
    assert_eq!(d.rnx(["job", "log", id]).ok(), "kept\n");
    let (code, stderr) = run(&["-q", "true"]);
    assert_eq!(code, Some(1), "{stderr}");
    let id = stderr.split("job ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    d.until_status(id, "COMPLETED");
}

#[test]
fn input_that_no_flag_asks_for_is_named_on_stderr() {
    let d = TestDaemon::start();
    let warning = "the job does not get standard input";
    let run = |flags: &[&str], stdin: Stdio| {
        let args = ["job", "run", "--follow"].iter().chain(flags).chain(&["cat"]);
        let out = rnx(&mut d.rnx_command(args), stdin, Stdio::piped());
        assert_eq!((out.status.code(), text(&out.stdout)), (Some(0), String::new()));
        text(&out.stderr)
    };
    let pipe = |input: &[u8]| {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(input).unwrap();
        (Stdio::from(reader), writer)
    };
    let (full, _open) = pipe(b"hello\n");
    assert_eq!(run(&[], full).matches(warning).count(), 1);
    let (full, _open) = pipe(b"hello\n");
    assert!(!run(&["-q"], full).contains(warning), "quiet");
    let (empty, _open) = pipe(b"");
    assert!(!run(&[], empty).contains(warning), "an empty pipe");
    assert!(!run(&[], Stdio::null()).contains(warning), "no input");
    let file = File::open(d.config()).unwrap();
    assert!(run(&[], file.into()).contains(warning), "a file");
    for flag in ["--tty", "-t"] {
        let refused = d.run([flag, "cat"]);
        refused.exits(125);
        assert!(refused.stderr.contains(&format!("{flag} is not supported")), "{}", refused.stderr);
    }
}
