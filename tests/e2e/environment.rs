//! The environment of a job, and the places where secrets must not appear.

use crate::helper::programs::job;
use crate::helper::{TestDaemon, residue};
use joblet::pb::joblet::{EmptyRequest, RunJobRequest};
use std::fs;

const SECRET: &str = "correct-horse-battery-staple";

#[test]
fn the_environment_is_the_documented_one_and_then_the_users() {
    let d = TestDaemon::start();
    let text = d.run(["-e", "GREETING=hello world", "-e", "PATH=/usr/bin:/bin:/work", "--", "env"]).ok();
    let has = |line: &str| assert!(text.lines().any(|l| l == line), "no {line} in:\n{text}");
    for line in [
        "HOME=/work",
        "PWD=/work",
        "LANG=C.UTF-8",
        "JOB_TYPE=standard",
        "GREETING=hello world",
        "PATH=/usr/bin:/bin:/work",
    ] {
        has(line);
    }
    let names: Vec<&str> = text.lines().filter_map(|l| l.split_once('=')).map(|(name, _)| name).collect();
    let known = [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "PWD",
        "LANG",
        "HOSTNAME",
        "JOB_ID",
        "JOB_TYPE",
        "JOB_MAX_CPU",
        "JOB_MAX_MEMORY",
        "JOB_MAX_IOBPS",
        "JOB_CPU_CORES",
        "GREETING",
        "_",
    ];
    let strange: Vec<_> = names.iter().filter(|n| !known.contains(n)).collect();
    assert!(strange.is_empty(), "not declared: {strange:?}");
}

#[test]
fn nothing_of_the_daemons_environment_reaches_a_job() {
    let d = crate::helper::daemon::Node::set_up().start_with(|command| {
        command.env("AWS_SECRET_ACCESS_KEY", "of-the-daemon").env("LD_PRELOAD_X", "of-the-daemon");
    });
    let script = "env; cat /proc/self/environ /proc/1/environ /proc/1/cmdline 2>&1";
    let text = d.run(["sh", "-c", script]).text();
    assert!(!text.contains("of-the-daemon"), "{text}");
    assert!(!text.contains(d.dir().to_str().unwrap()), "{text}");
}

#[test]
fn reserved_and_malformed_names_are_refused() {
    let d = TestDaemon::start();
    let client = d.client("default");
    for (name, value) in [
        ("JOB_ID", "x"),
        ("JOB_TYPE", "runtime-build"),
        ("JOBLET_MODE", "init"),
        ("", "x"),
        ("A=B", "x"),
        ("A", "x\0y"),
        ("A\0B", "x"),
    ] {
        for secret in [false, true] {
            let mut request =
                joblet::pb::joblet::RunJobRequest { command: "true".to_owned(), ..Default::default() };
            let map = if secret { &mut request.secret_environment } else { &mut request.environment };
            map.insert(name.to_owned(), value.to_owned());
            let error = client.run_job(&request).expect_err("a bad name was taken").to_string();
            assert!(
                error.contains("INVALID_ARGUMENT") || error.contains("3-"),
                "{name:?}={value:?}: {error}"
            );
            assert!(!error.contains("x\0y"), "the value is in the error: {error}");
        }
    }
}

#[test]
fn loader_variables_reach_the_payload_only() {
    let d = TestDaemon::start();
    let text = d
        .run([
            "-e",
            "LD_DEBUG_OUTPUT=/work/ld",
            "-e",
            "LD_DEBUG=libs",
            "sh",
            "-c",
            "ls /work; cat /proc/1/environ; exit 0",
        ])
        .ok();
    assert!(text.starts_with("ld."), "the payload's loader saw it: {text}");
    assert!(!text.contains("LD_DEBUG"), "init saw it: {text}");
    assert_eq!(
        residue::files(&d.dir().join("run")).iter().filter(|f| f.to_string_lossy().contains("ld.")).count(),
        0
    );
}

