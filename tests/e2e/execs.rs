//! Commands in running jobs: started, followed, interrupted, survived and refused.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use grpcio::RpcStatusCode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use joblet::pb::joblet::{ExecRef, ListExecsReq, SignalExecReq, StartExecReq};
use joblet::pb::joblet_grpc::SessionServiceClient;

use crate::helper::daemon::TestDaemon;
use crate::helper::gate;
use crate::helper::rnx::{Output, Running};
use crate::helper::skip::is_root;
use crate::helper::wait::{eventually, holds};

/// Runs a command in a job, to its end; `args` are behind `job exec`.
#[track_caller]
fn exec(d: &TestDaemon, args: &[&str]) -> Output {
    d.rnx(["job", "exec"].iter().chain(args))
}

/// Starts a command and leaves it alone; its id.
#[track_caller]
fn detached(d: &TestDaemon, id: &str, args: &[&str]) -> String {
    let out = d.rnx(["job", "exec", "--detach", id, "--"].iter().chain(args));
    out.ok();
    out.id()
}

/// The commands of a job as `job status --json` shows them.
fn listed(d: &TestDaemon, id: &str) -> Vec<serde_json::Value> {
    d.status(id)["execs"].as_array().cloned().unwrap_or_default()
}

#[track_caller]
fn until_ended(d: &TestDaemon, id: &str, exec: &str) -> serde_json::Value {
    eventually(&format!("command {exec} has ended"), || {
        listed(d, id).into_iter().find(|shown| shown["exec"] == exec && shown["status"] != "RUNNING")
    })
}

