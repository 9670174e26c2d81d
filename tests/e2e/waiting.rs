//! Jobs that wait for their time or for a slot, across crashes, and the retention of finished jobs.

use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::residue;
use crate::helper::wait::{eventually, holds};
use grpcio::{CallOption, RpcStatusCode};
use jiff::{SignedDuration, Timestamp};
use joblet::pb::joblet::{EmptyRequest, FileUpload, Job, RunJobRequest};
use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

const HOUR: i64 = 3_600_000;
const SECRET: &str = "a-secret-that-nobody-may-find";
const CONTENT: &str = "an upload that nobody may find";

fn bounded() -> CallOption {
    CallOption::default().timeout(Duration::from_secs(20))
}

fn sh(script: &str) -> RunJobRequest {
    RunJobRequest { command: "sh".into(), args: vec!["-c".into(), script.into()], ..Default::default() }
}

/// The moment this many milliseconds from now.
fn in_ms(ms: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_millis(ms)
}

fn submit(d: &TestDaemon, request: &RunJobRequest) -> String {
    d.client("default").run_job_opt(request, bounded()).unwrap().jobUuid
}

fn list(d: &TestDaemon) -> Vec<Job> {
    d.client("viewer").list_jobs_opt(&EmptyRequest::new(), bounded()).unwrap().jobs
}

/// The jobs that wait for a slot, in the order of the queue.
fn queue(d: &TestDaemon) -> Vec<String> {
    let mut waiting: Vec<Job> = list(d).into_iter().filter(|job| job.queue_position > 0).collect();
    waiting.sort_by_key(|job| job.queue_position);
    let positions: Vec<i32> = waiting.iter().map(|job| job.queue_position).collect();
    assert_eq!(positions, (1..=waiting.len() as i32).collect::<Vec<_>>());
    for job in &waiting {
        assert_eq!((job.status.as_str(), job.startTime.as_str()), ("INITIALIZING", ""));
        assert_eq!(job.wait_reason, "waits for a place: joblet.maxConcurrentJobs are running");
    }
    waiting.into_iter().map(|job| job.uuid).collect()
}

/// The payload's own clock, in nanoseconds since the epoch.
fn printed_time(d: &TestDaemon, id: &str) -> i128 {
    d.until_status(id, "COMPLETED");
    d.rnx(["job", "log", id]).text().trim().parse().unwrap()
}

/// The files of a node that hold this text.
fn files_with(d: &TestDaemon, text: &str) -> Vec<String> {
    let holds_it = |bytes: Vec<u8>| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    let all = residue::files(d.dir()).into_iter().filter(|file| fs::read(file).is_ok_and(holds_it));
    all.map(|file| file.display().to_string()).collect()
}

fn staged(d: &TestDaemon) -> usize {
    residue::files(&d.dir().join("staged")).len()
}

#[test]
fn a_scheduled_job_starts_at_its_time() {
    let d = TestDaemon::start();
    // A connection that is open already: the time of a new one is no part of the schedule.
    let client = d.client("default");
    client.list_jobs_opt(&EmptyRequest::new(), bounded()).unwrap();
    let mut late = Vec::new();
    for _ in 0..5 {
        let at = in_ms(300);
        let request = RunJobRequest { schedule: at.to_string(), ..sh("date +%s%N") };
        let id = client.run_job_opt(&request, bounded()).unwrap().jobUuid;
        late.push((printed_time(&d, &id) - at.as_nanosecond()) / 1_000_000);
    }
    println!("the payload's own clock, ms behind the time it was scheduled for: {late:?}");
    assert!(late.iter().all(|ms| (0..2000).contains(ms)), "{late:?}");
}

#[test]
fn job_due_while_no_daemon_lives_starts_with_the_next_one() {
    let node = Node::set_up();
    let d = node.start();
    let at = in_ms(1000);
    let id = submit(&d, &RunJobRequest { schedule: at.to_string(), ..sh("date +%s%N") });
    assert_eq!(d.status(&id)["status"], "SCHEDULED");
    let node = d.crash();
    eventually("its time has come", || holds(Timestamp::now() > at));
    let d = node.start();
    assert!(printed_time(&d, &id) > at.as_nanosecond());
    d.stop();
}

