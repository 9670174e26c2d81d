//! A serving node under the acts of an administrator, a kernel without resources, or a crowd of jobs.

use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::rnx::Running;
use crate::helper::wait::{eventually, holds};
use crate::helper::{residue, soak};
use grpcio::{CallOption, Client, Marshaller, Method, MethodType, RpcStatusCode, pb_de, pb_ser};
use joblet::pb::joblet::{EmptyRequest, FileUpload, RunJobRequest, RunJobResponse, StopJobReq};
use joblet::pb::joblet_grpc::JobServiceClient;
use nix::sys::signal::Signal;
use serde_yaml::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Clients that start and stop the jobs of a crowd.
const CLIENTS: usize = 8;
/// The number of RunJobs that one client has in progress at once.
const FLOOD: usize = 5000;

fn bounded() -> CallOption {
    CallOption::default().timeout(Duration::from_secs(60))
}

fn sh(script: &str) -> RunJobRequest {
    RunJobRequest { command: "sh".into(), args: vec!["-c".into(), script.into()], ..Default::default() }
}

/// The status code and the message of a refused request.
#[track_caller]
fn refusal<T: std::fmt::Debug>(reply: grpcio::Result<T>) -> (RpcStatusCode, String) {
    match reply {
        Err(grpcio::Error::RpcFailure(why)) => (why.code(), why.message().to_owned()),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn limits_and_times_that_cannot_be_are_refused_by_name() {
    let d = TestDaemon::start();
    let client = d.client("default");
    let ask = || sh("true");
    let text = |text: &str| text.to_owned();
    let mut bad: Vec<(&str, RunJobRequest)> = Vec::new();
    for number in [-1, i32::MIN, 1_000_000_000] {
        bad.push(("maxCPU", RunJobRequest { maxCpu: number, ..ask() }));
        bad.push(("maxMemory", RunJobRequest { maxMemory: number, ..ask() }));
    }
    bad.push(("maxMemory", RunJobRequest { maxMemory: 1, ..ask() }));
    for number in [-1, 1, i32::MIN] {
        bad.push(("maxIOBPS", RunJobRequest { maxIobps: number, ..ask() }));
    }
    for cores in ["0-99999", "3-1", "a", "-1", "0,,1", "0-", "4294967296"] {
        bad.push(("cpuCores", RunJobRequest { cpuCores: text(cores), ..ask() }));
    }
    for at in [
        "9999-12-31T23:59:59Z",
        "2026-02-30T00:00:00Z",
        "tomorrow",
        "2026-08-03T15:00:00",
        "-1",
        "99999999999",
    ] {
        bad.push(("schedule", RunJobRequest { schedule: text(at), ..ask() }));
    }
    for bound in ["-1s", "0s", "99999999999999999999h", "9223372036855s", "1y", "s", "1e9h", "2562047h"] {
        bad.push(("timeout", RunJobRequest { timeout: text(bound), ..ask() }));
    }
    for (field, request) in bad {
        let (code, message) = refusal(client.run_job_opt(&request, bounded()));
        assert_eq!(code, RpcStatusCode::INVALID_ARGUMENT, "{field}: {message}");
        assert!(message.contains(field), "{field} is not named: {message}");
    }
    assert_eq!(d.rnx(["job", "list", "--json"]).text().trim(), "[]", "nothing of it may become a job");
    // The longest timeout that the node allows and times in the past are accepted.
    for fine in [
        RunJobRequest { timeout: text("1h"), ..ask() },
        RunJobRequest { schedule: text("1970-01-01T00:00:00Z"), ..ask() },
        RunJobRequest { schedule: text("0001-01-01T00:00:00Z"), ..ask() },
    ] {
        let id = client.run_job_opt(&fine, bounded()).unwrap().jobUuid;
        d.until_status(&id, "COMPLETED");
    }
}

#[test]
fn unused_signals_do_nothing_and_a_second_term_changes_nothing() {
    let node = Node::set_up();
    node.set("joblet.onShutdown", "keep");
    let d = node.start();
    let id = d.submit(["sh", "-c", "echo there; exec sleep 1000"]);
    eventually("it has printed", || holds(d.rnx(["job", "log", "--no-follow", &id]).text() == "there\n"));
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGQUIT, Signal::SIGPIPE] {
        d.signal(signal);
        d.rnx(["job", "list"]).ok();
    }
    d.reload();
    assert_eq!(d.status(&id)["status"], "RUNNING");
    // The first of the two is sent here, the second one follows at once.
    d.signal(Signal::SIGTERM);
    let d = d.leave().start();
    assert_eq!(d.status(&id)["status"], "RUNNING");
    assert_eq!(d.rnx(["job", "log", "--no-follow", &id]).text(), "there\n");
    d.rnx(["job", "stop", &id]).ok();
    d.stop();
}

/// The cgroup directory of a job.
fn group(id: &str) -> PathBuf {
    let mount = residue::cgroup2_mount().expect("a cgroup v2 hierarchy");
    residue::directories(&mount, &|name| name.contains(id)).pop().expect("the job has a group")
}

/// Moves a job's processes out of its group, and removes the group; returns the processes.
fn move_out(id: &str) -> BTreeSet<String> {
    let (from, to) = (group(id), residue::cgroup2_mount().unwrap().join("cgroup.procs"));
    let mut pids = BTreeSet::new();
    // Between two looks the shell may fork, and a forking process may be moved.
    eventually("the group is empty and removed", || {
        for pid in fs::read_to_string(from.join("cgroup.procs")).unwrap().lines() {
            fs::write(&to, pid).unwrap();
            pids.insert(pid.to_owned());
        }
        holds(fs::remove_dir(&from).is_ok())
    });
    pids
}

#[test]
fn daemon_handles_a_cgroup_killed_frozen_or_emptied_by_hand() {
    let d = TestDaemon::start();
    let start = || d.submit(["sh", "-c", "sleep 1000 & exec sleep 1000"]);
    let id = start();
    fs::write(group(&id).join("cgroup.kill"), "1").unwrap();
    d.until_status(&id, "FAILED");
    let told = d.status(&id);
    assert_eq!((told["exit_reason"].as_str(), told["exitCode"].as_i64()), (Some("lost"), Some(-1)), "{told}");

    let id = start();
    fs::write(group(&id).join("cgroup.freeze"), "1").unwrap();
    assert_eq!(d.status(&id)["status"], "RUNNING");
    d.rnx(["job", "stop", &id]).ok();
    assert_eq!(d.status(&id)["status"], "STOPPED");

    let (id, lost) = (start(), start());
    let (moved, gone) = (move_out(&id), |pid: &String| !Path::new("/proc").join(pid).exists());
    let given_up = move_out(&lost);
    let node = d.crash();
    fs::remove_file(node.dir().join("run/exit").join(&lost)).unwrap();
    let d = node.start();
    assert_eq!(d.status(&id)["status"], "RUNNING");
    d.rnx(["job", "stop", &id]).ok();
    assert_eq!(d.status(&id)["status"], "STOPPED");
    eventually("what was moved is gone too", || holds(moved.iter().all(gone)));
    let told = d.status(&lost);
    assert_eq!(
        (told["status"].as_str(), told["exit_reason"].as_str()),
        (Some("FAILED"), Some("lost")),
        "{told}"
    );
    assert!(told["message"].as_str().unwrap().contains("cannot be taken over"), "{told}");
    assert!(given_up.iter().all(gone), "what cannot be taken over is ended, wherever it is");
    d.run(["true"]).ok();
    d.stop();
}

/// The daemon refuses to start with this database, gives the reason, and leaves the file unchanged.
#[track_caller]
fn refuses_its_database(node: &Node, words: &[&str]) {
    let files =
        || residue::files(node.dir()).into_iter().filter(|file| file.to_string_lossy().contains("state.db"));
    let before: Vec<(PathBuf, Vec<u8>)> =
        files().map(|file| (file.clone(), fs::read(file).unwrap())).collect();
    let mut daemon = node.spawn();
    let status = eventually("the daemon gives up", || daemon.try_wait().unwrap());
    assert!(!status.success());
    let said = node.log();
    let said = said.lines().last().unwrap_or_default();
    assert!(words.iter().all(|word| said.contains(word)), "{words:?} are not in: {said}");
    let after: Vec<(PathBuf, Vec<u8>)> =
        files().map(|file| (file.clone(), fs::read(file).unwrap())).collect();
    assert!(before == after, "it was changed");
}

fn sql(node: &Node, statements: &str) {
    let script = format!("import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript({statements:?})");
    let out =
        Command::new("/usr/bin/python3").args(["-c", &script]).arg(node.dir().join("state.db")).output();
    assert!(out.as_ref().is_ok_and(|out| out.status.success()), "{out:?}");
}

#[test]
fn daemon_refuses_newer_foreign_or_damaged_database_unchanged() {
    let d = TestDaemon::start();
    let ids: Vec<String> = (0..20).map(|_| d.submit(["echo", "out"])).collect();
    ids.iter().for_each(|id| d.until_status(id, "COMPLETED"));
    let node = d.leave();
    let path = node.dir().join("state.db");
    sql(&node, "PRAGMA user_version=2");
    refuses_its_database(&node, &["it has version 2, this joblet knows 1", "nothing was changed"]);
    sql(&node, "PRAGMA user_version=1; PRAGMA application_id=7");
    refuses_its_database(&node, &["another program made it"]);
    sql(&node, "PRAGMA application_id=1245858900");
    let whole = fs::read(&path).unwrap();
    let damage = ["its checksum does not fit", "nothing was changed", "joblet recover"];
    sql(&node, "UPDATE jobs SET record = replace(record, 'echo', 'evil') WHERE serial = 7");
    refuses_its_database(&node, &damage);
    // A page in the middle, the header, and the end are gone.
    for (at, bytes) in [(whole.len() / 2, &[0xa5; 4096][..]), (0, &[0; 64]), (whole.len() - 4096, &[])] {
        let mut broken = whole.clone();
        match bytes {
            [] => broken.truncate(at),
            bytes => broken[at..at + bytes.len()].copy_from_slice(bytes),
        }
        fs::write(&path, broken).unwrap();
        refuses_its_database(&node, &["cannot read the job database", "joblet recover"]);
    }
    fs::write(&path, whole).unwrap();
    let d = node.start();
    assert!(ids.iter().all(|id| d.status(id)["status"] == "COMPLETED"));
    d.stop();
}

#[test]
fn uploads_beyond_the_limits_or_cut_short_leave_nothing() {
    let d = TestDaemon::with([
        ("joblet.warmSandboxes", Value::from(0)),
        ("grpc.maxRecvMsgSize", Value::from(8 << 20)),
        ("filesystem.workQuota", Value::from("4MB")),
    ]);
    let client = d.client("default");
    let file =
        |path: String, size: usize| FileUpload { path, content: vec![b'x'; size], ..Default::default() };
    let ask = |uploads| client.run_job_opt(&RunJobRequest { uploads, ..sh("ls | wc -l") }, bounded());
    let (code, message) = refusal(ask(vec![file("large".into(), 9 << 20)]));
    assert_eq!(code, RpcStatusCode::RESOURCE_EXHAUSTED, "{message}");
    let (code, message) = refusal(ask(vec![file("larger than /work".into(), 6 << 20)]));
    assert_eq!(code, RpcStatusCode::INTERNAL, "{message}");
    assert!(message.contains("failed to create isolated environment"), "{message}");
    let (code, message) = refusal(ask((0..100_000).map(|n| file(n.to_string(), 0)).collect()));
    assert_eq!(code, RpcStatusCode::INTERNAL, "{message}");
    assert!(message.contains("/work is full: 100000 files and directories uploaded"), "{message}");
    for bytes in [1, 100_000, 4_000_000] {
        fs::write(d.dir().join("cut"), vec![b'x'; 5_000_000]).unwrap();
        let mut client = d.rnx_spawn(["job", "run", "-q", "--upload", "cut", "sh", "-c", "cat cut"]);
        eventually("it has begun", || holds(client.is_over() || sent(client.pid()) > bytes));
        client.kill();
    }
    eventually("nothing of them is left", || {
        let busy = d.rnx(["job", "list", "--json"]).text().contains("RUNNING");
        let staged = residue::files(&d.dir().join("staged"));
        holds(!busy && staged.is_empty() && residue::run_files(d.dir()).is_empty())
    });
    d.run(["true"]).ok();
}

/// The number of bytes that a process has written (proc_pid_io(5)).
fn sent(pid: i32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    io.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok()).unwrap_or(u64::MAX)
}

