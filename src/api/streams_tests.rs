use std::path::Path;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};

use super::super::access::Access;
use super::super::access::tests::Node;
use super::super::logs;
use super::*;
use crate::certs::authority::Pair;
use crate::daemon::command::LogSource;
use crate::forward::Relay;
use crate::output::{LogQuery, LogStream, SpoolWriter, Stream as Side, Watermark};
use crate::pb::joblet::DataChunk;
use crate::stream::Queued;
use crate::stream::pump::STREAMS;

type Reader = StreamReader<DataChunk, RpcStatus>;

/// A job's output in a directory of its own, with the pump that reads it.
struct Bench {
    dir: tempfile::TempDir,
    pump: StreamPump,
    watermark: Arc<Watermark>,
    id: JobId,
    writer: Option<SpoolWriter>,
    node: Node,
    access: Access,
    client: Pair,
}

impl Bench {
    fn new() -> Self {
        let pump = start_pump().unwrap();
        let id = JobId::random();
        let (node, watermark) = (Node::new(), Watermark::new());
        let (access, _) = Access::new(&node.security, pump.clone(), Relay::start().unwrap()).unwrap();
        let client = node.client();
        Bench { dir: tempfile::tempdir().unwrap(), pump, watermark, id, writer: None, node, access, client }
    }

    fn spool(&self) -> std::path::PathBuf {
        Path::join(self.dir.path(), "spool")
    }

    fn write(&mut self, text: &str) {
        let spool = self.spool();
        let writer = self.writer.get_or_insert_with(|| SpoolWriter::create(&spool).unwrap());
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        rustix::io::write(&write, text.as_bytes()).unwrap();
        writer.splice_from(&read, Side::Stdout, 65_536, 7).unwrap();
        self.watermark.publish(writer.rows());
    }

    fn source(&self, query: LogQuery) -> JobSource<LogStream, DataChunk> {
        let source = LogSource {
            id: self.id,
            dir: self.spool(),
            history: None,
            is_known: true,
            watermark: self.watermark.clone(),
        };
        logs::stream(source, query)
    }

    fn open(&self) -> Reader {
        self.open_for(LogQuery::default()).map_err(|s| s.message().to_owned()).unwrap()
    }

    fn open_for(&self, query: LogQuery) -> Result<Reader, RpcStatus> {
        open(&self.pump, self.source(query), 1, self.peer())
    }

    fn peer(&self) -> Peer {
        self.access.peer_of(&self.client.cert)
    }

    /// Waits until the pump knows of so many streams.
    fn has_streams(&self, count: usize) -> bool {
        let start = Instant::now();
        while self.pump.streams() != count {
            if start.elapsed() > Duration::from_secs(20) {
                return false;
            }
            thread::yield_now();
        }
        true
    }
}

fn item(stream: &mut Reader) -> Option<Queued<DataChunk, RpcStatus>> {
    futures_executor::block_on(futures_util::future::poll_fn(|cx| stream.poll_item(cx)))
}

fn chunk(stream: &mut Reader) -> DataChunk {
    match item(stream) {
        Some(Queued::Item(chunk)) => chunk,
        Some(Queued::End(status)) => panic!("ended: {status:?}"),
        None => panic!("no pump"),
    }
}

fn end(stream: &mut Reader) -> (RpcStatusCode, String) {
    loop {
        match item(stream) {
            Some(Queued::Item(_)) => {}
            Some(Queued::End(Ok(()))) => return (RpcStatusCode::OK, String::new()),
            Some(Queued::End(Err(status))) => return (status.code(), status.message().to_owned()),
            None => panic!("no pump"),
        }
    }
}

#[test]
fn a_stream_has_the_history_then_what_follows_then_the_end() {
    let mut bench = Bench::new();
    bench.write("one");
    let mut early = bench.open();
    assert_eq!(chunk(&mut early).payload, b"one");
    bench.write("two");
    let second = chunk(&mut early);
    assert_eq!((second.payload.as_slice(), second.seq, second.timestamp_ns), (&b"two"[..], 2, 7));
    assert_eq!(second.stream.value(), 1);
    let mut late = bench.open();
    assert_eq!(chunk(&mut late).payload, b"one");
    bench.write("three");
    bench.watermark.end();
    assert_eq!(chunk(&mut early).payload, b"three");
    assert_eq!(end(&mut early).0, RpcStatusCode::OK);
    assert_eq!(chunk(&mut late).payload, b"two");
    assert_eq!(chunk(&mut late).payload, b"three");
    assert_eq!(end(&mut late).0, RpcStatusCode::OK);
}

#[test]
fn a_stream_waits_for_a_spool_that_does_not_exist_yet() {
    let mut bench = Bench::new();
    let mut stream = bench.open();
    bench.write("first");
    assert_eq!(chunk(&mut stream).payload, b"first");
}

#[test]
fn a_job_that_never_wrote_ends_its_streams_at_once() {
    let bench = Bench::new();
    let mut waiting = bench.open();
    bench.watermark.end();
    assert_eq!(end(&mut waiting).0, RpcStatusCode::OK);
    assert_eq!(end(&mut bench.open()).0, RpcStatusCode::OK);
}

