//! The audit trail: what has a line, what no line says, what is found when somebody changes it, and what a full disk or a
//! kill leaves of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use crate::e2e::access::{list_jobs_as, list_jobs_with, without_certificate};
use crate::e2e::spool_limits::SmallDisk;
use crate::helper::TestDaemon;
use crate::helper::certificates::{Recipe, self_signed};
use crate::helper::daemon::Node;
use crate::helper::random::Random;
use crate::helper::rnx::Output;
use crate::helper::soak::rounds;
use crate::helper::wait::{eventually, holds, pause};
use serde_json::Value as Json;
use serde_yaml::Value;

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("audit")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "jsonl")).collect();
    found.sort();
    found
}

/// All lines of the trail below this directory.
fn lines(dir: &Path) -> Vec<Json> {
    let text: String = files(dir).iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The directory that holds everything of the node.
fn data(d: &TestDaemon) -> PathBuf {
    let config: Value = serde_yaml::from_str(&fs::read_to_string(d.config()).unwrap()).unwrap();
    config["dataDir"].as_str().unwrap().into()
}

fn verify(d: &TestDaemon) -> Output {
    joblet(d, &[])
}

/// The check with more arguments.
fn joblet(d: &TestDaemon, args: &[&str]) -> Output {
    let config = d.config();
    d.joblet(["audit", "verify", "--config", config.to_str().unwrap()].iter().chain(args))
}

/// The words of a check that fails.
fn fault(d: &TestDaemon, args: &[&str]) -> String {
    let out = joblet(d, args);
    assert_eq!(out.code, 1, "{out:?}");
    out.stderr
}

/// Lines of this kind about this method.
fn of<'a>(lines: &'a [Json], event: &str, method: &str) -> Vec<&'a Json> {
    let is = |line: &&Json| {
        line["event"] == event && line["method"].as_str().unwrap_or_default().ends_with(&format!("/{method}"))
    };
    lines.iter().filter(is).collect()
}

#[test]
fn every_change_and_refusal_has_its_lines_and_no_secret() {
    let d = TestDaemon::start();
    let job = d.submit(["--name", "watched", "--secret-env", "KEY=hunter2", "sh", "-c", "exit 0", "hunter2"]);
    d.until_status(&job, "COMPLETED");
    d.rnx(["job", "delete", &job]).ok();
    d.rnx(["network", "create", "audited", "--cidr", "10.177.0.0/24"]).ok();
    d.rnx(["network", "remove", "audited"]).ok();
    for _ in 0..5 {
        assert_ne!(d.rnx(["--node", "viewer", "job", "stop", &job]).code, 0);
    }
    d.reload();
    let all = lines(&data(&d));
    let run = of(&all, "answer", "RunJob");
    let run = run.iter().find(|line| line["object"]["job"] == job.as_str()).unwrap();
    assert_eq!(run["object"]["name"], "watched");
    assert_eq!((run["code"].as_str(), run["role"].as_str()), (Some("OK"), Some("admin")));
    let subject = run["subject"].as_str().unwrap();
    assert!(subject.contains("OU=admin"), "{subject}");
    assert!(run["serial"].as_str().unwrap().len() > 8 && run["peer"].as_str().unwrap().contains("127.0.0.1"));
    let begun = of(&all, "request", "RunJob");
    assert!(begun.iter().any(|line| line["call"] == run["call"] && line["object"]["command"] == "sh"));
    for method in ["DeleteJob", "CreateNetwork", "RemoveNetwork"] {
        assert_eq!(of(&all, "request", method).len(), 1, "{method}");
        assert_eq!(of(&all, "answer", method).len(), 1, "{method}");
    }
    assert_eq!(of(&all, "answer", "CreateNetwork")[0]["object"]["name"], "audited");
    let refused = of(&all, "refused", "StopJob");
    assert_eq!(refused.len(), 1, "equal ones share a line");
    assert_eq!(
        (refused[0]["code"].as_str(), refused[0]["role"].as_str()),
        (Some("PERMISSION_DENIED"), Some("viewer"))
    );
    assert!(of(&all, "answer", "ListJobs").is_empty(), "what only reads has no line");
    assert_eq!(all.iter().filter(|line| line["event"] == "start").count(), 1);
    assert_eq!(all.iter().filter(|line| line["event"] == "reload").count(), 1);
    for file in files(&data(&d)) {
        assert!(!fs::read_to_string(file).unwrap().contains("hunter2"));
    }
    assert!(verify(&d).ok().contains("nothing was changed, removed or swapped"));
    let data = data(&d);
    let kept = fs::File::open(&files(&data)[0]).unwrap();
    d.stop();
    let text = std::io::read_to_string(kept).unwrap();
    let last: Json = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "stop", "{text}");
    let folded = text.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
    assert_eq!(folded.filter(|line| line["times"] == 4).count(), 1, "{text}");
}

