//! Selected parts of a job's output, with rnx and over the API.

use futures_util::StreamExt;
use grpcio::RpcStatusCode;
use joblet::pb::joblet::{DataChunk, GetJobLogsReq, OutputStream};

use crate::helper::wait::holds;
use crate::helper::{TestDaemon, eventually, gate};

fn request(id: &str) -> GetJobLogsReq {
    GetJobLogsReq { uuid: id.to_owned(), ..Default::default() }
}

/// All chunks that this request returns.
fn chunks(d: &TestDaemon, request: &GetJobLogsReq) -> Vec<DataChunk> {
    let client = d.client("default");
    let stream = client.get_job_logs(request).unwrap();
    futures_executor::block_on(stream.map(Result::unwrap).collect())
}

fn text(chunks: &[DataChunk]) -> String {
    String::from_utf8(chunks.iter().flat_map(|c| c.payload.clone()).collect()).unwrap()
}

/// A finished job that wrote these parts, each for a separate read: it continues when the log has the part before.
fn ended(d: &TestDaemon) -> String {
    let [first, second, third] = ["first", "second", "third"].map(gate::wait_for);
    let script = format!(
        "echo one; {first}; echo 'two ERROR' >&2; {second}; echo three; echo 'four ERROR'; {third}; printf five"
    );
    let id = d.submit(["sh", "-c", &script]);
    for (gate, last) in [("first", "one\n"), ("second", "two ERROR\n"), ("third", "four ERROR\n")] {
        until_logged(d, &id, last);
        gate::open(&id, gate);
    }
    d.until_status(&id, "COMPLETED");
    id
}

/// Waits until the job's log ends with this.
fn until_logged(d: &TestDaemon, id: &str, last: &str) {
    eventually(&format!("{last:?} is in the log"), || {
        holds(d.rnx(["job", "log", "--no-follow", id]).ok().ends_with(last))
    });
}

#[test]
fn rnx_prints_the_requested_part_of_a_log() {
    let d = TestDaemon::start();
    let id = ended(&d);
    let log = |flags: &[&str]| d.rnx([&["job", "log"], flags, &[id.as_str()]].concat()).ok();
    let all = "one\ntwo ERROR\nthree\nfour ERROR\nfive";
    assert_eq!(log(&[]), all);
    assert_eq!(log(&["--follow", "--tail=all"]), all);
    assert_eq!(log(&["--stream=stderr"]), "two ERROR\n");
    assert_eq!(log(&["--stream", "stdout"]), "one\nthree\nfour ERROR\nfive");
    assert_eq!(log(&["--filter=ERROR"]), "two ERROR\nfour ERROR\n");
    assert_eq!(log(&["--filter=ERROR", "--stream=stdout"]), "four ERROR\n");
    assert_eq!(log(&["-n", "2"]), "four ERROR\nfive");
    assert_eq!(log(&["--lines=0"]), "");
    assert_eq!(log(&["--tail=1", "--filter=ERROR"]), "four ERROR\n");
    assert_eq!(log(&["--since=1h", "--until=now"]), all);
    assert_eq!(log(&["--since=2024-01-01T00:00:00Z"]), all, "as the reference has it");
    assert_eq!(log(&["--until=1h"]), "");
    assert_eq!(log(&["--raw"]), all);
    assert_eq!(log(&["--from-seq=3"]), "three\nfour ERROR\nfive");
    assert_eq!(d.rnx(["log", "--no-follow", &id]).ok(), all);
}

#[test]
fn times_are_printed_before_lines_and_divide_a_log_exactly() {
    let d = TestDaemon::start();
    let id = ended(&d);
    let stamped = d.rnx(["job", "log", "-t", &id]).ok();
    let lines: Vec<(&str, &str)> = stamped.lines().map(|line| line.split_once(' ').unwrap()).collect();
    let words: Vec<&str> = lines.iter().map(|(_, text)| *text).collect();
    assert_eq!(words, ["one", "two ERROR", "three", "four ERROR", "five"]);
    assert!(lines.iter().all(|(time, _)| time.len() == 30 && time.ends_with('Z')), "{stamped}");
    assert!(lines.is_sorted_by_key(|(time, _)| *time), "{stamped}");
    let log = |flag: &str| d.rnx(["job", "log", flag, &id]).ok();
    assert_eq!(log(&format!("--since={}", lines[2].0)), "three\nfour ERROR\nfive");
    assert_eq!(log(&format!("--until={}", lines[1].0)), "one\ntwo ERROR\n");
    let json = d.rnx(["--json", "job", "log", "--tail=1", &id]).ok();
    let value: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!((value["data"].as_str(), value["timestamp"].as_str()), (Some("five"), Some(lines[4].0)));
}

