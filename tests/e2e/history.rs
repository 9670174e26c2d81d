//! History: what jobs print and use, kept by the history process in files that every gzip tool reads.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use futures_util::StreamExt;
use grpcio::{ChannelBuilder, EnvBuilder, RpcStatusCode};
use joblet::pb::persist::{
    DeleteJobRequest, LogLine, Metric, PingRequest, QueryLogsRequest, QueryMetricsRequest, StreamType,
};
use joblet::pb::persist_grpc::PersistServiceClient;

use crate::helper::daemon::Node;
use crate::helper::rnx::Running;
use crate::helper::wait::holds;
use crate::helper::{TestDaemon, eventually};

/// The directory of a job's output in history.
pub(super) fn logs(d: &TestDaemon, id: &str) -> PathBuf {
    d.dir().join("logs").join(id)
}

/// Waits until history has all of a job.
pub(super) fn until_complete(d: &TestDaemon, id: &str) {
    eventually("history has all of the job", || holds(logs(d, id).join("job.json").exists()));
    let spool = d.dir().join("spool").join(id);
    eventually("the spool has let it go", || holds(!spool.join("index").exists()));
}

/// The bytes of a stream, by the tools that people have.
pub(super) fn stored(d: &TestDaemon, id: &str, stream: &str) -> Vec<u8> {
    let file = logs(d, id).join(format!("{stream}.log.gz"));
    let script = "set -o pipefail; zcat \"$0\" | jq -r .content | base64 -d";
    let out = Command::new("bash").args(["-c", script]).arg(file).stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// Whether the tools are there.
pub(super) fn has_jq() -> bool {
    Command::new("jq").arg("--version").output().is_ok_and(|out| out.status.success())
}

/// A client of the query socket.
pub(super) fn queries(d: &TestDaemon) -> PersistServiceClient {
    let environment = Arc::new(EnvBuilder::new().cq_count(1).build());
    let socket = d.dir().join("run/persist-grpc.sock");
    // A window that grows would take in a whole output that nobody reads.
    let channel = ChannelBuilder::new(environment).http2_bdp_probe(false);
    PersistServiceClient::new(channel.connect(&format!("unix:{}", socket.display())))
}

#[test]
fn output_of_a_finished_job_is_exact_and_survives_everything() {
    needs!(has_jq(), "jq is not installed");
    let d = TestDaemon::start();
    let script = "printf 'a\\0\\377b\\n'; seq 30000; echo err >&2";
    let id = d.submit(["sh", "-c", script]);
    d.until_status(&id, "COMPLETED");
    until_complete(&d, &id);
    let numbers: String = (1..=30_000).map(|n| format!("{n}\n")).collect();
    let want = [b"a\0\xffb\n", numbers.as_bytes()].concat();
    assert!(stored(&d, &id, "stdout") == want, "stdout differs");
    assert_eq!(stored(&d, &id, "stderr"), b"err\n");
    let log = |d: &TestDaemon, stream: &str| {
        d.rnx(["job", "log", "--no-follow", &format!("--stream={stream}"), &id]).stdout
    };
    assert!(log(&d, "stdout") == want && log(&d, "stderr") == b"err\n");
    let tail =
        |d: &TestDaemon| d.rnx(["job", "log", "--no-follow", "--tail=2", "--stream=stdout", &id]).text();
    assert_eq!(tail(&d), "29999\n30000\n");
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(logs(&d, &id)), mode(logs(&d, &id).join("stdout.log.gz"))), (0o700, 0o600));
    let d = d.crash().start();
    assert!(log(&d, "stdout") == want, "stdout differs after a crash of everything");
    assert_eq!(tail(&d), "29999\n30000\n");
    let filtered = d.rnx(["job", "log", "--no-follow", "--filter=29998", &id]);
    assert_eq!(filtered.text(), "29998\n");
    assert!(d.rnx(["job", "metrics", &id]).ok().contains("Memory"));
}

