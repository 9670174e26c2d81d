//! A person's first commands: what a terminal shows, how several jobs are named, and the answers to mistakes.

use super::client::at_a_terminal;
use crate::helper::TestDaemon;
use crate::helper::daemon::RNX;
use crate::helper::rnx::{Output, Running};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

#[test]
fn progress_bar_redraws_its_line_and_nothing_else() {
    let d = TestDaemon::start();
    let bar = "printf ' 10 %%\\r 20 %%\\b%%\\033[K\\r\\033[2Kdone\\033[2J\\033[1A'";
    let shown = at_a_terminal(&d, &[], &["job", "run", "--follow", "sh", "-c", bar]).ok();
    assert!(shown.contains(" 10 %\r 20 %\u{8}%\u{1b}[K\r\u{1b}[2Kdone^[[2J^[[1A"), "{shown:?}");
    assert!(shown.contains("^[[1A\r\nexit 0 in "), "the last line is one of its own: {shown:?}");
    let stamped = at_a_terminal(&d, &[], &["job", "log", "--timestamps", "@last"]).ok();
    assert!(stamped.contains("Z  10 %^M 20 %^H%^[[K^M^[[2Kdone"), "the time is not overwritten: {stamped:?}");
    let piped = d.rnx(["job", "log", "@last"]).ok();
    assert_eq!(piped, " 10 %\r 20 %\u{8}%\u{1b}[K\r\u{1b}[2Kdone\u{1b}[2J\u{1b}[1A");
}

#[test]
fn list_is_a_table_on_a_terminal_and_lines_in_a_pipe() {
    let d = TestDaemon::start();
    let long = d.submit(["--name", &"\u{4e16}\u{754c}".repeat(15), "true", &"word ".repeat(40)]);
    let failed = d.submit(["--name", "train-1", "sh", "-c", "exit 3"]);
    let later = d.submit(["--name", "train-2", "--schedule", "1d", "true"]);
    d.until_status(&long, "COMPLETED");
    d.until_status(&failed, "FAILED");
    let shown = at_a_terminal(&d, &[], &["job", "list"]).ok().replace("\u{1b}[0m", "");
    let lines: Vec<&str> = shown.lines().collect();
    let words: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(words, ["ID", "NAME", "STATUS", "EXIT", "AGE", "TOOK", "COMMAND"]);
    assert!(
        lines[1].starts_with(&long[..8]) && lines[1].ends_with("...") && !lines[1].contains(&long),
        "{shown}"
    );
    let cells: Vec<&str> = lines[2].split_whitespace().collect();
    assert_eq!((cells[0], cells[1], cells[3]), (&failed[..8], "train-1", "3"), "{shown}");
    let cells: Vec<&str> = lines[3].split_whitespace().collect();
    assert_eq!(
        (cells[0], cells[3], cells[5]),
        (&later[..8], "-", "-"),
        "no code of a job that has not run: {shown}"
    );
    let piped = d.rnx(["job", "list"]).ok();
    assert!(piped.contains(&format!("{failed} FAILED StartTime: 2")) && !piped.contains("STATUS"), "{piped}");
    let ids = |flags: &[&str]| -> Vec<String> {
        let text = d.rnx([&["job", "list"], flags].concat()).ok();
        text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&["--last", "2"]), [failed.clone(), later.clone()]);
    assert_eq!(ids(&["--last", "2", "--reverse"]), [later.clone(), failed.clone()]);
    assert_eq!(ids(&["--name", "train-*"]), [failed, later.clone()]);
    assert_eq!(d.rnx(["ps"]).ok(), piped, "a word of other tools");
    d.rnx(["job", "cancel", &later]).ok();
    let canceled = d.rnx(["job", "list", "--status", "canceled"]).ok();
    assert!(canceled.contains(" CANCELED StartTime: N/A Command: true"), "{canceled}");
    let again = d.rnx(["job", "cancel", &later]);
    assert!(again.code == 6 && !again.stderr.contains("job stop"), "it has ended: {}", again.stderr);
}