#[test]
fn refused_handshakes_have_lines_with_their_reasons() {
    let d = TestDaemon::start();
    let (_, ca) = d.identity("default");
    let refused = |why: &str| {
        let all = lines(&data(&d));
        let found = all.iter().filter(|line| line["method"] == "handshake" && line["event"] == "refused");
        let found: Vec<_> = found.filter(|line| line["why"].as_str().unwrap().ends_with(why)).collect();
        assert!(found.iter().all(|line| line["code"] == "UNAUTHENTICATED"), "{found:?}");
        found.len()
    };
    for _ in 0..3 {
        list_jobs_with(&d, Some(without_certificate(&ca)));
        list_jobs_as(&d, &self_signed(&Recipe::client("admin")));
        list_jobs_with(&d, None);
    }
    for why in ["peer did not return a certificate", "certificate verify failed", "wrong version number"] {
        eventually(&format!("a line says: {why}"), || holds(refused(why) == 1));
    }
    assert!(verify(&d).ok().contains("nothing was changed, removed or swapped"));
    let read = d.rnx(["audit", "--method", "handshake"]).ok();
    assert!(read.contains("peer did not return a certificate"), "{read}");
    d.stop();
}

#[test]
fn admins_read_the_trail_by_time_job_and_method_and_follow_it() {
    let d = TestDaemon::start();
    let (one, two) = (d.submit(["true"]), d.submit(["false"]));
    d.until_status(&two, "FAILED");
    assert_ne!(d.rnx(["job", "stop", &two]).code, 0);
    let said = d.rnx(["audit", "--job", &one[..8], "--since", "1h"]).ok();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("  OK  admin  \"") && said.contains(&format!("job={one}")), "{said}");
    let said = d.rnx(["audit", "--method", "stopjob"]).ok();
    assert!(said.lines().count() == 1 && said.contains("FAILED_PRECONDITION"), "{said}");
    assert_eq!(d.rnx(["audit", "--until", "2020-01-01T00:00:00Z"]).ok(), "");
    let json = d.rnx(["--json", "audit", "--job", &two]).ok();
    let line: Json = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(line["object"]["job"], two.as_str());
    let refused = d.rnx(["--node", "viewer", "audit"]);
    assert!(refused.stderr.contains("not allowed to perform operation get_audit"), "{refused:?}");
    let mut follower = d.rnx_spawn(["--json", "audit", "--follow", "--method", "DeleteJob"]);
    // It is there when its own call is.
    eventually("the follower's call has a line", || {
        holds(of(&lines(&data(&d)), "request", "GetAudit").len() == 5)
    });
    d.until_status(&one, "COMPLETED");
    d.rnx(["job", "delete", &one]).ok();
    eventually("both lines of the deletion have come", || holds(follower.printed() > 600));
    follower.kill();
    assert!(follower.finish().text().contains(&one));
}

#[test]
fn rotated_trail_verifies_and_one_flipped_bit_is_found() {
    let mut d = TestDaemon::with([("audit.maxBytes", "64KiB")]);
    let jobs = d.client("default");
    let request = joblet::pb::joblet::StopJobReq { uuid: "00000000".into(), ..Default::default() };
    for _ in 0..150 {
        jobs.stop_job(&request).unwrap_err();
    }
    let said = verify(&d).ok();
    assert!(said.contains(" in 2 files") || said.contains(" in 3 files"), "{said}");
    let last = said.lines().last().unwrap().strip_prefix("last ").unwrap().to_owned();
    joblet(&d, &["--contains", &last]).ok();
    assert!(fault(&d, &["--contains", &"0".repeat(64)]).contains("no line has the hash"));
    let first = &files(&data(&d))[0];
    let mut text = fs::read(first).unwrap();
    let at = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(6).unwrap().0 + 100;
    text[at] ^= 1;
    fs::write(first, &text).unwrap();
    let said = fault(&d, &[]);
    assert!(said.contains("audit-000001.jsonl, line 8: the line was changed"), "{said}");
    text[at] ^= 1;
    fs::write(first, &text).unwrap();
    verify(&d).ok();
    fs::remove_file(first).unwrap();
    let said = fault(&d, &[]);
    assert!(said.contains("audit-000001.jsonl is missing"), "{said}");
    // Another file is open now than at the start.
    d.keep_descriptors();
}

