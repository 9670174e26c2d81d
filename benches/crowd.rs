//! The delay of one client's live lines beside a crowd of another client's streams, which read a large spool of small
//! rows again and again: everything, the lines with a word that is not there, the stream that is empty, the last lines.
//!
//! The crowd reads in a separate process under SCHED_IDLE: it takes the processor time that the node and the other client
//! leave, as if it ran on another machine.
//!
//! `cargo bench --bench crowd [-- --streams N] [-- --program JOBLET]`, as root. The delay of a line is the time from its row, as
//! the daemon stamps it, to its arrival at the client.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on panics; figures are printed"
)]

#[path = "../tests/helper/mod.rs"]
#[macro_use]
mod helper;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_executor::block_on;
use futures_util::StreamExt;
use futures_util::future::join_all;
use grpcio::{ChannelBuilder, ChannelCredentialsBuilder, EnvBuilder};
use helper::TestDaemon;
use helper::daemon::Node;
use joblet::pb::joblet::{GetJobLogsReq, OutputStream};
use joblet::pb::joblet_grpc::JobServiceClient;

/// The number of streams of one connection.
const ON_A_CONNECTION: usize = 50;
/// Lines that are measured for one figure.
const LINES: usize = 200;

/// A job with small rows: a pipe in packet mode holds sixteen writes of a byte. The faster the collector is, the more there are.
const ROWS: &str = "import fcntl, os\nfcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_DIRECT)\n\
     for n in range(2000000): os.write(1, b'x' if n % 60 else b'\\n')";

/// What each stream of the crowd asks for.
const KINDS: [&str; 4] = ["all", "a word that is not there", "the empty stream", "the last 100000 lines"];

fn request(kind: &str, job: &str) -> GetJobLogsReq {
    let mut request = GetJobLogsReq { uuid: job.to_owned(), ..Default::default() };
    match kind {
        "a word that is not there" => request.filter = "y".into(),
        "the empty stream" => request.stream = OutputStream::OUTPUT_STREAM_STDERR.into(),
        "the last 100000 lines" => request.tail = Some(100_000),
        _ => {}
    }
    request
}

/// The loop of the crowd, until its process is killed. It reads with the viewer's certificate.
fn read(count: &str, kind: &str, port: &str, job: &str, dir: &str) {
    let pem = |name: &str| fs::read(format!("{dir}/certs/{name}.pem")).unwrap();
    let count: usize = count.parse().unwrap();
    let env = Arc::new(EnvBuilder::new().cq_count(1).build());
    let clients: Vec<JobServiceClient> = (0..count.div_ceil(ON_A_CONNECTION))
        .map(|n| {
            let credentials = ChannelCredentialsBuilder::new()
                .root_cert(pem("ca-cert"))
                .cert(pem("viewer-client-cert"), pem("viewer-client-key"))
                .build();
            // Another argument makes another connection.
            let builder = ChannelBuilder::new(env.clone()).primary_user_agent(&format!("crowd-{n}"));
            let builder = builder.enable_http_proxy(false).set_credentials(credentials);
            JobServiceClient::new(builder.connect(&format!("localhost:{port}")))
        })
        .collect();
    let request = request(kind, job);
    println!("reading");
    let all = (0..count).map(async |n| {
        loop {
            let mut stream = clients[n / ON_A_CONNECTION].get_job_logs(&request).unwrap();
            while let Some(Ok(_)) = stream.next().await {}
        }
    });
    block_on(join_all(all));
}

/// The reading process, which ends when this value is dropped.
struct Crowd(Child);

impl Crowd {
    fn start(d: &TestDaemon, count: usize, kind: &str, job: &str) -> Crowd {
        let (port, count) = (d.port().to_string(), count.to_string());
        let mut command = Command::new("chrt");
        command.args(["--idle", "0"]).arg(std::env::current_exe().unwrap());
        command.args(["--read", &count, kind, &port, job]).arg(d.dir());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "reading\n");
        Crowd(child)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// p50, p95, p99 and the longest delay of live lines, in milliseconds.
fn delays(d: &TestDaemon) -> [f64; 4] {
    let job = d.submit(["bash", "-c", "while :; do echo line; sleep 0.02; done"]);
    let client = d.client("default");
    let request = GetJobLogsReq { uuid: job.clone(), ..Default::default() };
    let mut stream = client.get_job_logs(&request).unwrap();
    let mut all: Vec<f64> = (0..LINES)
        .map(|_| {
            let chunk = block_on(stream.next()).unwrap().unwrap();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64;
            (now - chunk.timestamp_ns) as f64 / 1e6
        })
        .collect();
    drop(stream);
    d.rnx(["job", "stop", &job]).ok();
    all.sort_unstable_by(f64::total_cmp);
    [50, 95, 99, 100].map(|percent| all[(LINES * percent / 100).min(LINES - 1)])
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, mark, count, kind, port, job, dir] = &args[..]
        && mark == "--read"
    {
        return read(count, kind, port, job, dir);
    }
    let given = |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1));
    let most: usize = given("--streams").map_or(100, |n| n.parse().unwrap());
    let mut node = Node::set_up();
    if let Some(program) = given("--program") {
        node.program = program.into();
    }
    let d = node.start();
    let job = d.submit(["python3", "-c", ROWS]);
    d.until_status(&job, "COMPLETED");
    let index = fs::metadata(d.dir().join("spool").join(&job).join("index")).unwrap().len();
    println!("delay of a live line, ms: p50, p95, p99, longest; the crowd reads {} rows", index / 32 - 1);
    println!("  alone: {:.1?}", delays(&d));
    for kind in KINDS {
        for count in [10, most] {
            let crowd = Crowd::start(&d, count, kind, &job);
            println!("  beside {count} streams that read {kind}: {:.1?}", delays(&d));
            drop(crowd);
        }
    }
}