/// Starts `rnx` with the default action of SIGINT: whoever runs the tests may ignore it.
fn interruptible(d: &TestDaemon, args: &[&str]) -> Running {
    let rnx = d.rnx_command(args);
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(rnx.get_program()).args(rnx.get_args());
    command.envs(rnx.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Running::start(&mut command)
}

fn room(d: &TestDaemon, id: &str, exec: &str) -> PathBuf {
    d.dir().join("execs").join(id).join(exec)
}

/// Lines of /proc/self/status and links of /proc/self/ns that tell of walls.
const WALLS: &str = "grep -E '^(Uid|Gid|Groups|NoNewPrivs|Seccomp|Cap.*):' /proc/self/status; \
                     readlink /proc/self/ns/mnt /proc/self/ns/pid /proc/self/ns/net /proc/self/ns/ipc \
                     /proc/self/ns/uts /proc/self/ns/user /proc/self/ns/cgroup; cat /proc/self/cgroup; ulimit -a";

#[test]
fn command_in_a_job_has_its_walls_and_its_own_output_and_code() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::start();
    let script = format!("({WALLS}) > /work/walls; echo ready > /work/ready; {}", gate::wait_for("go"));
    let secret = ["-e", "SHOWN=1", "--secret-env", "HIDDEN=planted-secret"];
    let id = d.submit(secret.iter().chain(&["bash", "-c", &script]));
    eventually("the payload has looked around", || holds(exec(&d, &[&id, "cat", "/work/ready"]).code == 0));

    let out = exec(&d, &[&id, "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((out.exits(7).as_str(), out.stderr.as_str()), ("out\n", "err\n"));
    let walls = exec(&d, &[&id, "bash", "-c", WALLS]).ok();
    assert_eq!(walls, exec(&d, &[&id, "cat", "/work/walls"]).ok());
    let shown = exec(&d, &["-e", "MORE=2", "--workdir", "/tmp", &id, "--", "sh", "-c", "env; pwd; cat"]).ok();
    for line in ["SHOWN=1", "MORE=2", "/tmp", &format!("JOB_ID={id}")] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    assert!(!shown.contains("HIDDEN"), "{shown}");
    // The directory that is being read has a descriptor too.
    let fds =
        exec(&d, &[&id, "python3", "-c", "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"]);
    assert_eq!(fds.ok(), "[0, 1, 2, 3]\n");
    let session =
        exec(&d, &[&id, "python3", "-c", "import os; print(os.getpid() == os.getsid(0) == os.getpgrp())"]);
    assert_eq!(session.ok(), "True\n");

    let missing = exec(&d, &[&id, "no-such-program"]);
    assert!(
        missing.exits(127).is_empty() && missing.stderr.contains("no-such-program"),
        "{}",
        missing.stderr
    );
    exec(&d, &[&id, "/work/ready"]).exits(126);
    exec(&d, &["--workdir", "/no-such", &id, "true"]).exits(125);
    exec(&d, &[&id, "sh", "-c", "kill -9 $$"]).exits(137);
    // A command that leaves a process behind has ended all the same, and that process goes on.
    let out = exec(
        &d,
        &[&id, "sh", "-c", "(while [ ! -e /work/over ]; do sleep 0.02; done; echo late) & echo early"],
    );
    assert_eq!(out.ok(), "early\n");
    exec(&d, &[&id, "touch", "/work/over"]).ok();
    let all = listed(&d, &id);
    let behind = all.iter().find(|shown| shown["args"].to_string().contains("late")).unwrap();
    let stdout = room(&d, &id, behind["exec"].as_str().unwrap()).join("stdout");
    eventually("the late line is in the room", || {
        holds(fs::read_to_string(&stdout).unwrap() == "early\nlate\n")
    });
    assert!(d.rnx(["job", "status", &id]).ok().contains("Commands:"));
    let files = String::from_utf8_lossy(&d.log().into_bytes()).contains("planted-secret");
    assert!(!files);
    gate::open(&id, "go");
    d.until_status(&id, "COMPLETED");
    exec(&d, &[&id, "true"]).exits(125);
    d.rnx(["job", "delete", &id]).ok();
    eventually("the rooms are gone", || holds(!d.dir().join("execs").join(&id).exists()));
    d.stop();
}

#[test]
fn timeout_interrupt_and_end_of_the_job_end_a_command() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::start();
    let id = d.submit(["sleep", "1000"]);
    let late = exec(&d, &["--timeout", "1s", &id, "sh", "-c", "trap '' TERM; sleep 1000"]);
    late.exits(124);
    assert!(late.stderr.contains("timeout of 1s"), "{}", late.stderr);
    assert_eq!(d.status(&id)["status"], "RUNNING");

    let running = interruptible(
        &d,
        &[
            "job",
            "exec",
            &id,
            "--",
            "bash",
            "-c",
            "trap 'echo told; exit 5' INT; echo up; while :; do sleep 0.02; done",
        ],
    );
    eventually("the command is up", || {
        holds(listed(&d, &id).iter().any(|shown| {
            let stdout = room(&d, &id, shown["exec"].as_str().unwrap()).join("stdout");
            shown["status"] == "RUNNING" && fs::read_to_string(stdout).is_ok_and(|text| text == "up\n")
        }))
    });
    kill(Pid::from_raw(running.pid()), Signal::SIGINT).unwrap();
    let out = running.finish();
    assert_eq!(out.exits(5), "up\ntold\n");

    let stays = detached(&d, &id, &["sleep", "1000"]);
    let followed = d.rnx_spawn(["job", "exec", &id, "--", "sleep", "1000"]);
    eventually("both run", || {
        holds(listed(&d, &id).iter().filter(|shown| shown["status"] == "RUNNING").count() == 2)
    });
    d.rnx(["job", "stop", &id]).ok();
    followed.finish().exits(143);
    let end = until_ended(&d, &id, &stays);
    assert_eq!((&end["status"], &end["exit_reason"]), (&"STOPPED".into(), &"job_ended".into()), "{end}");
    d.stop();
}

#[test]
fn commands_outlive_the_daemon_and_are_taken_over() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::start();
    let id = d.submit(["sleep", "1000"]);
    let wait = |name: &str| gate::wait_for(name);
    let ended = detached(&d, &id, &["true"]);
    until_ended(&d, &id, &ended);
    let runs = detached(&d, &id, &["bash", "-c", &format!("echo before; {}; echo after; exit 3", wait("a"))]);
    let ends = detached(&d, &id, &["bash", "-c", &format!("{}; echo alone; exit 4", wait("b"))]);
    let followed = d.rnx_spawn([
        "job",
        "exec",
        &id,
        "--",
        "bash",
        "-c",
        &format!("echo one; {}; echo two; exit 6", wait("a")),
    ]);
    eventually("all run", || {
        holds(listed(&d, &id).iter().filter(|shown| shown["status"] == "RUNNING").count() == 3)
    });
    eventually("the follower has its first line", || holds(followed.printed() > 0));
    let node = d.crash();
    gate::open(&id, "b");
    let d = node.start();
    let end = until_ended(&d, &id, &ends);
    assert_eq!((&end["exit_code"], &end["exit_reason"]), (&4.into(), &"exited".into()), "{end}");
    assert_eq!(fs::read_to_string(room(&d, &id, &ends).join("stdout")).unwrap(), "alone\n");
    gate::open(&id, "a");
    assert_eq!(until_ended(&d, &id, &runs)["exit_code"], 3);
    assert_eq!(fs::read_to_string(room(&d, &id, &runs).join("stdout")).unwrap(), "before\nafter\n");
    assert_eq!(followed.finish().exits(6), "one\ntwo\n");
    exec(&d, &[&id, "true"]).ok();
    assert_eq!(listed(&d, &id).len(), 5);
    let numbers: Vec<_> = listed(&d, &id).iter().map(|shown| shown["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    // Again, with a command that ends with its job while no daemon lives.
    let last = detached(&d, &id, &["sleep", "1000"]);
    d.rnx(["job", "stop", &id]).ok();
    until_ended(&d, &id, &last);
    let d = d.crash().start();
    let ends: Vec<_> = listed(&d, &id).iter().map(|shown| shown["exit_reason"].clone()).collect();
    assert_eq!(ends, ["exited", "exited", "exited", "exited", "exited", "job_ended"]);
    d.stop();
}

#[test]
fn job_that_stops_its_commands_harms_only_itself() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::start();
    let villain = "import os, signal, time\n\
                   signal.pthread_sigmask(signal.SIG_BLOCK, [40])\n\
                   for n in range(5000):\n\
                   \x20 try: os.kill(os.getpid(), 40)\n\
                   \x20 except OSError: break\n\
                   open('/work/full', 'w').close()\n\
                   while not os.path.exists('/work/stop'): time.sleep(0.01)\n\
                   while True:\n\
                   \x20 try: os.kill(-1, signal.SIGSTOP)\n\
                   \x20 except ProcessLookupError: pass\n";
    let id = d.submit(["python3", "-c", villain]);
    eventually("its signal queue is full", || holds(exec(&d, &[&id, "ls", "/work/full"]).code == 0));
    exec(&d, &[&id, "touch", "/work/stop"]);
    for _ in 0..20 {
        // It is executed and stopped then, or was stopped before and is killed: the call comes back.
        let out = d.rnx(["job", "exec", "--detach", "--timeout", "1s", &id, "true"]);
        assert!([0, 125, 137].contains(&out.code), "{out:?}");
    }
    d.run(["true"]).ok();
    d.rnx(["job", "stop", &id]).ok();
    d.stop();
}

#[test]
fn commands_are_bounded_and_refused_to_viewers() {
    needs!(is_root(), "needs root");
    // Warm sandboxes come and go meanwhile, each with descriptors.
    let d = TestDaemon::with([("joblet.warmSandboxes", 0)]);
    let id = d.submit(["sleep", "1000"]);
    let sessions = |node: &str| {
        let (identity, ca) = d.identity(node);
        SessionServiceClient::new(d.channel(&identity, &ca))
    };
    let (admin, viewer) = (sessions("default"), sessions("viewer"));
    let start = StartExecReq {
        uuid: id.clone(),
        command: "sleep".into(),
        args: vec!["1000".into()],
        ..StartExecReq::default()
    };
    let code = |error: grpcio::Error| match error {
        grpcio::Error::RpcFailure(status) => status.code(),
        other => panic!("{other}"),
    };
    for _ in 0..32 {
        admin.start_exec(&start).unwrap();
    }
    assert_eq!(code(admin.start_exec(&start).unwrap_err()), RpcStatusCode::RESOURCE_EXHAUSTED);
    let all = viewer.list_execs(&ListExecsReq { uuid: id.clone(), ..Default::default() }).unwrap().execs;
    assert_eq!(all.len(), 32);
    let at = ExecRef { uuid: id.clone(), exec: all[0].exec.clone(), ..Default::default() };
    assert_eq!(viewer.get_exec(&at).unwrap().status, "RUNNING");
    assert_eq!(code(viewer.start_exec(&start).unwrap_err()), RpcStatusCode::PERMISSION_DENIED);
    let stop = SignalExecReq { uuid: id.clone(), exec: at.exec.clone(), signal: 9, ..Default::default() };
    assert_eq!(code(viewer.signal_exec(&stop).unwrap_err()), RpcStatusCode::PERMISSION_DENIED);
    admin.signal_exec(&stop).unwrap();
    let end = eventually("its place is free", || {
        holds(admin.start_exec(&start).is_ok()).and_then(|()| admin.get_exec(&at).ok())
    });
    assert_eq!((end.exit_reason.as_str(), end.signal), ("signaled", 9));
    assert_eq!(code(admin.signal_exec(&stop).unwrap_err()), RpcStatusCode::FAILED_PRECONDITION);
    let unknown = ExecRef { exec: "0123".into(), ..at.clone() };
    assert_eq!(code(admin.get_exec(&unknown).unwrap_err()), RpcStatusCode::NOT_FOUND);
    d.rnx(["job", "stop", &id]).ok();

    // Many, one after the other: places and descriptors come back, and the oldest rooms go.
    let id = d.submit(["sleep", "1000"]);
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", d.pid())).unwrap().count();
    exec(&d, &[&id, "true"]).ok();
    let before = descriptors();
    let start = StartExecReq { uuid: id.clone(), command: "true".into(), ..StartExecReq::default() };
    for _ in 0..200 {
        eventually("there is a place", || holds(admin.start_exec(&start).is_ok()));
    }
    eventually("every descriptor is closed", || holds(descriptors() <= before));
    let rooms = || fs::read_dir(d.dir().join("execs").join(&id)).unwrap().count();
    eventually("the oldest rooms are gone", || holds(rooms() <= 64 + 1));
    drop((admin, viewer));
    d.rnx(["job", "stop", &id]).ok();
    d.stop();
}