#[test]
fn a_secret_is_in_the_jobs_environment_and_nowhere_else() {
    let d = crate::helper::daemon::Node::set_up();
    d.set("logging.level", "DEBUG");
    let d = d.start();
    let pair = format!("API_KEY={SECRET}");
    // The running job keeps the secret in its environment during the search.
    let id = d.submit(["-s", &pair, "sh", "-c", "printf %s \"$API_KEY\" | wc -c; exec sleep 1000"]);
    let failed = d.rnx(["job", "run", "-q", "-s", &pair, "/no/such/program"]).id();
    let mut seen = String::new();
    for args in [
        vec!["job", "status", &id],
        vec!["--json", "job", "status", &id],
        vec!["--json", "job", "status", &failed],
        vec!["job", "list"],
        vec!["job", "list", "-o", "wide"],
        vec!["--json", "job", "list"],
    ] {
        let out = d.rnx(&args);
        seen.push_str(&out.ok());
        seen.push_str(&out.stderr);
    }
    assert!(seen.contains("***") && !seen.contains(SECRET), "{seen}");
    assert!(!d.log().contains(SECRET), "in the daemon's log");
    // Every process of the node but the payload itself: command lines, and init's environment.
    for pid in residue::children_of(d.pid()) {
        for file in ["cmdline", "environ"] {
            let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&text).contains(SECRET), "in /proc/{pid}/{file}");
        }
    }
    d.rnx(["job", "stop", &id]).ok();
    for file in residue::files(d.dir()) {
        let text = fs::read(&file).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&text).contains(SECRET), "in {}", file.display());
    }
}

#[test]
fn plain_variables_are_visible_whatever_their_names() {
    let d = TestDaemon::start();
    let run = d.submit(["-e", "API_KEY=plain-1", "-e", "SECRET_X=plain-2", "true"]);
    let later = ["--schedule", "1h", "-e", "DB_PASSWORD=plain-3", "sh", "-c", "true"];
    let waits = d.submit(later);
    let all = d.client("viewer").list_jobs(&EmptyRequest::default()).unwrap();
    let all = format!("{all:?}");
    let shown = d.rnx(["--json", "job", "status", &run]).json();
    assert_eq!(
        (&shown["environment"]["API_KEY"], &shown["environment"]["SECRET_X"]),
        (&"plain-1".into(), &"plain-2".into())
    );
    assert!(all.contains("plain-1") && all.contains("plain-3") && !all.contains("***"), "{all}");
    // A text on a screen hides them by their names, but for a flag.
    let text = d.rnx(["job", "status", &waits]).ok();
    assert!(text.contains("DB_PASSWORD=***") && !text.contains("plain-3"), "{text}");
    let text = d.rnx(["job", "status", "--show-env", &waits]).ok();
    assert!(text.contains("DB_PASSWORD=plain-3"), "{text}");
    d.rnx(["job", "cancel", &waits]).ok();
}

#[test]
fn command_of_blanks_is_an_invalid_argument() {
    let d = TestDaemon::start();
    for blank in ["", " ", "\t \n"] {
        let request = RunJobRequest { command: blank.to_owned(), ..Default::default() };
        let error = d.client("default").run_job(&request).expect_err("it was taken");
        let grpcio::Error::RpcFailure(status) = error else { panic!("{blank:?}: {error}") };
        assert_eq!(status.code(), grpcio::RpcStatusCode::INVALID_ARGUMENT, "{blank:?}");
        assert_eq!(status.message(), "command is required");
    }
    assert_eq!(d.rnx(["job", "list", "--json"]).text().trim(), "[]");
}

#[test]
fn secrets_can_be_given_outside_the_command_line() {
    let d = TestDaemon::start();
    let mut command = d.rnx_command([
        "job",
        "run",
        "-q",
        "--follow",
        "--secret-env",
        "API_KEY",
        "sh",
        "-c",
        "echo $API_KEY",
    ]);
    let out = crate::helper::rnx::Running::start(command.env("API_KEY", SECRET)).finish();
    assert_eq!(out.ok(), format!("{SECRET}\n"));
    fs::write(d.dir().join("key"), SECRET).unwrap();
    let out = d.run(["--secret-file", "API_KEY=key", "sh", "-c", "echo $API_KEY"]);
    assert_eq!(out.ok(), format!("{SECRET}\n"));
    // A secret on the command line works, with a warning.
    let out = d.rnx(["job", "run", "--wait", "-s", &format!("API_KEY={SECRET}"), "true"]);
    out.ok();
    assert!(out.stderr.to_lowercase().contains("secret"), "no warning: {}", out.stderr);
}

#[test]
fn a_job_type_of_the_users_changes_nothing() {
    let d = TestDaemon::start();
    let probe = job("inside.py").display().to_string();
    // Names that other systems use to weaken their isolation.
    let args = ["-e", "CI_MODE=true", "-e", "MODE=init", "--upload", &probe, "/usr/bin/python3", "inside.py"];
    let found: serde_json::Value = serde_json::from_str(&d.run(args).ok()).unwrap();
    assert_eq!(found["status"]["CapBnd"], "0000000000000000\n".trim());
}