#[test]
fn several_jobs_are_shown_read_stopped_and_deleted_at_once() {
    let d = TestDaemon::start();
    let run = |word: &str| d.submit(["--name", word, "sh", "-c", &format!("echo {word}; exec sleep 1000")]);
    let (a, b) = (run("a"), run("b"));
    let both = d.rnx(["job", "status", "--json", "a", "b", "a"]).json();
    assert_eq!((both.as_array().map(Vec::len), &both[1]["uuid"]), (Some(2), &b.as_str().into()));
    assert!(d.rnx(["job", "status", &a, &b]).ok().contains("\n\nId: "));
    let typo = d.rnx(["job", "stop", "a", "nobody"]);
    assert_eq!(
        (typo.code, &d.status(&a)["status"]),
        (5, &"RUNNING".into()),
        "nothing is done before all are known"
    );
    let done = d.submit(["--name", "done", "echo", "over"]);
    d.until_status(&done, "COMPLETED");
    let stopped = d.rnx(["job", "stop", "done", "a", "b"]);
    assert_eq!(stopped.exits(6).matches("Job stopped successfully:").count(), 2, "{}", stopped.stderr);
    assert!(stopped.stderr.contains("Error: job is not running"), "{}", stopped.stderr);
    assert_eq!(d.rnx(["job", "log", "a", "done", "b"]).ok(), "a\nover\nb\n");
    let lines = d.rnx(["job", "log", "--json", "a", "done"]).ok();
    assert!(lines.lines().count() == 2 && lines.contains(&format!("{{\"uuid\":\"{done}\"")), "{lines}");
    let deleted = d.rnx(["job", "delete", "--json", "a", "b", "done", &uuid_of_nobody()]);
    assert_eq!(deleted.code, 5);
    assert_eq!(
        (&deleted.json()[2]["success"], &deleted.json()[3]["code"]),
        (&true.into(), &"NOT_FOUND".into())
    );
    assert_eq!(d.rnx(["job", "list", "--json"]).text().trim(), "[]");
}

fn uuid_of_nobody() -> String {
    "f47ac10b-58cc-4372-a567-0e02b2c3d479".to_owned()
}

#[test]
fn a_run_and_a_wait_say_what_a_person_needs_next() {
    let d = TestDaemon::start();
    let started = d.rnx(["job", "run", "true"]);
    let id = &started.id()[..8];
    assert!(started.stderr.contains(&format!("Output: rnx job log {id}   ")), "{}", started.stderr);
    for quiet in [&["-q"][..], &["--json"]] {
        let out = d.rnx([&["job", "run"], quiet, &["true"]].concat());
        assert!(!out.stderr.contains("Output:"), "{}", out.stderr);
    }
    let followed = d.rnx(["job", "run", "--follow", "sh", "-c", "echo x; exit 3"]);
    assert_eq!(followed.exits(3), "x\n", "the line is not the job's");
    let last = followed.stderr.lines().last().unwrap();
    assert!(last.starts_with("exit 3 in ") && last.contains(" s"), "{last}");
    let quiet = d.rnx(["job", "run", "-q", "--follow", "true"]);
    assert!(!quiet.stderr.contains("exit 0"), "{}", quiet.stderr);
    let named = d.submit(["--name", "short", "sleep", "1"]);
    let shown = at_a_terminal(&d, &[("so far", "")], &["job", "wait", &named, "short", id]).ok();
    assert!(shown.contains(&format!("Waiting for short ({}, RUNNING), ", &named[..8])), "{shown:?}");
    assert!(shown.contains("3 jobs ended: 3 COMPLETED; waited "), "{shown:?}");
}

