//! Pausing running jobs, and other timeouts for them.

use std::fs;

use crate::helper::daemon::Node;
use crate::helper::skip::is_root;
use crate::helper::wait::holds;
use crate::helper::{TestDaemon, eventually, gate, residue};
use grpcio::{CallOption, RpcStatusCode};
use joblet::pb::joblet::FreezeJobReq;
use joblet::pb::joblet_grpc::SessionServiceClient;

/// A job whose processes work without a pause until somebody opens `go`.
fn busy(d: &TestDaemon, flags: &[&str]) -> String {
    let script = format!("(while :; do :; done) & {}; kill $!; echo done", gate::wait_for("go"));
    let id = d.submit(flags.iter().copied().chain(["sh", "-c", &script]));
    d.until_status(&id, "RUNNING");
    id
}

/// A file of the job's cgroup, as the host sees it.
fn of_group(id: &str, file: &str) -> String {
    let mount = residue::cgroup2_mount().unwrap();
    let groups = residue::directories(&mount, &|name| name.contains(id));
    fs::read_to_string(groups[0].join(file)).unwrap()
}

fn used(id: &str) -> u64 {
    let text = of_group(id, "cpu.stat");
    text.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap().parse().unwrap()
}

#[test]
fn paused_job_stands_still_and_goes_on() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::start();
    let id = busy(&d, &[]);
    let printed = d.rnx(["--json", "job", "pause", &id]).json();
    assert_eq!((&printed["uuid"], &printed["frozen"]), (&id.as_str().into(), &true.into()));
    assert!(of_group(&id, "cgroup.events").contains("frozen 1"));
    let at = used(&id);
    let status = d.status(&id);
    assert_eq!(status["status"], "RUNNING");
    assert!(!status["pausedSince"].as_str().unwrap().is_empty(), "{status}");
    assert!(d.rnx(["job", "list"]).ok().contains(" (paused)"));
    // Once more changes nothing.
    assert_eq!(d.rnx(["job", "pause", &id]).ok(), format!("Job paused: {id}\n"));
    assert_eq!(d.status(&id)["pausedSince"], status["pausedSince"]);
    assert_eq!(used(&id), at, "it used the processor while it was paused");
    assert!(d.rnx(["job", "resume", &id]).ok().starts_with(&format!("Job goes on: {id}")));
    assert!(of_group(&id, "cgroup.events").contains("frozen 0"));
    eventually("the job works again", || holds(used(&id) > at));
    gate::open(&id, "go");
    d.until_status(&id, "COMPLETED");
    assert_eq!(d.rnx(["job", "log", &id]).ok(), "done\n");
    d.stop();
}

#[test]
fn timeout_stands_still_in_a_pause() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::start();
    let id = busy(&d, &["--timeout=1s"]);
    let ends = d.status(&id)["timeoutAt"].as_str().unwrap().to_owned();
    d.rnx(["job", "pause", &id]).ok();
    eventually("its time would be over", || holds(jiff::Timestamp::now().to_string() > ends));
    let status = d.status(&id);
    assert_eq!((&status["status"], &status["timeoutAt"]), (&"RUNNING".into(), &serde_json::Value::Null));
    d.rnx(["job", "resume", &id]).ok();
    d.until_status(&id, "STOPPED");
    let status = d.status(&id);
    assert_eq!(status["exitReason"], "timeout", "{status}");
    assert!(status["message"].as_str().unwrap().contains("timeout of 1s"), "{status}");
    d.stop();
}

