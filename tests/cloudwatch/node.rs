//! A whole node with `persist.storage.type: cloudwatch`: what its jobs print and use goes to CloudWatch and comes back.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use joblet::job::JobId;
use joblet::output::Stream;
use joblet::persist::frame::{Frame, Note, Reached};
use joblet::persist::link::Link;

use serde_json::{Value, json};

use crate::helper::daemon::Node;
use crate::helper::wait::{self, holds};
use crate::helper::{TestDaemon, eventually, python};
use crate::moto::{Cloud, KEYS, PACKAGES};

/// A node that is set up for this CloudWatch.
fn node(cloud: &Cloud) -> Node {
    let node = Node::set_up();
    node.set("server.nodeId", "node-1");
    node.set("persist.storage.type", "cloudwatch");
    node.set("persist.storage.cloudwatch.endpoint", cloud.url());
    node.set("persist.storage.cloudwatch.region", "us-east-1");
    node.set("logging.level", "DEBUG");
    node
}

fn start(node: Node) -> TestDaemon {
    node.start_with(|command| {
        command.envs(KEYS);
    })
}

/// Runs a job to its end.
fn finished(d: &TestDaemon, script: &str) -> String {
    let id = d.submit(["sh", "-c", script]);
    d.until_status(&id, "COMPLETED");
    id
}

fn index(d: &TestDaemon, id: &str) -> PathBuf {
    d.dir().join("spool").join(id).join("index")
}

/// Waits until the spool has let a job go: all of it is acknowledged.
fn until_accepted(d: &TestDaemon, id: &str) {
    let gone = wait::within(wait::PATIENCE, || holds(!index(d, id).exists()));
    assert!(gone.is_some(), "CloudWatch did not get the job:\n{}", d.log());
}

/// Crashes everything and removes the local copies.
fn without_copies(d: TestDaemon) -> TestDaemon {
    let node = d.crash();
    for tree in ["logs", "metrics"] {
        fs::remove_dir_all(node.dir().join(tree)).unwrap();
    }
    start(node)
}

fn log(d: &TestDaemon, id: &str, stream: &str) -> Vec<u8> {
    let out = d.rnx(["job", "log", "--no-follow", &format!("--stream={stream}"), id]);
    assert_eq!(out.code, 0, "{}\n{}", out.stderr, d.log());
    out.stdout
}

