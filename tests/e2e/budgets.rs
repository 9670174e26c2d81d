//! Bytes that clients cause: of jobs that wait, and of jobs that are over. Each kind has a limit, and one client leaves
//! room for the others.

use crate::helper::daemon::TestDaemon;
use crate::helper::wait::{eventually, holds};
use grpcio::RpcStatusCode;
use joblet::pb::joblet::{FileUpload, RunJobRequest};
use std::fs;

fn refused(answer: grpcio::Result<joblet::pb::joblet::RunJobResponse>) -> (RpcStatusCode, String) {
    match answer {
        Err(grpcio::Error::RpcFailure(status)) => (status.code(), status.message().to_owned()),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn waiting_jobs_have_a_limit_of_bytes_for_each_client() {
    let d = TestDaemon::with([
        ("joblet.maxConcurrentJobs", serde_yaml::Value::from(1)),
        ("joblet.queueLimit", "1536K".into()),
        ("joblet.clientQueueLimit", "1M".into()),
    ]);
    let running = d.submit(["sleep", "1000"]);
    let (greedy, other) = (d.client("default"), d.other_client());
    let file = |bytes| FileUpload { path: "f".into(), content: vec![1; bytes], ..Default::default() };
    let with =
        |bytes| RunJobRequest { command: "true".into(), uploads: vec![file(bytes)], ..Default::default() };
    let first = greedy.run_job(&with(900 << 10)).unwrap().jobUuid;
    let (code, text) = refused(greedy.run_job(&with(200 << 10)));
    assert!(code == RpcStatusCode::RESOURCE_EXHAUSTED && text.contains("joblet.clientQueueLimit"), "{text}");
    // A job without files waits with its arguments.
    let long =
        RunJobRequest { command: "true".into(), args: vec!["x".repeat(70 << 10); 2], ..Default::default() };
    let (_, text) = refused(greedy.run_job(&long));
    assert!(text.contains("this client's jobs"), "{text}");
    other.run_job(&with(500 << 10)).unwrap();
    let (code, text) = refused(other.run_job(&with(200 << 10)));
    assert!(code == RpcStatusCode::RESOURCE_EXHAUSTED && text.contains("joblet.queueLimit"), "{text}");
    assert!(greedy.run_job(&with(10)).is_ok(), "there is room for little ones");
    // Waiting jobs count after a restart too.
    let d = d.crash().start();
    let (greedy, _other) = (d.client("default"), running);
    let (_, text) = refused(greedy.run_job(&with(200 << 10)));
    assert!(text.contains("joblet.clientQueueLimit"), "{text}");
    // The end of a job gives its bytes back.
    d.rnx(["job", "stop", &first]).ok();
    greedy.run_job(&with(200 << 10)).unwrap();
}

#[test]
fn finished_jobs_of_the_client_that_keeps_most_go_first() {
    let d = TestDaemon::with([("joblet.jobSpoolLimit", "1M"), ("state.retention.bytes", "2M")]);
    let quiet = RunJobRequest { command: "echo".into(), args: vec!["hi".into()], ..Default::default() };
    let quiet = d.other_client().run_job(&quiet).unwrap().jobUuid;
    d.until_status(&quiet, "COMPLETED");
    let loud = |_| {
        let id = d.submit(["sh", "-c", "head -c 700000 /dev/urandom"]);
        d.until_status(&id, "COMPLETED");
        id
    };
    let all: Vec<String> = (0..4).map(loud).collect();
    let spool = |id: &str| d.dir().join("spool").join(id);
    eventually("the oldest output is gone", || holds(!spool(&all[1]).exists()));
    assert!(!spool(&all[0]).exists() && spool(&all[2]).exists() && spool(&all[3]).exists());
    assert_eq!(d.rnx(["job", "status", &all[0]]).code, 5, "with its record");
    assert_eq!(d.rnx(["job", "log", "--no-follow", &quiet]).ok(), "hi\n", "nobody else's history went");
    let log = d.log();
    assert!(log.contains("state.retention.bytes"), "{log}");
    // The next daemon measures what it finds.
    let node = d.crash();
    // More than all may keep, in a file that history never releases: it may be done with the others by the start.
    fs::write(node.dir().join("spool").join(&all[3]).join("more"), vec![0; 3 << 20]).unwrap();
    let d = node.start();
    eventually("the next oldest is gone", || holds(!d.dir().join("spool").join(&all[2]).exists()));
    assert_eq!(d.rnx(["job", "log", "--no-follow", &quiet]).ok(), "hi\n");
}