#[test]
fn limits_without_a_controller_are_named_once_a_day() {
    let d = TestDaemon::start();
    let run = || d.rnx(["job", "run", "true"]);
    let warnings = |out: &Output| out.text().matches("Warning: ").count();
    let (first, second) = (run(), run());
    let status = d.rnx(["job", "status", &second.id()]);
    assert_eq!(warnings(&first), warnings(&status), "{}", first.text());
    assert_eq!(warnings(&second), 0, "{}", second.text());
}

#[test]
fn mistakes_are_answered_with_what_helps() {
    let d = TestDaemon::start();
    let long = d.rnx(["job", "run", "--timeout", "2h", "true"]);
    assert_eq!(long.code, 125);
    assert!(long.stderr.contains("joblet.jobTimeout of this node allows at most 1h"), "{}", long.stderr);
    assert_eq!(d.rnx(["job", "list", "--json"]).text().trim(), "[]", "no job came of it");
    let nobody = d.rnx(["--json", "job", "status", &uuid_of_nobody()]);
    assert_eq!((nobody.code, nobody.json()["code"].as_str()), (5, Some("NOT_FOUND")));
    assert!(nobody.stderr.starts_with("Error: job not found: "), "a person reads it too: {}", nobody.stderr);
    for (line, hint) in [
        (&["kill", "x"][..], "rnx job stop <job> ends a job"),
        (&["job", "rm", "x"], "rnx job delete <job> deletes a finished job"),
        (&["job", "delte", "x"], "rnx help lists the commands"),
    ] {
        let out = d.rnx(line);
        assert!(out.code == 2 && out.stderr.contains(hint), "{line:?}: {}", out.stderr);
        assert!(!out.stderr.contains("did you mean"), "{}", out.stderr);
    }
}

#[test]
fn issued_configuration_is_used_as_it_is() {
    let d = TestDaemon::start();
    let said = d.joblet(["certs", "issue", "--dir", ".", "--role", "viewer", "--name", "ann"]).ok();
    let file = d.dir().join("certs/ann-rnx-config.yml");
    assert!(said.contains(&format!("rnx --config {} job list", file.display())), "{said}");
    let as_ann = |words: &[&str]| {
        let mut command = Command::new(RNX);
        command.env_clear().env("HOME", d.dir()).arg("--config").arg(&file).args(words);
        Running::start(&mut command).finish()
    };
    assert_eq!(as_ann(&["job", "list"]).ok(), "No jobs found\n");
    assert_eq!(as_ann(&["job", "delete-all", "-y"]).code, 4, "she is a viewer");
}

/// Runs a copy of rnx as a user without privileges whose home directory belongs to somebody else.
#[test]
fn configuration_that_may_not_be_read_is_not_called_missing() {
    let place = tempfile::tempdir().unwrap();
    let open = |mode: u32, name: &str| {
        let path = place.path().join(name);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    open(0o755, ".");
    std::fs::copy(RNX, place.path().join("rnx")).unwrap();
    std::fs::create_dir_all(place.path().join("home/.rnx")).unwrap();
    std::fs::write(place.path().join("home/.rnx/rnx-config.yml"), "nodes: {a: {}}").unwrap();
    let (rnx, home) = (open(0o755, "rnx"), open(0o700, "home"));
    let script = "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); os.execv(sys.argv[1], sys.argv[1:])";
    let list = |more: &[&str]| {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", script]).arg(&rnx).args(more).args(["job", "list"]);
        Running::start(command.env_clear().env("HOME", &home).current_dir("/")).finish()
    };
    let file = home.join(".rnx/rnx-config.yml").display().to_string();
    let found = list(&[]);
    assert_eq!(found.code, 1);
    let expected = format!("cannot read client configuration {file}: permission denied");
    assert!(found.stderr.contains(&expected) && !found.stderr.contains("not found"), "{}", found.stderr);
    let named = list(&["--config", &file]);
    assert!(named.code == 1 && named.stderr.contains("Permission denied"), "{}", named.stderr);
    assert!(named.stderr.contains("hint: run rnx as a user who may read it"), "{}", named.stderr);
}
