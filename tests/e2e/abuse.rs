//! Hostile clients. Each attacks on connections of its own; the node's memory stays bounded, and honest requests during and
//! after the attack are served.

use crate::helper::programs::source;
use crate::helper::rnx::Running;
use crate::helper::wait::holds;
use crate::helper::{TestDaemon, eventually, gate};
use grpcio::{CallOption, Client, Marshaller, Method, MethodType, RpcStatusCode};
use joblet::pb::joblet::{EmptyRequest, GetJobLogsReq};
use joblet::pb::joblet_grpc::ALL_METHODS;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

fn client(d: &TestDaemon, case: &str, args: &[String]) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.arg("-B").arg(source("tests/clients/abuse.py")).args([case, &d.port().to_string()]);
    command.arg(d.dir().join("certs")).args(args);
    command
}

/// Runs a case of `tests/clients/abuse.py` against the node and returns its findings by name.
fn abuse(d: &TestDaemon, case: &str, args: &[String]) -> Value {
    let found = Running::start(&mut client(d, case, args)).finish();
    found.ok();
    found.json()
}

fn option() -> CallOption {
    CallOption::default().timeout(Duration::from_secs(20))
}

/// Another client is served as usual.
fn serves_others(d: &TestDaemon) {
    d.client("viewer").list_jobs_opt(&EmptyRequest::new(), option()).unwrap();
}

// Messages that their method does not expect.

#[allow(clippy::ptr_arg, reason = "the type of a message's serializer")]
fn put(bytes: &Vec<u8>, slice: &mut grpcio::GrpcSlice) -> grpcio::Result<()> {
    *slice = bytes.clone().into();
    Ok(())
}

fn take(_: grpcio::MessageReader) -> grpcio::Result<Vec<u8>> {
    Ok(Vec::new())
}

/// The first answer to a call whose message is these bytes. A stream that has begun is not waited for: some never end.
fn call(client: &Client, name: &'static str, bytes: Vec<u8>) -> (RpcStatusCode, String) {
    let method: Method<Vec<u8>, Vec<u8>> = Method {
        ty: MethodType::ServerStreaming,
        name,
        req_mar: Marshaller { ser: put, de: take },
        resp_mar: Marshaller { ser: put, de: take },
    };
    let mut answers = client.server_streaming(&method, &bytes, option()).unwrap();
    match futures_executor::block_on(futures_util::StreamExt::next(&mut answers)) {
        None | Some(Ok(_)) => (RpcStatusCode::OK, String::new()),
        Some(Err(grpcio::Error::RpcFailure(status) | grpcio::Error::RpcFinished(Some(status)))) => {
            (status.code(), status.message().to_owned())
        }
        Some(Err(other)) => panic!("{name}: {other}"),
    }
}

/// Field `number` with these bytes as its content.
fn field(number: u8, inner: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut size = inner.len();
    while size > 127 {
        out.push((size & 127) as u8 | 128);
        size >>= 7;
    }
    out.push(size as u8);
    out.extend(inner);
    out
}

/// Every kind of malformed message, for any method and without knowledge of it.
fn malformed() -> Vec<Vec<u8>> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut all: Vec<Vec<u8>> = (0..20)
        .map(|_| {
            let size = random() % 200;
            (0..size).map(|_| random() as u8).collect()
        })
        .collect();
    // Each low field in each wire type, complete and cut short; unknown fields; one field again and again.
    for number in 1..16u8 {
        all.extend((0..8).flat_map(|wire| [vec![number << 3 | wire], vec![number << 3 | wire, 0xff, 0x7f]]));
    }
    all.push(field(1, b"\xff\xfe no UTF-8 \x80"));
    all.push([0xfa, 0xff, 0x3f, 0x04, b'w', b'h', b'a', b't'].repeat(1000));
    all.push(field(1, b"/no/such/program").repeat(5000));
    all.push(vec![0xff; 1 << 20]);
    // A length of 2 GiB and more without content.
    all.push(vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x07]);
    all.push(vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    // Ten thousand levels of groups that never end, and of nested messages.
    for number in [1, 4, 15u8] {
        all.push(vec![number << 3 | 3; 10_000]);
        all.push((0..10_000).fold(Vec::new(), |inner, _| field(number, &inner)));
    }
    all
}