#[test]
fn inputs_of_a_scheduled_job_stay_sealed_and_survive_a_crash() {
    let node = Node::set_up();
    let d = node.start();
    let brought = |ms: i64| RunJobRequest {
        uploads: vec![FileUpload {
            path: "file".into(),
            content: CONTENT.into(),
            mode: 0o644,
            ..Default::default()
        }],
        environment: HashMap::from([("PLAIN".into(), "seen".into())]),
        secret_environment: HashMap::from([("TOKEN".into(), SECRET.into())]),
        schedule: in_ms(ms).to_string(),
        ..sh("echo $TOKEN; echo $PLAIN; cat file")
    };
    let later = submit(&d, &brought(HOUR));
    let d = d.crash().start();
    assert_eq!(d.status(&later)["status"], "SCHEDULED");
    for text in [SECRET, CONTENT] {
        assert_eq!(files_with(&d, text), Vec::<String>::new(), "{text}");
    }
    let soon = submit(&d, &brought(2000));
    let d = d.crash().start();
    d.until_status(&soon, "COMPLETED");
    assert_eq!(d.rnx(["job", "log", &soon]).text(), format!("{SECRET}\nseen\n{CONTENT}"));
    eventually("only what the other brought is there", || holds(staged(&d) == 1));
    d.rnx(["job", "delete", &soon]).ok();
    assert_eq!(d.status(&later)["secretEnvironment"]["TOKEN"], "***", "{}", d.status(&later));
    d.rnx(["job", "cancel", &later]).ok();
    eventually("nothing of it is left", || holds(staged(&d) == 0));
    for text in [SECRET, CONTENT] {
        assert_eq!(files_with(&d, text), Vec::<String>::new(), "{text}");
    }
    d.stop();
}

#[test]
fn only_scheduled_jobs_cancel_and_only_running_jobs_stop() {
    let node = Node::set_up();
    let d = node.start();
    let waits = submit(&d, &RunJobRequest { schedule: in_ms(HOUR).to_string(), ..sh("true") });
    let runs = submit(&d, &sh("exec sleep 1000"));
    let refused = d.rnx(["job", "stop", &waits]);
    assert!(refused.code != 0 && refused.stderr.contains("cancel it instead"), "{refused:?}");
    let refused = d.rnx(["job", "cancel", &runs]);
    assert!(refused.code != 0 && refused.stderr.contains("is not scheduled"), "{refused:?}");
    d.rnx(["job", "cancel", &waits]).ok();
    d.rnx(["job", "stop", &runs]).ok();
    let d = d.crash().start();
    assert_eq!(d.status(&waits)["status"], "CANCELED");
    assert_eq!(d.status(&runs)["status"], "STOPPED");
    d.stop();
}

#[test]
fn jobs_beyond_the_limit_wait_in_their_order_also_after_a_crash() {
    let node = Node::set_up();
    node.set("joblet.maxConcurrentJobs", 2);
    node.set("joblet.maxQueuedJobs", 8);
    let d = node.start();
    let ids: Vec<String> = (0..10).map(|_| submit(&d, &sh("exec sleep 1000"))).collect();
    let (running, mut waiting) = (&ids[..2], ids[2..].to_vec());
    assert_eq!(queue(&d), waiting);
    match d.client("default").run_job_opt(&sh("true"), bounded()) {
        Err(grpcio::Error::RpcFailure(why)) => {
            assert_eq!(why.code(), RpcStatusCode::RESOURCE_EXHAUSTED);
            assert!(why.message().contains("joblet.maxQueuedJobs"), "{}", why.message());
        }
        other => panic!("more wait than may: {other:?}"),
    }
    let text = d.rnx(["job", "list"]).text();
    assert!(text.contains("(queue position 3: waits for a place"), "{text}");
    let one = d.status(&waiting[2]);
    assert_eq!((&one["queuePosition"], &one["status"]), (&3.into(), &"INITIALIZING".into()), "{one}");

    let d = d.crash().start();
    assert_eq!(queue(&d), waiting);
    d.rnx(["job", "stop", &waiting[3]]).ok();
    let stopped = d.status(&waiting.remove(3));
    assert_eq!((&stopped["status"], &stopped["startTime"]), (&"STOPPED".into(), &"".into()), "{stopped}");
    assert_eq!(queue(&d), waiting);
    // One slot after the other becomes free, and each goes to the first job in the queue.
    d.rnx(["job", "stop", &running[0]]).ok();
    let mut last = running[1].clone();
    while !waiting.is_empty() {
        let next = waiting.remove(0);
        d.until_status(&next, "RUNNING");
        assert_eq!(queue(&d), waiting);
        d.rnx(["job", "stop", &std::mem::replace(&mut last, next)]).ok();
    }
    d.stop();
}