#[test]
fn daemon_out_of_descriptors_refuses_new_jobs_and_keeps_others() {
    let d = TestDaemon::with([("joblet.warmSandboxes", 0)]);
    let client = d.client("default");
    let kept = client.run_job_opt(&sh("echo there; exec sleep 1000"), bounded()).unwrap().jobUuid;
    let limit = fs::read_dir(format!("/proc/{}/fd", d.pid())).unwrap().count() + 120;
    let prlimit = |limit: usize| {
        let args = ["--pid", &d.pid().to_string(), &format!("--nofile={limit}:")];
        assert!(Command::new("prlimit").args(args).status().unwrap().success());
    };
    prlimit(limit);
    let (mut started, mut refused) = (Vec::new(), 0);
    for _ in 0..40 {
        match client.run_job_opt(&sh("exec sleep 1000"), bounded()) {
            Ok(reply) => started.push(reply.jobUuid),
            Err(grpcio::Error::RpcFailure(why)) => {
                assert_eq!(why.code(), RpcStatusCode::RESOURCE_EXHAUSTED, "{}", why.message());
                assert!(why.message().contains("open files are in use"), "{}", why.message());
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    println!("{} jobs started, {refused} were refused", started.len());
    assert!(refused > 0 && !started.is_empty());
    // Status and stop work for the running jobs, and their slots are used again.
    let stop = |id: &String| {
        let request = StopJobReq { uuid: id.clone(), ..Default::default() };
        assert_eq!(client.stop_job_opt(&request, bounded()).unwrap().status, "STOPPED");
    };
    let log = eventually("its output can be read", || {
        let log = d.rnx(["job", "log", "--no-follow", &kept]);
        (log.code == 0).then(|| log.text())
    });
    assert_eq!(log, "there\n");
    started.iter().for_each(stop);
    stop(&kept);
    client.run_job_opt(&sh("true"), bounded()).unwrap();
    prlimit(4096);
}

/// A refused request and the metadata with it, which the client of grpcio does not show for an error.
const RETRY_AFTER: &str = r#"
import grpc, pathlib, sys
certs = pathlib.Path(sys.argv[2])
read = lambda name: (certs / name).read_bytes()
credentials = grpc.ssl_channel_credentials(read("ca-cert.pem"), read("client-key.pem"), read("client-cert.pem"))
channel = grpc.secure_channel("localhost:" + sys.argv[1], credentials)
try:
    channel.unary_unary("/joblet.JobService/RunJob")(b"\x12\x04true", timeout=60)
except grpc.RpcError as error:
    print(error.code().name, dict(error.initial_metadata()).get("retry-after"))
"#;

fn python(d: &TestDaemon, script: &str) -> Command {
    let mut command = Command::new(super::python_sdk::environment("2.1.1").join("bin/python"));
    command.args(["-c", script, &d.port().to_string()]).arg(d.dir().join("certs"));
    command.env_remove("http_proxy").env_remove("https_proxy");
    command
}

#[test]
fn request_flood_of_one_client_is_shed_and_others_are_served() {
    let d = TestDaemon::with([("joblet.maxConcurrentJobs", 4), ("joblet.maxQueuedJobs", 16)]);
    let (admin, ca) = d.identity("default");
    let (client, other) = (Client::new(d.channel(&admin, &ca)), d.client("viewer"));
    let method: Method<RunJobRequest, RunJobResponse> = Method {
        ty: MethodType::Unary,
        name: "/joblet.JobService/RunJob",
        req_mar: Marshaller { ser: pb_ser, de: pb_de },
        resp_mar: Marshaller { ser: pb_ser, de: pb_de },
    };
    let call = |request| client.unary_call_async(&method, &request, bounded()).unwrap();
    let before = d.memory();
    let begin = Instant::now();
    let under_way: Vec<_> = (0..FLOOD).map(|_| call(sh("exec sleep 1000"))).collect();
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let asked = Instant::now();
        other.list_jobs_opt(&EmptyRequest::new(), bounded()).unwrap();
        slowest = slowest.max(asked.elapsed());
    }
    let (mut taken, mut shed) = (0, 0);
    for reply in under_way {
        match futures_executor::block_on(reply) {
            Ok(_) => taken += 1,
            Err(grpcio::Error::RpcFailure(why)) if why.code() == RpcStatusCode::RESOURCE_EXHAUSTED => {
                shed += 1
            }
            Err(other) => panic!("neither taken nor shed: {other}"),
        }
    }
    let grown = d.memory().saturating_sub(before) >> 20;
    println!(
        "{taken} taken, {shed} shed in {:?}; the other's slowest call took {slowest:?}; {grown} MiB more",
        begin.elapsed()
    );
    assert_eq!((taken, shed), (20, FLOOD - 20));
    assert_eq!(Running::start(&mut python(&d, RETRY_AFTER)).finish().ok(), "RESOURCE_EXHAUSTED 1\n");
    assert!(grown < 64, "the daemon has grown by {grown} MiB");
}

/// Starts one job, and stops it if it does not end by itself; returns the time of the start.
fn one_of_many(client: &JobServiceClient, number: usize) -> Duration {
    let asked = Instant::now();
    let script = if number.is_multiple_of(2) { "echo out" } else { "exec sleep 1000" };
    let id = client.run_job_opt(&sh(script), bounded()).unwrap().jobUuid;
    let took = asked.elapsed();
    if number.is_multiple_of(2) {
        return took;
    }
    let request = StopJobReq { uuid: id, ..Default::default() };
    assert_eq!(client.stop_job_opt(&request, bounded()).unwrap().status, "STOPPED");
    took
}

#[test]
fn two_thousand_jobs_at_once_leave_nothing_behind() {
    let d = TestDaemon::start();
    let crowd = soak::rounds(2000, 100_000);
    let some = || {
        let client = d.client("default");
        (0..crowd / CLIENTS).map(|number| one_of_many(&client, number)).collect::<Vec<_>>()
    };
    let begin = Instant::now();
    let mut took: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(some)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    took.sort_unstable();
    let (p50, p99) = (took[crowd / 2], took[crowd * 99 / 100]);
    println!("{crowd} jobs in {:?}; RunJob took {p50:?} (p50), {p99:?} (p99)", begin.elapsed());
    eventually("all are over", || {
        let list = d.rnx(["job", "list", "--json"]).text();
        holds(!list.contains("RUNNING") && !list.contains("INITIALIZING"))
    });
    d.rnx(["job", "delete-all"]).ok();
    // The end of the test looks for descriptors, groups, processes and mounts.
    d.stop();
}