#[test]
fn pause_outlives_the_daemon() {
    needs!(is_root(), "needs root");
    let d = Node::set_up().start();
    let (paused, resumed) = (busy(&d, &["--timeout=10m"]), busy(&d, &[]));
    d.rnx(["job", "pause", &paused, &resumed]).ok();
    let since = d.status(&paused)["pausedSince"].clone();
    d.rnx(["job", "resume", &resumed]).ok();
    let d = d.crash().start();
    assert_eq!(d.status(&paused)["pausedSince"], since);
    assert_eq!(d.status(&resumed)["pausedSince"], serde_json::Value::Null);
    assert!(of_group(&paused, "cgroup.events").contains("frozen 1"));
    // Somebody else may have had it go on meanwhile.
    let node = d.crash();
    let mount = residue::cgroup2_mount().unwrap();
    let group = residue::directories(&mount, &|name| name.contains(&paused)).remove(0);
    fs::write(group.join("cgroup.freeze"), "0").unwrap();
    let d = node.start();
    assert_eq!(d.status(&paused)["pausedSince"], serde_json::Value::Null);
    assert!(!d.status(&paused)["timeoutAt"].as_str().unwrap().is_empty());
    for id in [&paused, &resumed] {
        gate::open(id, "go");
        d.until_status(id, "COMPLETED");
    }
    d.stop();
}

#[test]
fn paused_job_is_stopped_by_hand_and_by_the_node() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::with([("joblet.maxPause", "1s")]);
    let by_hand =
        d.submit(["sh", "-c", "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.05; done"]);
    eventually("the trap is set", || {
        holds(d.rnx(["job", "log", "--no-follow", &by_hand]).text().contains("up"))
    });
    d.rnx(["job", "pause", &by_hand]).ok();
    assert_eq!(d.rnx(["job", "stop", "--stop-grace=1m", &by_hand]).field("Status"), "STOPPED");
    let log = d.rnx(["job", "log", &by_hand]).ok();
    assert!(log.contains("asked\n"), "a paused job hears that it is to end: {log}");
    let by_node = busy(&d, &[]);
    d.rnx(["job", "pause", &by_node]).ok();
    d.until_status(&by_node, "STOPPED");
    let status = d.status(&by_node);
    assert_eq!(status["exitReason"], "timeout");
    assert!(status["message"].as_str().unwrap().contains("joblet.maxPause (1s)"), "{status}");
    d.stop();
}

#[test]
fn timeout_of_a_running_job_is_changed_within_the_nodes_bound() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::with([("joblet.jobTimeout", "1h")]);
    let id = busy(&d, &["--timeout=10m"]);
    let before = d.status(&id)["timeoutAt"].as_str().unwrap().to_owned();
    assert!(
        d.rnx(["job", "timeout", &id, "30m"]).ok().starts_with(&format!("Timeout changed: {id}, until "))
    );
    let status = d.status(&id);
    assert!(status["timeoutAt"].as_str().unwrap() > before.as_str(), "{status}");
    assert!(status["timeout"].as_str().unwrap().starts_with("30m"), "{status}");
    let refused = d.rnx(["job", "timeout", &id, "2h"]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    let bound = "joblet.jobTimeout of this node allows at most 1h from the start";
    assert!(refused.stderr.contains(bound), "{}", refused.stderr);
    d.rnx(["job", "timeout", &id, "10ms"]).ok();
    d.until_status(&id, "STOPPED");
    assert_eq!(d.status(&id)["exitReason"], "timeout");
    for command in ["pause", "resume"] {
        let refused = d.rnx(["job", command, &id]);
        assert_ne!(refused.code, 0);
        assert!(refused.stderr.contains("job is not running"), "{}", refused.stderr);
    }
    d.stop();
}

#[test]
fn viewer_pauses_nothing() {
    needs!(is_root(), "needs root");
    let d = TestDaemon::start();
    let id = busy(&d, &[]);
    let (identity, ca) = d.identity("viewer");
    let viewer = SessionServiceClient::new(d.channel(&identity, &ca));
    let request = FreezeJobReq { uuid: id.clone(), ..Default::default() };
    let refused = viewer.freeze_job_opt(&request, CallOption::default());
    let Err(grpcio::Error::RpcFailure(why)) = refused else { panic!("{refused:?}") };
    assert_eq!(why.code(), RpcStatusCode::PERMISSION_DENIED);
    drop(viewer);
    assert!(of_group(&id, "cgroup.events").contains("frozen 0"));
    d.rnx(["job", "stop", &id]).ok();
    d.stop();
}