fn aws(cloud: &Cloud, arguments: &str) -> Value {
    let mut command = Command::new(python::environment("aws", PACKAGES).join("bin/aws"));
    command.args(["--endpoint-url", &cloud.url(), "--region", "us-east-1", "--output", "json"]);
    command.args(arguments.split(' ')).envs(KEYS).env("HOME", cloud.dir.path());
    let out = command.env_remove("http_proxy").env_remove("https_proxy").output().unwrap();
    assert!(out.status.success(), "{arguments}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn job_is_read_back_from_cloudwatch_after_everything_is_gone() {
    let cloud = Cloud::start();
    let d = start(node(&cloud));
    let id = finished(&d, "printf 'a\\0\\377b\\n'; seq 3000; echo err >&2; sleep 1");
    until_accepted(&d, &id);
    cloud.no_violations();
    let stream =
        format!("logs get-log-events --log-group-name /joblet/node-1/jobs --log-stream-name {id}-stderr");
    let found = aws(&cloud, &stream);
    assert!(found["events"][0]["message"].as_str().unwrap().contains(r#""log":"err\n""#), "{found}");
    let found = aws(
        &cloud,
        &format!("cloudwatch list-metrics --namespace Joblet/Jobs --dimensions Name=JobID,Value={id}"),
    );
    assert_eq!(found["Metrics"].as_array().unwrap().len(), 9, "{found}");

    let numbers: String = (1..=3000).map(|n| format!("{n}\n")).collect();
    let want = [b"a\0\xffb\n", numbers.as_bytes()].concat();
    assert!(log(&d, &id, "stdout") == want, "the local copy differs");
    assert_eq!(cloud.calls("GetLogEvents"), 1, "only the AWS CLI has read");
    let d = without_copies(d);
    assert!(log(&d, &id, "stdout") == want, "the fetched output differs");
    assert_eq!(log(&d, &id, "stderr"), b"err\n");
    assert!(d.rnx(["job", "metrics", &id]).ok().contains("Memory"));
    let tail = d.rnx(["job", "log", "--no-follow", "--tail=1", "--stream=stdout", &id]);
    assert_eq!(tail.text(), "3000\n");
    let reads = cloud.calls("GetLogEvents");
    log(&d, &id, "stdout");
    assert_eq!(cloud.calls("GetLogEvents"), reads, "the copy is read once it is there");

    d.rnx(["job", "delete", &id]).ok();
    eventually("CloudWatch has no such stream", || holds(cloud.calls("DeleteLogStream") >= 2));
    assert!(!d.log().contains("planted-secret"), "a secret is in the log");
    assert_eq!(cloud.seen()["violations"], json!([]));
}

#[test]
fn outage_of_aws_loses_nothing_and_is_named_to_readers() {
    let cloud = Cloud::start();
    let d = start(node(&cloud));
    let first = finished(&d, "echo first");
    until_accepted(&d, &first);
    cloud.set(json!({"outage": true}));
    let second = finished(&d, "seq 20000; echo err >&2");
    d.until_logged("a request to CloudWatch failed");
    assert!(index(&d, &second).exists(), "acknowledged without AWS");
    let numbers: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    assert!(log(&d, &second, "stdout") == numbers.as_bytes(), "the output of an outage cannot be read");
    // Everything restarts in the outage, without the local copies: what was not accepted is in the spool.
    let d = without_copies(d);
    let out = d.rnx(["job", "log", "--no-follow", &first]);
    assert_eq!(out.code, 3, "{}", out.stderr);
    // Once as a note, and once as the end.
    assert_eq!(out.stderr.matches("history cannot be read").count(), 2, "{}", out.stderr);
    assert_eq!(out.stderr.matches("trying once more").count(), 1, "{}", out.stderr);
    assert!(log(&d, &second, "stdout") == numbers.as_bytes(), "the spool has lost output");
    cloud.set(json!({"outage": false}));
    until_accepted(&d, &second);
    let d = without_copies(d);
    assert!(log(&d, &second, "stdout") == numbers.as_bytes(), "an outage has lost output");
    assert_eq!(log(&d, &second, "stderr"), b"err\n");
    assert_eq!(log(&d, &first, "stdout"), b"first\n");
    cloud.no_violations();
}

/// Prints noise that no compression makes smaller, and its checksum on stderr.
const NOISE: &str = "head -c 1500000 /dev/urandom | tee /tmp/noise; md5sum < /tmp/noise >&2";

/// Whether the output is the noise of this job.
#[track_caller]
fn is_noise(d: &TestDaemon, id: &str) {
    let mut sum = Command::new("md5sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    sum.stdin.take().unwrap().write_all(&log(d, id, "stdout")).unwrap();
    let sum = sum.wait_with_output().unwrap().stdout;
    assert!(log(d, id, "stderr") == sum, "the output of {id} is another");
}

#[test]
fn full_cache_lets_copies_go_alone_and_fetches_them_again() {
    let cloud = Cloud::start();
    let node = node(&cloud);
    node.set("persist.storage.type", "local");
    let d = start(node);
    let here = |d: &TestDaemon, id: &str| d.dir().join("logs").join(id).exists();
    let old = finished(&d, NOISE);
    until_accepted(&d, &old);
    // Another store from the next start on, and a cache that one of the jobs fills.
    let node = d.leave();
    node.set("persist.storage.type", "cloudwatch");
    node.set("persist.storage.cloudwatch.cache_size_mb", 1);
    let d = start(node);
    let new = finished(&d, NOISE);
    until_accepted(&d, &new);
    eventually("the copy has left the cache", || holds(!here(&d, &new)));
    assert!(here(&d, &old), "what CloudWatch has not is gone");
    is_noise(&d, &old);
    is_noise(&d, &new);
    assert!(here(&d, &new), "a copy that was just wanted is gone");
    assert_eq!(cloud.calls("DeleteLogStream"), 0);
    // And back: what is here is read.
    let node = d.leave();
    node.set("persist.storage.type", "local");
    let d = start(node);
    is_noise(&d, &old);
    is_noise(&d, &new);
    cloud.no_violations();
}

#[test]
fn job_deleted_in_an_outage_is_gone_from_aws_behind_it() {
    let cloud = Cloud::start();
    let d = start(node(&cloud));
    let id = finished(&d, "echo kept; echo err >&2");
    until_accepted(&d, &id);
    cloud.set(json!({"outage": true}));
    let told = d.rnx(["--json", "job", "delete", &id]).json();
    assert!(told["message"].as_str().unwrap().contains("history is deleted when"), "{told}");
    d.rnx(["job", "log", "--no-follow", &id]).exits(5);
    // The wish outlives everything.
    let d = start(d.crash());
    cloud.set(json!({"outage": false}));
    let streams = || {
        let found = aws(&cloud, "logs describe-log-streams --log-group-name /joblet/node-1/jobs");
        found["logStreams"].as_array().unwrap().len()
    };
    eventually("AWS has none of it", || holds(streams() == 0));
    d.rnx(["job", "log", "--no-follow", &id]).exits(5);
    cloud.no_violations();
}

#[test]
fn output_of_other_writers_goes_to_cloudwatch_too() {
    let cloud = Cloud::start();
    let d = start(node(&cloud));
    let job = JobId::random();
    let socket = UnixStream::connect(d.dir().join("run/persist-ipc.sock")).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut link = Link::new(mio::net::UnixStream::from_std(socket), 1 << 20);
    let now_ns = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap();
    for (sequence, text) in [(1, "one\n"), (2, "two\n")] {
        let (stream, content) = (Stream::Stdout, text.as_bytes().to_vec());
        let frame = Frame::Log { version: 2, job, stream, time_ns: now_ns, sequence, content };
        link.send(&frame, Vec::new()).unwrap();
    }
    let reached = Reached { rows: 2, sample_bytes: 0 };
    link.send(&Frame::EndOfJob { job, reached, ended_ns: now_ns }, Vec::new()).unwrap();
    eventually("AWS has all of it, and the writer hears so", || {
        link.flush().unwrap();
        while link.receive().unwrap() {}
        while let Some(received) = link.next_message().unwrap() {
            if let Frame::Ack { reached: Reached { rows: 2, .. }, note: Note::Complete, .. } = received.frame
            {
                return Some(());
            }
        }
        None
    });
    assert!(cloud.calls("PutLogEvents") > 0);
    let d = without_copies(d);
    // The daemon does not know the job: CloudWatch alone does.
    assert_eq!(log(&d, &job.to_string(), "stdout"), b"one\ntwo\n");
    cloud.no_violations();
}
