//! The TAB key in real shells, and the manual page in a real groff.

use crate::helper::TestDaemon;
use crate::helper::daemon::RNX;
use crate::helper::programs::source;
use crate::helper::rnx::{Output, Running};
use std::path::Path;
use std::process::Command;

/// A shell that finds our rnx and this node, without our environment.
fn shell(d: &TestDaemon, program: &str) -> Command {
    let bin = Path::new(RNX).parent().unwrap().display().to_string();
    let mut command = Command::new(program);
    command.env_clear().env("PATH", format!("{bin}:/usr/bin:/bin")).env("HOME", d.dir()).current_dir(d.dir());
    command.env("RNX_CONFIG", d.dir().join("rnx-config.yml")).env("TERM", "xterm").env("LANG", "C.UTF-8");
    command
}

fn script_of(d: &TestDaemon, name: &str) -> String {
    let path = d.dir().join(format!("completion.{name}"));
    std::fs::write(&path, d.rnx(["completion", name]).ok()).unwrap();
    path.display().to_string()
}

/// The answers of bash's completion function for an unfinished line.
fn in_bash(d: &TestDaemon, line: &str) -> Vec<String> {
    let script = script_of(d, "bash");
    let mut command = shell(d, "/bin/bash");
    let ask = r#"source "$1"; COMP_LINE=$2; COMP_POINT=${#2}; _rnx; printf '%s\n' "${COMPREPLY[@]}""#;
    command.args(["--norc", "-c", ask, "bash", &script, line]);
    Running::start(&mut command).finish().ok().lines().map(str::to_owned).filter(|l| !l.is_empty()).collect()
}

/// A shell on a terminal, at whose prompts these lines are typed.
fn typed_in(d: &TestDaemon, shell_words: &[&str], steps: &[(&str, &str)]) -> Output {
    let mut command = shell(d, "/usr/bin/python3");
    command.arg(source("tests/clients/terminal.py"));
    command.args(steps.iter().flat_map(|(words, keys)| [words, keys])).arg("--").args(shell_words);
    Running::start(command.env("PS1", "ready> ")).finish()
}

#[test]
fn every_script_is_one_that_its_shell_takes() {
    let d = TestDaemon::start();
    for (name, shell) in [("bash", "/bin/bash"), ("zsh", "/usr/bin/zsh"), ("fish", "/usr/bin/fish")] {
        let script = script_of(&d, name);
        if !Path::new(shell).exists() {
            skip!("no {name} on this host: its script is not looked at");
        }
        let out = Running::start(Command::new(shell).args(["-n", &script])).finish();
        assert_eq!((out.code, out.stderr.as_str()), (0, ""), "{name}");
    }
    assert_eq!(d.rnx(["completion", "tcsh"]).code, 2);
}

#[test]
fn bash_completes_commands_flags_values_jobs_and_nodes() {
    let d = TestDaemon::start();
    let done = d.submit(["--name", "nightly", "true"]);
    let trap = d.submit(["--name", "$(touch gotcha)", "true"]);
    let running = d.submit(["--name", "trainer", "sleep", "1000"]);
    for over in [&done, &trap] {
        d.until_status(over, "COMPLETED");
    }
    assert_eq!(in_bash(&d, "rnx jo"), ["job"]);
    assert_eq!(in_bash(&d, "rnx job sto"), ["stop"]);
    assert_eq!(in_bash(&d, "rnx job run --max-m"), ["--max-memory"]);
    assert_eq!(
        in_bash(&d, "rnx job list --output="),
        ["table", "wide", "json"],
        "bash keeps what is before ="
    );
    assert_eq!(in_bash(&d, "rnx job list -o w"), ["wide"]);
    assert_eq!(in_bash(&d, "rnx --node=vi"), ["viewer"]);
    assert_eq!(in_bash(&d, "rnx job stop "), ["@last", "trainer", &running]);
    assert_eq!(in_bash(&d, "rnx job delete ni"), ["nightly"]);
    assert_eq!(in_bash(&d, &format!("rnx --node viewer job status {}", &done[..6])), [done.as_str()]);
    assert_eq!(in_bash(&d, "rnx job wait trainer t"), [""; 0], "it is there already");
    assert!(!in_bash(&d, "rnx job log ").iter().any(|word| word.contains("gotcha")));
    assert!(!d.dir().join("gotcha").exists(), "the name of a job was executed");
    // Volumes are offered beside files, with the colon that a path follows; behind it nobody knows a name.
    d.rnx(["volume", "create", "certified", "--size", "1MB", "--type", "memory"]);
    let is_there = d.rnx(["volume", "list"]).ok().contains("certified");
    std::fs::write(d.dir().join("certain file"), "").unwrap();
    let places = in_bash(&d, "rnx cp cert");
    assert_eq!(places.contains(&"certified:".to_owned()), is_there, "{places:?}");
    assert!(!is_there || places.contains(&"certain\\ file".to_owned()), "{places:?}");
    assert_eq!(in_bash(&d, "rnx cp 'certain file' certified:x"), [""; 0]);
    d.rnx(["volume", "remove", "certified"]);
    // Completion prints no error when the server is unreachable or the line is wrong.
    for line in ["rnx --server=localhost:1 job stop ", "rnx --config /nowhere job stop ", "rnx job nonsense "]
    {
        assert_eq!(in_bash(&d, line), [""; 0], "{line}");
    }
    d.rnx(["job", "stop", &running]).ok();
}

