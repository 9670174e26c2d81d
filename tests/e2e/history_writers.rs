//! Writers that send output as bytes, in both versions of the messages, beside the daemon.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use joblet::job::JobId;
use joblet::output::Stream;
use joblet::pb::persist::{DiskIO, Metric, MetricData, QueryLogsRequest, QueryMetricsRequest};
use joblet::persist::frame::{Frame, Note, Reached};
use joblet::persist::link::Link;

use super::history::{answer, has_jq, logs, queries, stored};
use crate::helper::wait::holds;
use crate::helper::{TestDaemon, eventually};

/// A connection to the write socket.
struct Writer {
    link: Link,
}

impl Writer {
    fn connect(d: &TestDaemon) -> Writer {
        let socket = UnixStream::connect(d.dir().join("run/persist-ipc.sock")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Writer { link: Link::new(mio::net::UnixStream::from_std(socket), 1 << 20) }
    }

    fn send(&mut self, frame: &Frame) {
        self.link.send(frame, Vec::new()).unwrap();
        eventually("the message is sent", || {
            self.link.flush().unwrap();
            holds(!self.link.has_waiting())
        });
    }

    /// Waits for an ACK of so many records.
    fn until_acknowledged(&mut self, job: JobId, rows: u64) -> Note {
        eventually("the output is acknowledged", || {
            while self.link.receive().unwrap() {}
            while let Some(received) = self.link.next_message().unwrap() {
                if let Frame::Ack { job: of, reached, note } = received.frame
                    && of == job
                    && reached.rows >= rows
                {
                    assert_eq!(reached.rows, rows);
                    return Some(note);
                }
            }
            None
        })
    }
}

fn log(version: u32, job: JobId, sequence: u64, text: &str) -> Frame {
    let stream = if text.starts_with("err") { Stream::Stderr } else { Stream::Stdout };
    let time_ns = 1_700_000_000_000_000_000 + sequence as i64;
    Frame::Log { version, job, stream, time_ns, sequence, content: text.as_bytes().to_vec() }
}

fn metric(version: u32, job: JobId, sequence: u64) -> Frame {
    let disk = DiskIO { read_bytes: 7, ..Default::default() };
    let data =
        MetricData { cpu_usage: 0.5, memory_usage: 4096, disk_io: Some(disk).into(), ..Default::default() };
    let metric = Metric {
        job_id: job.to_string(),
        timestamp: 1_700_000_000 + sequence as i64,
        sequence,
        data: Some(data).into(),
        ..Default::default()
    };
    Frame::Metric { version, job, metric: Box::new(metric) }
}

fn texts(d: &TestDaemon, job: JobId) -> Vec<(u64, String)> {
    let query = QueryLogsRequest { job_id: job.to_string(), ..Default::default() };
    let lines = match answer(queries(d).query_logs(&query)) {
        Err(grpcio::RpcStatusCode::NOT_FOUND) => Vec::new(),
        lines => lines.unwrap(),
    };
    lines.into_iter().map(|line| (line.sequence, String::from_utf8(line.content).unwrap())).collect()
}

fn pairs(wanted: &[(u64, &str)]) -> Vec<(u64, String)> {
    wanted.iter().map(|(sequence, text)| (*sequence, (*text).to_owned())).collect()
}

#[test]
fn output_that_is_counted_is_stored_once_and_acknowledged() {
    needs!(has_jq(), "jq is not installed");
    let d = TestDaemon::start();
    let job = JobId::random();
    let mut writer = Writer::connect(&d);
    writer.send(&Frame::Hello { boot_id: "b".into(), instance: "i".into() });
    for frame in
        [log(2, job, 1, "one\n"), log(2, job, 2, "err\n"), metric(2, job, 1), log(2, job, 3, "three\n")]
    {
        writer.send(&frame);
    }
    assert_eq!(writer.until_acknowledged(job, 3), Note::Progress);
    // The same again on a new connection, as after a lost acknowledgement, and more.
    drop(writer);
    let mut writer = Writer::connect(&d);
    for frame in
        [log(2, job, 2, "err\n"), metric(2, job, 1), log(2, job, 3, "three\n"), log(2, job, 4, "four\n")]
    {
        writer.send(&frame);
    }
    writer.until_acknowledged(job, 4);
    assert_eq!(texts(&d, job), pairs(&[(1, "one\n"), (2, "err\n"), (3, "three\n"), (4, "four\n")]));
    writer.send(&metric(2, job, 2));
    writer.send(&Frame::EndOfJob { job, reached: Reached { rows: 4, sample_bytes: 0 }, ended_ns: 9 });
    eventually("the job is complete", || holds(logs(&d, &job.to_string()).join("job.json").exists()));
    assert_eq!(stored(&d, &job.to_string(), "stdout"), b"one\nthree\nfour\n");
    assert_eq!(stored(&d, &job.to_string(), "stderr"), b"err\n");
    let query = QueryMetricsRequest { job_id: job.to_string(), ..Default::default() };
    let samples = answer(queries(&d).query_metrics(&query)).unwrap();
    let data: Vec<_> = samples.iter().map(|sample| (sample.sequence, sample.data.clone().unwrap())).collect();
    assert_eq!(data.len(), 2, "{data:?}");
    assert!(data.iter().all(|(_, data)| data.cpu_usage == 0.5 && data.memory_usage == 4096), "{data:?}");
    assert_eq!(samples[0].timestamp, 1_700_000_001_000_000_000);
}

#[test]
fn output_that_nobody_counts_is_appended() {
    needs!(has_jq(), "jq is not installed");
    let d = TestDaemon::start();
    let job = JobId::random();
    // A counter that begins again, one that stands still, and output longer than a record.
    let long = "x".repeat(200_000);
    let mut writer = Writer::connect(&d);
    for (sequence, text) in [(1, "a\n"), (2, "b\n"), (1, "c\n"), (0, "d\n"), (0, long.as_str())] {
        writer.send(&log(1, job, sequence, text));
    }
    for _ in 0..2 {
        writer.send(&metric(1, job, 1));
    }
    let id = job.to_string();
    let wanted = format!("a\nb\nc\nd\n{long}");
    eventually("all is stored", || {
        let whole: String = texts(&d, job).into_iter().map(|(_, text)| text).collect();
        holds(whole == wanted)
    });
    assert!(stored(&d, &id, "stdout") == wanted.as_bytes());
    let query = QueryMetricsRequest { job_id: id.clone(), ..Default::default() };
    eventually("both samples are stored", || {
        holds(answer(queries(&d).query_metrics(&query)).is_ok_and(|samples| samples.len() == 2))
    });
    // Output from before the end of the daemon is stored.
    writer.send(&log(1, job, 9, "last\n"));
    let d = d.crash().start();
    assert!(stored(&d, &id, "stdout").ends_with(b"last\n"));
}

#[test]
fn writer_of_bytes_cannot_touch_a_job_of_the_daemon() {
    needs!(has_jq(), "jq is not installed");
    let d = TestDaemon::start();
    let id = d.submit(["sh", "-c", "echo own; while [ ! -e /tmp/go ]; do sleep 0.05; done"]);
    eventually("the first line is stored", || holds(logs(&d, &id).join("stdout.log.gz").exists()));
    let job = JobId::parse(&id).unwrap();
    let mut writer = Writer::connect(&d);
    for version in [1, 2] {
        writer.send(&log(version, job, 100, "forged\n"));
    }
    d.until_logged("output of another writer is thrown away");
    d.rnx(["job", "stop", &id]).ok();
    eventually("history has all of the job", || holds(logs(&d, &id).join("job.json").exists()));
    assert_eq!(stored(&d, &id, "stdout"), b"own\n");
}

#[test]
fn message_cut_at_any_byte_stores_nothing_of_it() {
    needs!(has_jq(), "jq is not installed");
    let d = TestDaemon::start();
    let job = JobId::random();
    let first = log(2, job, 1, "whole\n").encode();
    let second = log(2, job, 2, "cut\n").encode();
    let path = d.dir().join("run/persist-ipc.sock");
    for cut in 0..second.len() {
        let mut socket = UnixStream::connect(&path).unwrap();
        socket.write_all(&first).unwrap();
        socket.write_all(&second[..cut]).unwrap();
    }
    for nonsense in [&u32::MAX.to_be_bytes()[..], &[0, 0, 0, 2, 0x10, 0x63]] {
        let mut socket = UnixStream::connect(&path).unwrap();
        socket.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.write_all(nonsense).unwrap();
    }
    // Through the same loop, behind all of them.
    let mut writer = Writer::connect(&d);
    writer.send(&log(2, job, 1, "whole\n"));
    writer.until_acknowledged(job, 1);
    writer.send(&log(2, job, 2, "next\n"));
    writer.until_acknowledged(job, 2);
    assert_eq!(texts(&d, job), pairs(&[(1, "whole\n"), (2, "next\n")]));
}
