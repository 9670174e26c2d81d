//! The daemon as a program: set-up, flags, configuration, start and end.

use crate::helper::daemon::{JOBLET, Node, RNX};
use crate::helper::rnx::{Output, Running};
use crate::helper::wait::holds;
use crate::helper::{TestDaemon, eventually, residue};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

fn joblet<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    Running::start(Command::new(JOBLET).args(args).env_clear()).finish()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).permissions().mode() & 0o777
}

#[test]
fn setup_writes_a_working_set_once_and_keeps_keys_to_itself() {
    let node = Node::set_up();
    for file in residue::files(node.dir()) {
        let text = fs::read_to_string(&file).unwrap_or_default();
        if text.contains("PRIVATE KEY") {
            assert_eq!(mode(&file) & 0o077, 0, "{} can be read by others", file.display());
        }
    }
    for name in [
        "joblet-config.yml",
        "rnx-config.yml",
        "certs/ca-cert.pem",
        "certs/client-cert.pem",
        "certs/client-key.pem",
    ] {
        assert!(node.dir().join(name).exists(), "{name}");
    }
    let before = fs::read(node.dir().join("rnx-config.yml")).unwrap();
    let again = |extra: &[&str]| {
        let mut args = vec!["setup", "--dir", node.dir().to_str().unwrap()];
        args.extend(extra);
        joblet(args)
    };
    let out = again(&[]);
    assert_ne!(out.code, 0, "a working set must not be overwritten");
    assert!(out.stderr.contains("--force"), "{}", out.stderr);
    assert_eq!(fs::read(node.dir().join("rnx-config.yml")).unwrap(), before);
    again(&["--force"]).ok();
    assert_ne!(fs::read(node.dir().join("rnx-config.yml")).unwrap(), before);
}

#[test]
fn flags_of_the_daemon_do_what_help_says() {
    let help = joblet(["--help"]).ok();
    for flag in ["--foreground", "--config", "--check-config", "--version", "setup", "doctor", "--json"] {
        assert!(help.contains(flag), "{flag} in: {help}");
    }
    let version = joblet(["--version"]).ok();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let wrong = joblet(["--no-such-flag"]);
    assert_ne!(wrong.code, 0);
    assert!(wrong.stderr.contains("--no-such-flag"), "{}", wrong.stderr);
    let missing = joblet(["--foreground", "--config", "/no/such/file"]);
    assert!(missing.code != 0 && missing.stderr.contains("/no/such/file"), "{}", missing.stderr);
}

#[test]
fn check_config_prints_effective_keys_and_warns_of_unknown_ones() {
    let node = Node::set_up();
    node.set("joblet.maxConcurentJobs", 7);
    node.set("joblet.stopGracePeriod", "250ms");
    let out = joblet(["--check-config", "--config", node.config().to_str().unwrap()]);
    let text = out.ok();
    assert!(text.contains("stopGracePeriod: 250ms"), "{text}");
    let said = format!("{text}{}", out.stderr);
    assert!(
        said.contains("maxConcurentJobs") && said.contains("maxConcurrentJobs"),
        "no 'did you mean': {said}"
    );
    assert!(!said.contains("PRIVATE KEY-----\n  MI"), "a private key is printed");
    node.set("joblet.stopGracePeriod", "soon");
    let out = joblet(["--check-config", "--config", node.config().to_str().unwrap()]);
    assert!(out.code != 0 && out.stderr.contains("stopGracePeriod"), "{}", out.stderr);
}

#[test]
fn check_config_refuses_credentials_that_a_start_would_refuse() {
    let node = Node::set_up();
    let check = || joblet(["--check-config", "--config", node.config().to_str().unwrap()]);
    check().ok();
    fs::write(node.dir().join("revoked.pem"), "").unwrap();
    let out = check();
    assert_eq!(out.code, 1);
    assert!(out.stderr.contains("cannot use security.revocationList"), "{}", out.stderr);
    node.set("security.revocationList", serde_yaml::Value::Null);
    node.set("security.serverCert", "x");
    assert!(check().stderr.contains("cannot use security.serverCert: it is no certificate"));
}

#[test]
fn a_key_that_others_can_read_stops_the_daemon() {
    let node = Node::set_up();
    fs::set_permissions(node.config(), fs::Permissions::from_mode(0o644)).unwrap();
    let out = Running::start(&mut node.command()).finish();
    assert_ne!(out.code, 0);
    let said = format!("{}{}", out.text(), out.stderr);
    assert!(said.contains("joblet-config.yml") && said.contains("chmod"), "{said}");
}

