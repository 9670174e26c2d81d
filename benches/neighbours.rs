//! The effect of a client that floods a node on another client: the latency of its GetJobStatus, beside floods of
//! other calls over other connections, compared with that on an idle node in the same run.
//!
//! The flood comes from a separate process under SCHED_IDLE: it takes the processor time that the node and the other client
//! leave, as if it ran on another machine.
//!
//! `cargo bench --bench neighbours`, as root.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on panics; figures are printed"
)]

#[path = "../tests/helper/mod.rs"]
#[macro_use]
mod helper;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use grpcio::{CallOption, ChannelBuilder, ChannelCredentialsBuilder, EnvBuilder};
use helper::TestDaemon;
use joblet::pb::joblet::{EmptyRequest, GetJobLogsReq, GetJobStatusReq, RunJobRequest};
use joblet::pb::joblet_grpc::{
    JobServiceClient, METHOD_JOB_SERVICE_GET_JOB_STATUS, METHOD_JOB_SERVICE_LIST_JOBS,
    METHOD_JOB_SERVICE_RUN_JOB,
};

/// Connections of the flooding client, and calls that each keeps in flight.
const CONNECTIONS: usize = 8;
const IN_FLIGHT: usize = 16;
/// Calls that are measured for one figure.
const CALLS: usize = 2000;
/// The number of jobs in the node's table.
const JOBS: usize = 20;

/// p50 and p99 of the status call, in microseconds.
fn latency(client: &JobServiceClient, job: &str) -> (u64, u64) {
    let request = GetJobStatusReq { uuid: job.to_owned(), ..Default::default() };
    let mut all: Vec<u64> = (0..CALLS)
        .map(|_| {
            let start = Instant::now();
            client.get_job_status(&request).unwrap();
            u64::try_from(start.elapsed().as_micros()).unwrap()
        })
        .collect();
    all.sort_unstable();
    (all[CALLS / 2], all[CALLS * 99 / 100])
}

/// The flooding process, which ends when this value is dropped.
struct Flood {
    child: Child,
    /// The number of finished calls, in hundreds.
    hundreds: Arc<AtomicUsize>,
    since: Instant,
}

impl Flood {
    /// The mean number of calls a second so far.
    fn rate(&self) -> f64 {
        100.0 * self.hundreds.load(Ordering::Relaxed) as f64 / self.since.elapsed().as_secs_f64()
    }

    fn start(d: &TestDaemon, policy: &str, kind: &str, job: &str) -> Flood {
        let port = d.port().to_string();
        let mut command = Command::new("chrt");
        command.args([policy, "0"]).arg(std::env::current_exe().unwrap()).args(["--flood", kind, &port, job]);
        let mut child = command.arg(d.dir()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(said.next().unwrap().unwrap(), "flooding");
        let hundreds = Arc::new(AtomicUsize::new(0));
        let count = hundreds.clone();
        std::thread::spawn(move || {
            said.for_each(|_| {
                count.fetch_add(1, Ordering::Relaxed);
            })
        });
        Flood { child, hundreds, since: Instant::now() }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The loop of the flooding process, until it is killed.
fn flood(kind: &str, port: &str, job: &str, dir: &str) {
    let read = |name: &str| std::fs::read(format!("{dir}/certs/{name}.pem")).unwrap();
    let option = || CallOption::default().timeout(Duration::from_secs(60));
    let clients: Vec<JobServiceClient> = (0..CONNECTIONS)
        .map(|n| {
            let credentials = ChannelCredentialsBuilder::new()
                .root_cert(read("ca-cert"))
                .cert(read("client-cert"), read("client-key"))
                .build();
            let env = Arc::new(EnvBuilder::new().cq_count(1).build());
            // Another argument makes another connection.
            let builder =
                ChannelBuilder::new(env).primary_user_agent(&format!("flood-{n}")).enable_http_proxy(false);
            JobServiceClient::new(builder.set_credentials(credentials).connect(&format!("localhost:{port}")))
        })
        .collect();
    clients[0].list_jobs(&EmptyRequest::new()).unwrap();
    println!("flooding");
    let one = async |client: &JobServiceClient| match kind {
        "GetJobStatus" => {
            let request = GetJobStatusReq { uuid: job.to_owned(), ..Default::default() };
            let call = client.client.unary_call_async(&METHOD_JOB_SERVICE_GET_JOB_STATUS, &request, option());
            drop(call.unwrap().await);
        }
        "ListJobs" => {
            let request = EmptyRequest::new();
            let call = client.client.unary_call_async(&METHOD_JOB_SERVICE_LIST_JOBS, &request, option());
            drop(call.unwrap().await);
        }
        "RunJob" => {
            let request = RunJobRequest { command: "true".into(), ..Default::default() };
            let call = client.client.unary_call_async(&METHOD_JOB_SERVICE_RUN_JOB, &request, option());
            drop(call.unwrap().await);
        }
        _ => {
            let request = GetJobLogsReq { uuid: job.to_owned(), ..Default::default() };
            let mut stream = client.get_job_logs_opt(&request, option()).unwrap();
            while stream.next().await.is_some() {}
        }
    };
    let done = AtomicUsize::new(0);
    futures_executor::block_on(async {
        let mut all = FuturesUnordered::new();
        for client in &clients {
            all.extend((0..IN_FLIGHT).map(|_| async {
                loop {
                    one(client).await;
                    if done.fetch_add(1, Ordering::Relaxed) % 100 == 99 {
                        println!("100 more");
                    }
                }
            }));
        }
        let () = all.next().await.unwrap();
    });
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, mark, kind, port, job, dir] = &args[..]
        && mark == "--flood"
    {
        return flood(kind, port, job, dir);
    }
    let d = TestDaemon::start();
    let jobs: Vec<String> = (0..JOBS).map(|_| d.submit(["sh", "-c", "seq 1000"])).collect();
    for job in &jobs {
        d.until_status(job, "COMPLETED");
    }
    let viewer = d.client("viewer");
    latency(&viewer, &jobs[0]);
    println!(
        "GetJobStatus of a viewer beside {CONNECTIONS} connections of an administrator, {IN_FLIGHT} calls in flight on each"
    );
    for (policy, what) in
        [("--idle", "the flood has what processor time is left"), ("--other", "and with its share of it")]
    {
        println!("{what}:");
        for kind in ["GetJobStatus", "ListJobs", "GetJobLogs", "RunJob"] {
            let idle = latency(&viewer, &jobs[0]);
            let flooding = Flood::start(&d, policy, kind, &jobs[0]);
            let beside = latency(&viewer, &jobs[0]);
            println!(
                "  {:.0} {kind} a second: p50 {} us, {:.1} times the {} us on the idle node; p99 {} us ({} us)",
                flooding.rate(),
                beside.0,
                beside.0 as f64 / idle.0 as f64,
                idle.0,
                beside.1,
                idle.1
            );
            drop(flooding);
        }
    }
}