#[test]
fn every_flag_is_in_help_in_the_manual_and_in_completion() {
    let d = TestDaemon::start();
    let manual = d.rnx(["man"]).ok().replace("\\-", "-");
    for line in
        d.rnx(["help"]).ok().lines().skip_while(|l| *l != "Commands:").skip(1).take_while(|l| !l.is_empty())
    {
        let command = line.trim().split("  ").next().unwrap();
        let words: Vec<&str> = ["help"].into_iter().chain(command.split(' ')).collect();
        let help = d.rnx(&words).ok();
        let flags =
            help.lines().filter_map(|l| l.trim_start().split("--").nth(1).filter(|_| l.starts_with("  ")));
        let mut in_help: Vec<String> = flags
            .map(|f| format!("--{}", f.split([' ', '=']).next().unwrap()))
            .filter(|f| f.len() > 2)
            .collect();
        in_help.retain(|f| help.contains(&format!("      {f} ")) || help.contains(&format!(", {f} ")));
        let mut in_shell = in_bash(&d, &format!("rnx {command} --"));
        in_help.sort();
        in_help.dedup();
        in_shell.sort();
        assert_eq!(in_help, in_shell, "{command}");
        for flag in in_shell {
            assert!(manual.contains(&format!("\\fB{flag}\\fR")), "{flag} of {command} is not in the manual");
        }
    }
}

#[test]
fn the_tab_key_works_at_the_prompt_of_bash() {
    let d = TestDaemon::start();
    let id = d.submit(["--name", "nightly", "true"]);
    d.until_status(&id, "COMPLETED");
    let out = typed_in(
        &d,
        &["/bin/bash", "--norc", "--noprofile", "-i"],
        &[
            ("ready> ", "source <(rnx completion bash)\\n"),
            ("ready> ", "rnx job stat\\t@la\\t--node=vi\\t\\n"),
            ("Started At: ", ""),
            ("ready> ", "rnx job log ni\\t\\n"),
            ("Logs for job", ""),
            ("ready> ", "exit 9\\n"),
        ],
    );
    out.exits(9);
}

#[test]
fn the_tab_key_works_at_the_prompt_of_zsh() {
    let d = TestDaemon::start();
    if !Path::new("/usr/bin/zsh").exists() {
        skip!("no zsh on this host");
    }
    let id = d.submit(["--name", "nightly", "true"]);
    d.until_status(&id, "COMPLETED");
    let out = typed_in(
        &d,
        &["/usr/bin/zsh", "-f", "-i"],
        &[
            (
                "ready> ",
                "autoload -Uz compinit; compinit -u -D; source <(rnx completion zsh); echo lo''aded\\n",
            ),
            ("loaded", ""),
            ("ready> ", "rnx job stat\\tnig\\t--node=vi\\t\\n"),
            ("Started At: ", ""),
            ("ready> ", "exit 9\\n"),
        ],
    );
    out.exits(9);
}

#[test]
fn fish_completes_with_what_each_word_is() {
    let d = TestDaemon::start();
    if !Path::new("/usr/bin/fish").exists() {
        skip!("no fish on this host");
    }
    let id = d.submit(["--name", "nightly", "true"]);
    d.until_status(&id, "COMPLETED");
    std::fs::create_dir(d.dir().join("inputs")).unwrap();
    let script = script_of(&d, "fish");
    let ask = |line: &str| {
        let mut command = shell(&d, "/usr/bin/fish");
        command.args(["--no-config", "-c", "source $argv[1]; complete -C $argv[2]", &script, line]);
        Running::start(&mut command).finish().ok()
    };
    assert_eq!(ask("rnx job sta"), "status\tShow everything about a job\n");
    assert_eq!(ask("rnx job list --output=w"), "--output=wide\n");
    assert_eq!(ask("rnx job delete nig"), "nightly\tCOMPLETED true\n");
    assert!(ask("rnx job run --upload-dir=inp").contains("--upload-dir=inputs/"));
    assert!(ask("rnx job run python3 inp").contains("inputs/"));
}

#[test]
fn groff_reads_the_manual_without_a_warning() {
    let d = TestDaemon::start();
    if !Path::new("/usr/bin/groff").exists() {
        skip!("no groff on this host");
    }
    let page = d.dir().join("rnx.1");
    std::fs::write(&page, d.rnx(["man"]).ok()).unwrap();
    let groff = |args: &[&str]| Running::start(shell(&d, "/usr/bin/groff").args(args).arg(&page)).finish();
    let out = groff(&["-man", "-ww", "-z", "-Tutf8"]);
    assert_eq!((out.code, out.stderr.as_str()), (0, ""));
    let text = groff(&["-man", "-Tascii", "-P-cbou"]).ok();
    for line in ["--secret-env K=V", "rnx job wait [flags] <job-uuid>...", "JOBLET_SERVER", "128+n"] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
}