#[test]
fn many_streams_each_read_everything_once_while_the_job_writes() {
    let mut bench = Bench::new();
    let mut readers = Vec::new();
    for i in 0..400 {
        bench.write(&format!("line {i}\n"));
        if i % 50 == 0 {
            let mut stream = bench.open();
            readers.push(thread::spawn(move || {
                let mut text = Vec::new();
                while let Some(Queued::Item(chunk)) = item(&mut stream) {
                    text.extend(chunk.payload);
                }
                text
            }));
        }
    }
    bench.watermark.end();
    let want: String = (0..400).map(|i| format!("line {i}\n")).collect();
    for reader in readers {
        assert_eq!(String::from_utf8(reader.join().unwrap()).unwrap(), want);
    }
    assert!(bench.has_streams(0));
}

#[test]
fn a_client_that_goes_is_forgotten_also_while_nothing_happens() {
    let mut bench = Bench::new();
    bench.write("x");
    let mut quiet = bench.open();
    chunk(&mut quiet);
    let unread = bench.open();
    drop((quiet, unread));
    assert!(bench.has_streams(0));
}

#[test]
fn the_shutdown_ends_quiet_streams_and_full_ones() {
    let mut bench = Bench::new();
    for i in 0..200 {
        bench.write(&i.to_string());
    }
    let mut full = bench.open();
    let mut quiet = bench.open();
    for _ in 0..200 {
        chunk(&mut quiet);
    }
    bench.pump.shut_down(gone());
    let unavailable = (RpcStatusCode::UNAVAILABLE, "the daemon is shutting down".to_owned());
    assert_eq!(end(&mut quiet), unavailable);
    assert_eq!(end(&mut full), unavailable);
}

#[test]
fn deleted_spool_is_not_found_and_broken_spool_is_an_error() {
    let mut bench = Bench::new();
    bench.write("x");
    std::fs::remove_dir_all(bench.spool()).unwrap();
    let (code, text) = end(&mut bench.open());
    assert_eq!((code, text), (RpcStatusCode::NOT_FOUND, format!("job not found: {}", bench.id)));
    std::fs::create_dir(bench.spool()).unwrap();
    std::fs::write(bench.spool().join("index"), [b'x'; 64]).unwrap();
    assert_eq!(end(&mut bench.open()).0, RpcStatusCode::INTERNAL);
}

#[test]
fn more_streams_than_there_may_be_are_refused() {
    let bench = Bench::new();
    let mut streams: Vec<Reader> = (0..STREAMS).map(|_| bench.open()).collect();
    match bench.open_for(LogQuery::default()) {
        Err(status) => assert_eq!(status.code(), RpcStatusCode::RESOURCE_EXHAUSTED),
        Ok(_) => panic!("one too many"),
    }
    streams.pop();
    assert!(bench.has_streams(STREAMS - 1));
}

#[test]
fn reload_ends_all_streams_of_a_revoked_client_and_no_others() {
    let mut bench = Bench::new();
    for i in 0..200 {
        bench.write(&i.to_string());
    }
    let (mut full, mut quiet) = (bench.open(), bench.open());
    for _ in 0..200 {
        chunk(&mut quiet);
    }
    let revoked = std::mem::replace(&mut bench.client, bench.node.client());
    let mut others = bench.open();
    bench.node.revoke(Some(&revoked));
    bench.access.replace(&bench.node.security).unwrap();
    bench.client = revoked;
    let mut late = bench.open();
    for stream in [&mut quiet, &mut full, &mut late] {
        let (code, text) = end(stream);
        assert_eq!(code, RpcStatusCode::UNAUTHENTICATED);
        assert!(text.contains("the client certificate was revoked at "), "{text}");
    }
    bench.watermark.end();
    assert_eq!(end(&mut others).0, RpcStatusCode::OK);
}

fn is_canceled(stream: &mut Reader) -> bool {
    stream.poll_canceled(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn revoked_client_that_does_not_read_is_cancelled_at_next_check() {
    let mut bench = Bench::new();
    bench.write("x");
    let mut deaf = bench.open();
    bench.node.revoke(Some(&bench.client));
    bench.access.replace(&bench.node.security).unwrap();
    let start = Instant::now();
    assert!(!is_canceled(&mut deaf), "its end is sent first");
    bench.pump.recheck();
    while !is_canceled(&mut deaf) {
        assert!(start.elapsed() < Duration::from_secs(20));
        thread::yield_now();
    }
}

#[test]
fn a_stream_ends_with_its_clients_certificate() {
    let bench = Bench::new();
    let mut stream = bench.open();
    assert!(bench.has_streams(1));
    bench.access.end_now(&bench.client.cert);
    bench.pump.recheck();
    let (code, text) = end(&mut stream);
    assert_eq!(code, RpcStatusCode::UNAUTHENTICATED);
    assert!(text.contains("the client certificate has expired"), "{text}");
}

#[test]
fn a_stream_of_a_quiet_job_ends_when_its_time_has_come() {
    let mut bench = Bench::new();
    bench.write("all there is");
    let soon = SystemTime::now() + Duration::from_millis(100);
    let until = soon.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as i64;
    let query = LogQuery { until_ns: Some(until), ..LogQuery::default() };
    let mut stream = bench.open_for(query).map_err(|s| s.message().to_owned()).unwrap();
    assert_eq!(chunk(&mut stream).payload, b"all there is");
    assert_eq!(end(&mut stream).0, RpcStatusCode::OK);
    assert!(SystemTime::now() > soon);
}