#[test]
fn a_second_daemon_on_the_same_port_says_so_and_ends() {
    let d = TestDaemon::start();
    let other = Node::set_up();
    other.set("server.port", d.port());
    let out = Running::start(&mut other.command()).finish();
    assert_ne!(out.code, 0);
    let said = format!("{}{}", out.text(), out.stderr);
    assert!(said.contains(&d.port().to_string()), "{said}");
    assert_eq!(residue::group_of(other.dir()), None, "it leaves its cgroup behind");
    assert!(residue::group_of(d.dir()).is_some(), "the running one has its own");
    d.run(["true"]).ok();
}

#[test]
fn an_orderly_end_stops_jobs_ends_streams_and_exits_with_zero() {
    // Side by side: rnx gives an unreachable daemon a minute to come back.
    std::thread::scope(|scope| {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            scope.spawn(move || end_in_order(signal));
        }
    });
}

fn end_in_order(signal: Signal) {
    let d = TestDaemon::start();
    let id = d.submit(["sh", "-c", "echo up; exec sleep 1000"]);
    let follower = d.rnx_spawn(["job", "log", &id]);
    let waiter = d.rnx_spawn(["job", "run", "--wait", "-q", "sleep", "1000"]);
    eventually("the follower follows", || holds(follower.printed() == "up\n".len()));
    eventually("both jobs run", || holds(d.rnx(["job", "list"]).text().matches("RUNNING").count() == 2));
    d.signal(signal);
    let (follower, waiter) = (follower.finish(), waiter.finish());
    assert_eq!(follower.text(), "up\n");
    assert_ne!(follower.code, 0, "the stream did not end by itself: {}", follower.stderr);
    assert_ne!(waiter.code, 0);
    // Drop sends TERM again and checks exit 0 and that nothing is left.
}

#[test]
fn next_daemon_with_memory_state_ends_jobs_of_a_killed_daemon() {
    let d = TestDaemon::with([("state.backend", "memory")]);
    let uids = d.uids();
    let id = d.submit(["sh", "-c", "echo up; exec sleep 1000"]);
    let spool = d.dir().join("spool").join(&id);
    eventually("the output is in the spool", || {
        holds(fs::read(spool.join("stdout")).is_ok_and(|bytes| bytes == b"up\n"))
    });
    let node = d.crash();
    assert!(!residue::payloads_of(&uids).is_empty(), "the job outlives its daemon");
    let d = node.start();
    eventually("the job is ended", || holds(residue::payloads_of(&uids).is_empty()));
    eventually("its output is gone, for nobody could ask for it", || holds(!spool.exists()));
    d.rnx(["job", "status", &id]).exits(5);
    assert_eq!(d.run(["echo", "next"]).ok(), "next\n");
}

#[test]
fn log_has_one_line_per_event_and_values_cannot_forge_lines() {
    let d = TestDaemon::start();
    let id = d.submit(["--", "echo", "a\n[2024-01-01T00:00:00Z] [ERROR] forged", "\x1b[31m"]);
    d.until_status(&id, "COMPLETED");
    d.until_logged("job started successfully");
    d.until_logged("job ended");
    let log = d.log();
    assert!(!log.contains("\n[2024-01-01T00:00:00Z] [ERROR] forged") && !log.contains('\x1b'), "{log}");
    let line = log.lines().find(|l| l.contains("job started successfully") && l.contains(&id));
    let line = line.unwrap_or_else(|| panic!("no life-cycle line: {log}"));
    assert!(line.starts_with('[') && line.contains("] [INFO] job started successfully | jobId="), "{line}");
}

#[test]
fn rnx_fails_fast_on_a_dead_server() {
    let node = Node::set_up();
    let mut command = Command::new(RNX);
    command
        .env_clear()
        .env("HOME", "/")
        .arg("--config")
        .arg(node.dir().join("rnx-config.yml"))
        .args(["job", "list"]);
    let before = std::time::Instant::now();
    let out = Running::start(&mut command).finish();
    assert_eq!(out.code, 3, "{}", out.stderr);
    assert!(before.elapsed() < std::time::Duration::from_secs(5), "took {:?}", before.elapsed());
}

#[test]
fn unsupported_request_field_is_refused_by_name() {
    use joblet::pb::joblet::RunJobRequest;
    let d = TestDaemon::start();
    let client = d.client("default");
    let base = || RunJobRequest { command: "true".to_owned(), ..Default::default() };
    let invalid = grpcio::RpcStatusCode::INVALID_ARGUMENT;
    for (field, code, request) in [
        ("gpu_memory_mb", invalid, RunJobRequest { gpu_memory_mb: 1, ..base() }),
        ("workflowUuid", invalid, RunJobRequest { workflowUuid: "x".to_owned(), ..base() }),
        ("jobUuid", invalid, RunJobRequest { jobUuid: "x".to_owned(), ..base() }),
    ] {
        let Err(grpcio::Error::RpcFailure(status)) = client.run_job(&request) else {
            panic!("{field} was taken")
        };
        assert_eq!(status.code(), code, "{field}: {}", status.message());
        assert!(status.message().contains(field), "{field}: {}", status.message());
    }
}