#[test]
fn malformed_messages_fail_their_own_call_on_every_method() {
    let d = TestDaemon::start();
    let (admin, ca) = d.identity("default");
    let admin = Client::new(d.channel(&admin, &ca));
    // Another call on the same connection, and the output that it follows.
    let job = d.submit(["sleep", "1000"]);
    let jobs = joblet::pb::joblet_grpc::JobServiceClient { client: admin.clone() };
    let request = GetJobLogsReq { uuid: job.clone(), ..Default::default() };
    let mut followed = jobs.get_job_logs(&request).unwrap();
    let bodies = malformed();
    let mut before = 0;
    for (round, name) in ALL_METHODS.iter().chain(ALL_METHODS).enumerate() {
        if round == ALL_METHODS.len() {
            before = d.memory();
        }
        for bytes in &bodies {
            let (code, text) = call(&admin, name, bytes.clone());
            let shown = &bytes[..bytes.len().min(20)];
            assert!(
                [
                    RpcStatusCode::OK,
                    RpcStatusCode::INVALID_ARGUMENT,
                    RpcStatusCode::NOT_FOUND,
                    RpcStatusCode::FAILED_PRECONDITION,
                    RpcStatusCode::UNIMPLEMENTED,
                    RpcStatusCode::INTERNAL,
                ]
                .contains(&code),
                "{name} {shown:x?}: {code} {text}"
            );
        }
    }
    let grown = d.memory().saturating_sub(before);
    assert!(grown < 16 * MIB, "the second round grew the daemon by {grown} bytes");
    d.rnx(["job", "stop", &job]).ok();
    let end = futures_executor::block_on(futures_util::StreamExt::next(&mut followed));
    assert!(end.is_none(), "the follower was cut off: {end:?}");
}

#[test]
fn false_message_size_takes_bounded_memory_and_harms_no_other() {
    let d = TestDaemon::with([("grpc.maxRecvMsgSize", MIB)]);
    let job = d.submit(["sleep", "1000"]);
    // The quota behind that limit is 256 MiB.
    let found = abuse(&d, "bodies", &[MIB.to_string(), job.clone(), (400 * MIB).to_string()]);
    let is = |name: &str, start: &str| {
        let end = found[name].as_str().unwrap_or_default();
        assert!(end.starts_with(start), "{name}: {found:#}");
    };
    for name in ["no message", "half a prefix", "half a message", "4 GiB claimed, nothing sent"] {
        is(name, "3 the request is incomplete");
    }
    is("unknown flag", "3 ");
    is("compressed without a method", "3 ");
    is("compressed", "12 Compression algorithm 'gzip' is disabled");
    is("too large", "8 Received message larger than max");
    // ENHANCE_YOUR_CALM, which gRPC clients call RESOURCE_EXHAUSTED.
    is("4 GiB claimed, much sent", "RST 11");
    for name in ["afterwards", "on the same connection", "on another connection", "on a new connection"] {
        is(name, "0");
    }
    is("the follower", "still there");
    assert!(d.memory() < 350 * MIB, "{} MiB", d.memory() / MIB);
    d.rnx(["job", "stop", &job]).ok();
}