#[test]
fn running_jobs_log_can_be_read_once_or_followed_from_its_end() {
    let d = TestDaemon::start();
    let script = format!("echo a; echo b; printf part; {}; echo ' whole'; echo ERROR", gate::wait_for("go"));
    let id = d.submit(["sh", "-c", &script]);
    eventually("it has written", || holds(d.rnx(["job", "log", "--no-follow", &id]).ok() == "a\nb\npart"));
    assert_eq!(d.rnx(["job", "log", "--no-follow", "--tail=2", &id]).ok(), "b\npart");
    assert_eq!(d.rnx(["job", "log", "--no-follow", "--filter=ERROR", &id]).ok(), "");
    let followers =
        [&["--tail=0"][..], &["--tail=1"], &["--filter=ERROR"], &["--filter=part"], &["--until=now"]]
            .map(|flags| d.rnx_spawn([&["job", "log"], flags, &[id.as_str()]].concat()));
    let [none, part, error, line, past] = followers;
    assert_eq!(past.finish().ok(), "a\nb\npart", "who asks for the past need not wait");
    eventually("the end is shown as it is", || holds(part.printed() == 4));
    d.rnx(["job", "stop", &id]).ok();
    assert_eq!(none.finish().ok(), "");
    assert_eq!(part.finish().ok(), "part");
    assert_eq!(error.finish().ok(), "");
    assert_eq!(line.finish().ok(), "part", "a line that never ended is one");
}

#[test]
fn reconnected_reader_resumes_after_its_last_sequence() {
    let d = TestDaemon::start();
    // With a pause: the collector may take simultaneous output as one chunk of each stream.
    let some = |from, to| format!("for i in $(seq {from} {to}); do echo $i; echo e$i >&2; done");
    let script = format!("{}; {}; {}", some(1, 150), gate::wait_for("go"), some(151, 300));
    let id = d.submit(["sh", "-c", &script]);
    until_logged(&d, &id, "150\n");
    gate::open(&id, "go");
    d.until_status(&id, "COMPLETED");
    let all = chunks(&d, &request(&id));
    assert!(all.len() > 2, "several chunks");
    for seq in 0..=all.len() as u64 + 1 {
        let rest = chunks(&d, &GetJobLogsReq { from_seq: seq, ..request(&id) });
        assert_eq!(rest, all[all.len().min(seq.saturating_sub(1) as usize)..], "from {seq}");
    }
}

#[test]
fn invalid_log_request_is_refused_by_its_field() {
    let d = TestDaemon::start();
    let id = d.submit(["echo", "hello"]);
    let client = d.client("viewer");
    for (field, request) in [
        ("stream", GetJobLogsReq { stream: protobuf::EnumOrUnknown::from_i32(9), ..request(&id) }),
        ("filter", GetJobLogsReq { filter: "x".repeat(1025), ..request(&id) }),
        ("filter", GetJobLogsReq { filter: "a\nb".into(), ..request(&id) }),
        ("since_ns", GetJobLogsReq { since_ns: -1, ..request(&id) }),
        ("until_ns", GetJobLogsReq { since_ns: 2, until_ns: 1, ..request(&id) }),
        ("tail", GetJobLogsReq { tail: Some(-1), ..request(&id) }),
    ] {
        let mut stream = client.get_job_logs(&request).unwrap();
        let Some(Err(grpcio::Error::RpcFailure(status))) = futures_executor::block_on(stream.next()) else {
            panic!("{field} was taken")
        };
        assert_eq!(status.code(), RpcStatusCode::INVALID_ARGUMENT);
        assert!(status.message().contains(field), "{}", status.message());
    }
    let viewer =
        GetJobLogsReq { stream: OutputStream::OUTPUT_STREAM_STDOUT.into(), tail: Some(1), ..request(&id) };
    let stream = client.get_job_logs(&viewer).unwrap();
    let got: Vec<DataChunk> = futures_executor::block_on(stream.map(Result::unwrap).collect());
    assert_eq!(text(&got), "hello\n");
}
