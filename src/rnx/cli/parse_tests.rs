use super::*;
use proptest::prelude::*;

fn args(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

fn invocation(line: &str) -> Invocation {
    match parse(args(line)) {
        Ok(Parsed::Invoke(i)) => i,
        other => panic!("{line}: {other:?}"),
    }
}

fn refusal(line: &str) -> (String, String) {
    match parse(args(line)) {
        Err(r) => (r.error.to_string(), r.error.hint_text().unwrap_or_default().to_string()),
        Ok(other) => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_first_free_word_starts_the_jobs_own_command_line() {
    let i = invocation("job run --max-cpu=50 --max-memory 512 ls -la --json -h --max-cpu=9 -- x");
    assert_eq!(i.operands, ["ls", "-la", "--json", "-h", "--max-cpu=9", "--", "x"]);
    assert_eq!(i.values.last("max-cpu").as_deref(), Some("50"));
    assert_eq!(i.values.last("max-memory").as_deref(), Some("512"));
    assert!(!i.values.is("json"));
}

#[test]
fn double_dash_ends_the_flags_once_and_then_belongs_to_the_job() {
    assert_eq!(invocation("job run -- df -h").operands, ["df", "-h"]);
    assert_eq!(invocation("job run -w -- -x -- y").operands, ["-x", "--", "y"]);
    assert_eq!(invocation("job run sh -c true -- a b").operands, ["sh", "-c", "true", "--", "a", "b"]);
    assert_eq!(invocation("job status -- abcd").operands, ["abcd"]);
}

#[test]
fn empty_arguments_of_the_job_pass_unchanged() {
    let line = ["job", "run", "printf", "", "a b", ""].map(OsString::from).to_vec();
    let Ok(Parsed::Invoke(i)) = parse(line) else { panic!() };
    assert_eq!(i.operands, ["printf", "", "a b", ""]);
}

#[test]
fn global_flags_work_before_between_and_after_command_words() {
    for line in ["--json job list", "job --json list", "job list --json", "--json list", "list --json"] {
        let i = invocation(line);
        assert!(i.values.is("json") && i.command.path == ["job", "list"], "{line}");
    }
    let i = invocation("--server=a:1 job run --server b:2 --node=n true --node=m");
    assert_eq!(i.values.all("server"), ["a:1", "b:2"]);
    assert_eq!(i.values.last("server").as_deref(), Some("b:2"));
    assert_eq!(i.values.all("node"), ["n"]);
}

#[test]
fn short_flags_bundle_and_carry_values() {
    let i = invocation("job run -qw -eA=1 -e=B=2 -e C=3 --env=D=4 -s X true");
    assert!(i.values.is("quiet") && i.values.is("wait"));
    assert_eq!(i.values.all("env"), ["A=1", "B=2", "C=3", "D=4"]);
    assert_eq!(i.values.all("secret-env"), ["X"]);
}

#[test]
fn uploads_keep_the_order_of_the_command_line() {
    let i = invocation("job run --upload a --upload-dir d --upload b true");
    let order = i.values.in_order(&["upload", "upload-dir"]);
    let expected = [("upload", "a"), ("upload-dir", "d"), ("upload", "b")].map(|(f, v)| (f, v.to_string()));
    assert_eq!(order, expected);
}

#[test]
fn mistakes_are_named_and_near_misses_suggested() {
    let cases = [
        ("job run --max-memroy=1 true", "unknown flag: --max-memroy", "did you mean --max-memory?"),
        ("job run --device=1 true", "unknown flag: --device", "see `rnx help job run`"),
        (
            "job run --tty sh",
            "--tty is not supported: a job has no terminal",
            "-i alone sends standard input",
        ),
        ("run -it sh", "-t is not supported: a job has no terminal", "-i alone sends standard input"),
        ("job list --tty", "unknown flag: --tty", "see `rnx help job list`"),
        ("job run -x true", "unknown flag: -x", "see `rnx help job run`"),
        ("--max-cpu=1 job run true", "unknown flag: --max-cpu", "--max-cpu belongs behind `rnx job run`"),
        ("job list --follow", "unknown flag: --follow", "--follow belongs behind `rnx job run`"),
        ("job run", "must specify a command to run", "usage: rnx job run [flags] [--] <command> [args...]"),
        (
            "job run --wait --",
            "must specify a command to run",
            "usage: rnx job run [flags] [--] <command> [args...]",
        ),
        ("job status", "must specify a job-uuid", "usage: rnx job status [flags] <job-uuid>..."),
        ("job cancel a b", "unexpected argument: b", "usage: rnx job cancel <job-uuid>"),
        ("job delte x", "unknown command: job delte", "rnx help lists the commands"),
        ("job stpo x", "unknown command: job stpo", "rnx help lists the commands"),
        ("job run --rn true", "unknown flag: --rn", "see `rnx help job run`"),
        ("rm x", "unknown command: rm", "rnx job delete <job> deletes a finished job with its output"),
        ("job list x", "unexpected argument: x", "usage: rnx job list [flags]"),
        ("job rum true", "unknown command: job rum", "did you mean `rnx job run`?"),
        ("jobs", "unknown command: jobs", "did you mean `rnx job`?"),
        ("frobnicate", "unknown command: frobnicate", "rnx help lists the commands"),
        ("job run --name", "flag --name needs a value: --name=NAME", ""),
        (
            "job run --name -- true",
            "flag --name needs a value, but the next word is \"--\"",
            "if that is the value, write --name=--",
        ),
        ("job run --wait=yes true", "flag --wait takes no value", ""),
        ("-- job list", "unknown flag: --", "see `rnx help`"),
    ];
    for (line, text, hint) in cases {
        assert_eq!(refusal(line), (text.to_string(), hint.to_string()), "{line}");
    }
}

#[test]
fn a_value_may_begin_with_a_dash_when_it_is_attached() {
    let i = invocation("job run --name=-x -e=A=-1 --secret-file K=- true");
    assert_eq!(i.values.last("name").as_deref(), Some("-x"));
    assert_eq!(i.values.all("env"), ["A=-1"]);
}

#[test]
fn help_and_version_win_over_missing_operands() {
    for (line, words) in [
        ("", &[][..]),
        ("--help", &[]),
        ("job", &["job"]),
        ("job -h", &["job"]),
        ("job run --help", &["job", "run"]),
        ("-h job run true", &["job", "run"]),
        ("run -h", &["job", "run"]),
        ("config-help", &["config"]),
    ] {
        let Ok(Parsed::Help(found)) = parse(args(line)) else { panic!("{line}") };
        assert_eq!(found, words, "{line}");
    }
    assert!(matches!(parse(args("-v")), Ok(Parsed::Version)));
    assert!(matches!(parse(args("--version")), Ok(Parsed::Version)));
}

#[test]
fn json_flag_is_remembered_when_the_command_line_is_refused() {
    let json = |line| parse(args(line)).unwrap_err().json;
    assert!(json("--json job status"));
    assert!(json("job run --json"));
    assert!(json("--json nonsense"));
    assert!(!json("job status"));
}

#[cfg(unix)]
#[test]
fn bytes_that_are_not_text_are_refused_by_position() {
    use std::os::unix::ffi::OsStringExt;
    let bad = OsString::from_vec(vec![b'a', 0xff]);
    let refused = parse(vec!["job".into(), "run".into(), "ls".into(), bad]).unwrap_err();
    assert_eq!(refused.error.to_string(), "argument 4 is not valid UTF-8");
    assert_eq!(refused.command.map(|c| c.path), Some(&["job", "run"][..]));
}

/// Words that reach every branch more often than noise does.
fn token() -> impl Strategy<Value = OsString> {
    let known = prop::sample::select(vec![
        "job",
        "run",
        "list",
        "status",
        "log",
        "help",
        "--",
        "-",
        "--json",
        "--env",
        "-e",
        "-w",
        "-h",
        "--max-cpu",
        "-o",
        "-qw",
        "--upload",
        "=",
        "--name=",
        "-e=",
        "--=x",
        "",
    ]);
    #[cfg(unix)]
    fn raw(bytes: Vec<u8>) -> OsString {
        std::os::unix::ffi::OsStringExt::from_vec(bytes)
    }
    #[cfg(not(unix))]
    fn raw(bytes: Vec<u8>) -> OsString {
        String::from_utf8_lossy(&bytes).into_owned().into()
    }
    prop_oneof![
        known.prop_map(OsString::from),
        "[-a-zé=]{0,8}".prop_map(OsString::from),
        prop::collection::vec(any::<u8>(), 0..8).prop_map(raw)
    ]
}

proptest! {
    #[test]
    fn no_command_line_makes_the_parser_panic(line in prop::collection::vec(token(), 0..10)) {
        let _ = parse(line);
    }

    #[test]
    fn arguments_after_the_jobs_command_are_never_changed(tail in prop::collection::vec("[ -~]{0,8}", 0..6)) {
        let mut line: Vec<OsString> = ["job", "run", "-w", "cmd"].map(OsString::from).to_vec();
        line.extend(tail.iter().map(OsString::from));
        let Ok(Parsed::Invoke(i)) = parse(line) else { panic!("refused") };
        prop_assert_eq!(&i.operands[1..], &tail[..]);
    }
}