#[test]
fn http2_floods_end_their_connection_or_cost_nothing() {
    let d = TestDaemon::start();
    let before = d.memory();
    let found = abuse(&d, "floods", &[]);
    for (name, end) in found.as_object().unwrap() {
        let end = end.as_str().unwrap();
        let fine = match name.as_str() {
            "rapid reset" | "endless streams" | "frame too large" | "no http2" => end == "closed",
            // ENHANCE_YOUR_CALM, where it arrives before the reset behind it.
            "ping" => end == "closed 11" || end == "closed",
            _ => end == "0",
        };
        assert!(fine, "{name}: {end}");
    }
    serves_others(&d);
    let grown = d.memory().saturating_sub(before);
    assert!(grown < 400 * MIB, "{} MiB", grown / MIB);
    d.until_logged("connection closed: too many calls without use");
}

#[test]
fn metadata_without_measure_is_refused() {
    let d = TestDaemon::start();
    let found = abuse(&d, "headers", &[]);
    for (name, end) in found.as_object().unwrap() {
        let end = end.as_str().unwrap();
        let fine = match name.as_str() {
            "1 MiB" | "10000 headers" => end == "8",
            "timeout 0n" => end.starts_with("4 "),
            // The shortest timeout may suffice.
            "timeout 1n" => end == "0" || end.starts_with("4 "),
            "timeout 99999999H" | "timeout 999999999999999999999H" => end == "0",
            // No number, no unit, negative: the gRPC protocol over HTTP/2 allows none of these timeouts.
            name if name.starts_with("timeout ") => end == "RST 2",
            "NUL" | "upper case" | "no name" => end == "0" || end.starts_with("closed"),
            _ => end == "0",
        };
        assert!(fine, "{name}: {end}");
    }
    serves_others(&d);
}

#[test]
fn slow_client_is_disconnected_after_five_seconds() {
    let d = TestDaemon::start();
    let found = abuse(&d, "loris", &[]);
    for (name, seconds) in found.as_object().unwrap() {
        let seconds = seconds.as_f64().unwrap();
        assert!((4.0..8.0).contains(&seconds), "{name}: {seconds} s");
    }
}

#[test]
fn stalled_calls_use_up_only_the_permits_of_their_client() {
    let d = TestDaemon::start();
    let found = abuse(&d, "stall", &[]);
    assert_eq!(found["others"], "0", "{found:#}");
    let refused = found["itself"].as_str().unwrap();
    assert!(refused.starts_with("8 too many requests: this client has 512 calls open"), "{found:#}");
    assert_eq!(found["itself afterwards"], "0", "{found:#}");
}

#[test]
fn useless_connections_do_not_block_other_clients() {
    let d = TestDaemon::start();
    let found = abuse(&d, "crowd", &[]);
    assert_eq!((&found["beside them"], &found["an idle one"]), (&"0".into(), &"0".into()), "{found:#}");
    serves_others(&d);
}

#[test]
fn a_daemon_out_of_descriptors_serves_again_when_it_has_some() {
    let d = TestDaemon::start();
    let job = d.submit(["sleep", "1000"]);
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", d.pid())).unwrap().count();
    // New jobs leave 64 free.
    let limit = descriptors() + 150;
    let args = ["--pid", &d.pid().to_string(), &format!("--nofile={limit}:")];
    assert!(Command::new("prlimit").args(args).status().unwrap().success());
    let crowd: Vec<_> =
        (0..200).map(|_| std::net::TcpStream::connect(("127.0.0.1", d.port())).unwrap()).collect();
    d.until_logged("File descriptor limit reached");
    drop(crowd);
    eventually("the daemon serves again", || {
        holds(d.client("viewer").list_jobs_opt(&EmptyRequest::new(), option()).is_ok())
    });
    // The rest of the crowd keeps its descriptors meanwhile; a job needs more than the one descriptor of a call.
    eventually("the crowd is gone", || holds(descriptors() <= limit - 100));
    assert_eq!(d.status(&job)["status"], "RUNNING");
    d.run(["true"]).ok();
    d.rnx(["job", "stop", &job]).ok();
}

/// Readers of a job's output that read nothing during the life of this value.
struct Readers(Child, BufReader<ChildStdout>);