#[test]
fn memory_state_forgets_its_jobs_when_the_daemon_ends() {
    let node = Node::set_up();
    node.set("state.backend", "memory");
    let d = node.start();
    let over = submit(&d, &sh("echo out"));
    d.until_status(&over, "COMPLETED");
    let runs = submit(&d, &sh("exec sleep 1000"));
    submit(&d, &RunJobRequest { schedule: in_ms(HOUR).to_string(), ..sh("true") });
    assert!(!d.dir().join("state.db").exists());
    let d = d.crash().start();
    assert_eq!(list(&d), []);
    eventually("what ran is gone", || holds(residue::payloads_of(&d.uids()).is_empty()));
    let spool = |id: &String| d.dir().join("spool").join(id).exists();
    eventually("no output is left", || holds(!spool(&over) && !spool(&runs)));
    // An orderly stop ends the waiting jobs too.
    submit(&d, &RunJobRequest { schedule: in_ms(HOUR).to_string(), ..sh("true") });
    d.stop();
}

#[test]
fn only_so_many_finished_jobs_are_kept_and_the_oldest_go_first() {
    let node = Node::set_up();
    node.set("state.retention.max", 3);
    let d = node.start();
    let ids: Vec<String> = (0..6)
        .map(|_| {
            let id = submit(&d, &sh("echo out"));
            d.until_status(&id, "COMPLETED");
            id
        })
        .collect();
    let kept = |d: &TestDaemon| list(d).into_iter().map(|job| job.uuid).collect::<Vec<_>>();
    eventually("three are kept", || holds(kept(&d) == ids[3..]));
    let spool = |id: &String| d.dir().join("spool").join(id).exists();
    eventually("the output of the others is gone", || holds(!ids[..3].iter().any(spool)));
    assert!(ids[3..].iter().all(spool));
    let d = d.crash().start();
    assert_eq!(kept(&d), ids[3..]);
    d.stop();
}

#[test]
fn long_running_job_is_kept_when_it_ends_and_its_slot_is_free() {
    let node = Node::set_up();
    node.set("state.retention.max", 2);
    node.set("joblet.maxConcurrentJobs", 2);
    let d = node.start();
    let long = submit(&d, &sh("exec sleep 1000"));
    let short: Vec<String> = (0..3)
        .map(|_| {
            let id = submit(&d, &sh("true"));
            d.until_status(&id, "COMPLETED");
            id
        })
        .collect();
    d.rnx(["job", "stop", &long]).ok();
    let kept = |d: &TestDaemon| list(d).into_iter().map(|job| job.uuid).collect::<Vec<_>>();
    eventually("the two that ended last are kept", || holds(kept(&d) == [&long[..], &short[2][..]]));
    for id in [submit(&d, &sh("exec sleep 1000")), submit(&d, &sh("exec sleep 1000"))] {
        assert_eq!(d.status(&id)["status"], "RUNNING", "there are places for two");
    }
    let d = d.crash().start();
    assert_eq!(d.status(&long)["status"], "STOPPED");
    d.stop();
}