#[test]
fn daemon_says_that_history_is_healthy_before_it_is_ready() {
    let d = TestDaemon::start();
    let log = d.log();
    let place = |words: &str| log.find(words).unwrap_or_else(|| panic!("{words:?} is missing in\n{log}"));
    let order = [
        "persist service started successfully",
        "persist service is ready and healthy",
        "server started successfully",
    ];
    assert!(order.map(place).is_sorted(), "{log}");
    // Its lines come through a pipe, at any time.
    d.until_logged("[persist] keeping history");
    assert!(queries(&d).ping(&PingRequest::new()).unwrap().healthy);
    for socket in ["persist-ipc.sock", "persist-grpc.sock"] {
        let mode = fs::metadata(d.dir().join("run").join(socket)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{socket}");
    }
}

#[test]
fn daemon_does_not_start_without_its_history_process() {
    let node = Node::set_up();
    // A directory that is a file: the process ends at once, again and again.
    fs::write(node.dir().join("logs"), "in the way").unwrap();
    let out = Running::start(&mut node.command()).finish();
    assert_eq!(out.code, 1, "{}", out.stderr);
    let last = out.stderr.lines().last().unwrap_or_default();
    let words = "FATAL: persist service is not available but ipc.enabled=true";
    assert!(last.contains(words), "{}", out.stderr);
}

#[test]
fn deleted_job_leaves_nothing_in_history_that_was_away() {
    let d = TestDaemon::start();
    let [first, second] = ["one", "two"].map(|word| {
        let id = d.submit(["echo", word]);
        d.until_status(&id, "COMPLETED");
        until_complete(&d, &id);
        id
    });
    let gone = |d: &TestDaemon, id: &str| {
        let left = ["logs", "metrics", "spool"].map(|dir| d.dir().join(dir).join(id).exists());
        left == [false; 3]
    };
    let told = d.rnx(["--json", "job", "delete", &first]).json();
    assert_eq!(told["message"], "Job deleted successfully");
    assert!(gone(&d, &first), "it is gone when the call is answered");
    d.hold_history();
    let told = d.rnx(["--json", "job", "delete", &second]).json();
    assert_eq!(told["message"], "Job deleted successfully; history is deleted when persist is back");
    assert!(logs(&d, &second).exists());
    // The wish outlives the daemon.
    let d = d.crash().start();
    eventually("it is gone", || holds(gone(&d, &second)));
    d.rnx(["job", "log", "--no-follow", &second]).exits(5);
}

#[test]
fn flood_needs_no_more_of_the_spool_than_its_limit() {
    let d = TestDaemon::with([("joblet.jobSpoolLimit", "4MiB"), ("joblet.spoolLimit", "16MiB")]);
    let id = d.submit(["sh", "-c", "seq 3000000 | tail -c 20000000"]);
    d.until_status(&id, "COMPLETED");
    until_complete(&d, &id);
    let numbers: Vec<u8> = (1..=3_000_000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    let want = &numbers[numbers.len() - 20_000_000..];
    assert!(d.rnx(["job", "log", "--no-follow", &id]).stdout == want, "the output differs");
}

/// All messages of a query, or the code with which it was refused.
pub(super) fn answer<T>(
    stream: grpcio::Result<grpcio::ClientSStreamReceiver<T>>,
) -> Result<Vec<T>, RpcStatusCode> {
    let all: Vec<_> = futures_executor::block_on(stream.unwrap().collect());
    all.into_iter().collect::<Result<Vec<T>, _>>().map_err(|why| match why {
        grpcio::Error::RpcFailure(status) | grpcio::Error::RpcFinished(Some(status)) => status.code(),
        other => panic!("{other}"),
    })
}

#[test]
fn query_socket_answers_ranges_filters_and_deletions() {
    let d = TestDaemon::start();
    let id =
        d.submit(["sh", "-c", "echo one; sleep 0.2; echo two >&2; sleep 0.2; printf 'three\nfour\nfive'"]);
    d.until_status(&id, "COMPLETED");
    until_complete(&d, &id);
    let client = queries(&d);
    let all = QueryLogsRequest { job_id: id.clone(), ..Default::default() };
    let logs = |query: &QueryLogsRequest| -> Result<Vec<LogLine>, _> { answer(client.query_logs(query)) };
    let texts = |query: &QueryLogsRequest| -> Vec<String> {
        logs(query).unwrap().into_iter().map(|line| String::from_utf8(line.content).unwrap()).collect()
    };
    let found = logs(&all).unwrap();
    assert!(found.is_sorted_by_key(|line| line.sequence), "{found:?}");
    assert_eq!(texts(&all).concat(), "one\ntwo\nthree\nfour\nfive");
    let errors = QueryLogsRequest { stream: StreamType::STREAM_TYPE_STDERR.into(), ..all.clone() };
    assert_eq!(texts(&errors), ["two\n"]);
    let filtered = QueryLogsRequest { filter: "o".into(), ..all.clone() };
    assert_eq!(texts(&filtered), ["one\n", "two\n", "four\n"]);
    assert_eq!(texts(&QueryLogsRequest { offset: 1, limit: 1, ..filtered }), ["two\n"]);
    let late = QueryLogsRequest { start_time: found[1].timestamp, ..all.clone() };
    assert_eq!(texts(&late).concat(), "two\nthree\nfour\nfive");
    let metrics =
        |query: &QueryMetricsRequest| -> Result<Vec<Metric>, _> { answer(client.query_metrics(query)) };
    let samples = QueryMetricsRequest { job_id: id.clone(), ..Default::default() };
    let plain = metrics(&samples).unwrap();
    assert!(plain.len() >= 2 && plain.iter().all(|m| m.data.is_some() && !m.sample.is_empty()), "{plain:?}");
    let folded =
        QueryMetricsRequest { aggregation: "max".into(), metric_type: "memory".into(), ..samples.clone() };
    let folded = metrics(&folded).unwrap();
    assert!(folded.len() == 1 && folded[0].values.contains_key("memory_rss"), "{folded:?}");
    for (query, code) in [
        (QueryLogsRequest { limit: -1, ..all.clone() }, RpcStatusCode::INVALID_ARGUMENT),
        (QueryLogsRequest { job_id: "../../etc".into(), ..all.clone() }, RpcStatusCode::INVALID_ARGUMENT),
        (
            QueryLogsRequest { job_id: uuid::Uuid::new_v4().to_string(), ..all.clone() },
            RpcStatusCode::NOT_FOUND,
        ),
    ] {
        assert_eq!(logs(&query).unwrap_err(), code, "{query:?}");
    }
    assert!(!client.delete_job(&DeleteJobRequest::new()).unwrap().success);
    let delete = DeleteJobRequest { job_id: id.clone(), ..Default::default() };
    assert!(client.delete_job_data(&delete).unwrap().success);
    assert_eq!(logs(&all).unwrap_err(), RpcStatusCode::NOT_FOUND);
}