/// A node whose trail is on a disk of its own, and something that fills that.
fn on_small_disk(on_full: &str) -> (TestDaemon, SmallDisk, PathBuf) {
    let node = Node::set_up();
    let disk = SmallDisk::mount(&node, "small", "2m");
    let place = node.dir().join("small");
    node.set("audit.directory", place.join("audit").to_str().unwrap());
    node.set("audit.onFull", on_full);
    node.set("metrics.listen", "127.0.0.1:0");
    let d = node.start();
    let filler = place.join("filler");
    let mut dd = std::process::Command::new("dd");
    dd.arg("if=/dev/zero").arg(format!("of={}", filler.display())).arg("bs=4096").stderr(Stdio::null());
    assert!(!dd.status().unwrap().success(), "the disk is full");
    (d, disk, filler)
}

/// Calls that stop no job, until one has this outcome.
fn until_outcome(d: &TestDaemon, wanted: grpcio::RpcStatusCode) -> String {
    let jobs = d.client("default");
    let request = joblet::pb::joblet::StopJobReq { uuid: "00000000".into(), ..Default::default() };
    eventually("a call with this outcome", || match jobs.stop_job(&request) {
        Err(grpcio::Error::RpcFailure(status)) if status.code() == wanted => {
            Some(status.message().to_owned())
        }
        _ => None,
    })
}

#[test]
fn full_disk_blocks_changes_and_nothing_else_where_that_is_set() {
    let (mut d, disk, filler) = on_small_disk("block");
    let why = until_outcome(&d, grpcio::RpcStatusCode::RESOURCE_EXHAUSTED);
    assert!(why.contains("the audit trail cannot be written: No space left on device"), "{why}");
    assert!(why.contains("nothing was changed"), "{why}");
    assert_ne!(d.run(["true"]).code, 0);
    d.rnx(["job", "list"]).ok();
    assert_ne!(d.rnx(["--node", "viewer", "job", "stop", "00000000"]).code, 0);
    fs::remove_file(filler).unwrap();
    assert_eq!(d.run(["true"]).code, 0);
    verify(&d).ok();
    // The trail has other paths without its mount.
    drop(disk);
    d.keep_descriptors();
}

#[test]
fn full_disk_leaves_a_gap_that_is_told_where_calls_go_on() {
    let (mut d, disk, filler) = on_small_disk("continue");
    let place = filler.parent().unwrap();
    // The rest of a page is still the trail's.
    eventually("lines are lost", || {
        assert_eq!(d.run(["true"]).code, 0);
        holds(d.log().contains("the audit trail cannot be written"))
    });
    fs::remove_file(&filler).unwrap();
    assert_eq!(d.run(["true"]).code, 0);
    let all = lines(place);
    let gap = all.iter().find(|line| line["event"] == "gap").expect("a line about lost lines");
    assert!(gap["times"].as_u64().unwrap() > 0 && gap["why"].as_str().unwrap().contains("No space"), "{gap}");
    let said = verify(&d).ok();
    assert!(said.contains("lines are missing because they could not be written"), "{said}");
    // The trail has other paths without its mount.
    drop(disk);
    d.keep_descriptors();
}

#[test]
fn killed_daemon_leaves_a_chain_with_every_acknowledged_change() {
    let mut random = Random::new();
    let mut d = TestDaemon::with([("audit.maxBytes", Value::from(65536)), ("audit.keep", 10000.into())]);
    let acknowledged = Mutex::new(Vec::new());
    for round in 0..rounds(3, 200) {
        let wait = Duration::from_millis(random.below(400));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let jobs = d.client("default");
                let acknowledged = &acknowledged;
                scope.spawn(move || {
                    let request =
                        joblet::pb::joblet::RunJobRequest { command: "true".into(), ..Default::default() };
                    while let Ok(made) = jobs.run_job(&request) {
                        acknowledged.lock().unwrap().push(made.jobUuid);
                    }
                });
            }
            pause(wait);
            d.signal(nix::sys::signal::Signal::SIGKILL);
        });
        d = d.crash().start();
        let said = verify(&d).ok();
        assert!(said.contains("nothing was changed"), "round {round}: {said}");
    }
    let all = lines_of_whole_trail(&d);
    for job in acknowledged.into_inner().unwrap() {
        assert!(all.contains(&job), "no line about {job}");
    }
}

/// The text of all files, also of incomplete lines.
fn lines_of_whole_trail(d: &TestDaemon) -> String {
    files(&data(d))
        .iter()
        .map(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned())
        .collect()
}