/// A request whose upload takes a while to store.
fn heavy(name: &str) -> RunJobRequest {
    let upload = FileUpload { path: "file".into(), content: vec![7; 100 << 20], ..Default::default() };
    RunJobRequest { name: name.into(), uploads: vec![upload], ..sh("true") }
}

#[test]
fn job_that_ends_while_its_files_are_staged_leaves_none_of_them() {
    let d = TestDaemon::with([("joblet.maxConcurrentJobs", 1)]);
    let runs = submit(&d, &sh("exec sleep 1000"));
    let long = || CallOption::default().timeout(Duration::from_secs(60));
    let scheduled = RunJobRequest { schedule: in_ms(HOUR).to_string(), ..heavy("scheduled") };
    for (request, verb, status) in [(heavy("queued"), "stop", "STOPPED"), (scheduled, "cancel", "CANCELED")] {
        let name = request.name.clone();
        let client = d.client("default");
        let submitted = std::thread::spawn(move || client.run_job_opt(&request, long()).unwrap());
        let id = eventually("it is listed", || Some(list(&d).into_iter().find(|job| job.name == name)?.uuid));
        d.rnx(["job", verb, &id]).ok();
        assert_eq!(submitted.join().unwrap().status, status);
        eventually("nothing of it is left", || holds(staged(&d) == 0));
    }
    d.rnx(["job", "stop", &runs]).ok();
}

#[test]
fn job_starts_although_a_killed_daemon_had_prepared_its_start() {
    let node = Node::set_up();
    node.set("joblet.maxConcurrentJobs", 1);
    let d = node.start();
    let (runs, waits) = (submit(&d, &sh("exec sleep 1000")), submit(&d, &sh("echo out")));
    let group = residue::group_of(d.dir());
    let node = d.crash();
    // The first file that a spawner makes.
    let spool = node.dir().join("spool").join(&waits);
    fs::create_dir(&spool).unwrap();
    for name in ["stdout", "stderr", "index"] {
        fs::write(spool.join(name), "").unwrap();
    }
    fs::write(node.dir().join("run/exit").join(&waits), [0; 64]).unwrap();
    if let Some(group) = group {
        fs::create_dir(group.join(format!("job-{waits}"))).unwrap();
    }
    let d = node.start();
    d.rnx(["job", "stop", &runs]).ok();
    eventually("it is over", || holds(d.status(&waits)["endTime"] != ""));
    assert_eq!(d.status(&waits)["status"], "COMPLETED", "{}", d.status(&waits));
    assert_eq!(d.rnx(["job", "log", &waits]).text(), "out\n");
    d.stop();
}

/// Moves the end of every finished job of `state.db` two days back.
const AGE: &str = r#"
import json, sqlite3, sys, zlib
db = sqlite3.connect(sys.argv[1])
for serial, text in db.execute("SELECT serial, record FROM jobs").fetchall():
    record = json.loads(text)
    record["ended_ns"] -= 2 * 24 * 3600 * 10**9
    text = json.dumps(record)
    db.execute("UPDATE jobs SET record = ?, crc = ? WHERE serial = ?", (text, zlib.crc32(text.encode()), serial))
db.commit()
"#;

#[test]
fn finished_jobs_are_forgotten_after_the_configured_days() {
    let node = Node::set_up();
    let d = node.start();
    let id = submit(&d, &sh("echo out"));
    d.until_status(&id, "COMPLETED");
    let node = d.leave();
    let script = Command::new("/usr/bin/python3").args(["-c", AGE]).arg(node.dir().join("state.db")).output();
    assert!(script.as_ref().is_ok_and(|out| out.status.success()), "{script:?}");
    let d = node.start();
    assert_eq!(d.status(&id)["status"], "COMPLETED", "the default is 30 days");
    let node = d.leave();
    node.set("state.retention.days", 1);
    let d = node.start();
    assert_eq!(d.rnx(["job", "status", &id]).code, 5);
    eventually("its output is gone", || holds(!d.dir().join("spool").join(&id).exists()));
    d.stop();
}