impl Readers {
    fn of(d: &TestDaemon, job: &str, count: usize) -> Readers {
        let mut command = client(d, "readers", &[count.to_string(), job.to_owned()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Readers(child, said)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.1.read_line(&mut String::new());
        let _ = self.0.wait();
    }
}

/// The number of rounds of the job without readers, and again with them.
const ROUNDS: usize = 20;

/// The nanoseconds of each round, as the job measures them, from the given round on; waits for all rounds.
fn rounds(spool: &Path, from: usize) -> Vec<u64> {
    eventually("the job goes on", || {
        let text = fs::read_to_string(spool.join("stderr")).unwrap_or_default();
        let all: Vec<u64> = text.lines().filter_map(|l| l.parse().ok()).skip(from).collect();
        (all.len() >= ROUNDS).then_some(all)
    })
}

/// The number of the daemon's descriptors for this file.
fn open(d: &TestDaemon, file: &Path) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", d.pid())).unwrap().flatten();
    open.filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == file)).count()
}

/// The processor time of the daemon's thread with this name.
fn processor_time(d: &TestDaemon, name: &str) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{}/task", d.pid())).unwrap().flatten();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    let stat = stats.into_iter().find(|stat| stat.contains(&format!("({name})"))).unwrap();
    // utime and stime of proc_pid_stat(5) in ticks of 10 ms.
    let fields = stat.rsplit_once(") ").unwrap().1.split(' ').skip(11).take(2);
    Duration::from_millis(10 * fields.map(|field| field.parse::<u64>().unwrap()).sum::<u64>())
}

fn median(mut all: Vec<u64>) -> u64 {
    all.sort_unstable();
    all[all.len() / 2]
}

#[test]
fn thousands_of_slow_readers_are_cheap_and_slow_no_job_or_call() {
    const READERS: usize = 2000;
    let d = TestDaemon::with([("joblet.spoolLimit", "1GiB"), ("joblet.jobSpoolLimit", "1GiB")]);
    // All of it stays in the spool, where this test looks.
    d.hold_history();
    // A full pipe at a time: the largest chunks there are.
    let round = "dd if=/dev/zero bs=65536 count=32 2>/dev/null";
    let round = format!("a=$(date +%s%N); {round}; b=$(date +%s%N); echo $((b - a)) >&2");
    let rounds_of_it = format!("for i in $(seq {ROUNDS}); do {round}; done");
    // The same number before the readers come and beside them: the amount of output does not depend on their pace.
    let script = format!("{rounds_of_it}; {}; {rounds_of_it}; sleep 1000", gate::wait_for("watched"));
    let job = d.submit(["bash", "-c", &script]);
    let spool = d.dir().join("spool").join(&job);
    let alone = median(rounds(&spool, 0));
    let before = d.memory();
    let readers = Readers::of(&d, &job, READERS);
    eventually("all of them are served", || holds(open(&d, &spool.join("index")) >= READERS));
    let (start, pump) = (Instant::now(), processor_time(&d, "log-pump"));
    gate::open(&job, "watched");
    let watched = median(rounds(&spool, ROUNDS));
    let share = (processor_time(&d, "log-pump") - pump).as_secs_f64() / start.elapsed().as_secs_f64();
    let each = d.memory().saturating_sub(before) / READERS as u64;
    eprintln!(
        "a round: {} us alone, {} us with {READERS} readers, who take {share:.3} of a processor and {each} bytes each",
        alone / 1000,
        watched / 1000
    );
    assert!(each < 80 << 10, "{each} bytes a reader");
    // Times depend on other load. The readers cost the job as much as they cost the processor.
    assert!(share < 0.2, "{share} of a processor");
    serves_others(&d);
    d.rnx(["job", "stop", &job]).ok();
    let eager = d.rnx(["job", "log", &job]);
    let written = |name| fs::metadata(spool.join(name)).unwrap().len();
    assert_eq!(eager.stdout.len() as u64, written("stdout") + written("stderr"), "{}", eager.stderr);
    drop(readers);
}
