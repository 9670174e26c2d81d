//! The cost of a thousand readers of a job's output to the job and the daemon: a job that writes 100 MB takes as long as
//! without them, whether they read nothing, a chunk now and then, or as fast as they can.
//!
//! The readers are streams of gRPC over mutual TLS, in a separate process under SCHED_IDLE: it takes the processor
//! time that the node and its job leave, as if it ran on another machine. The daemon's work for the readers counts in full.
//!
//! `cargo bench --bench readers [-- --readers N] [-- --rounds N]`, as root.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on panics; figures are printed"
)]

#[path = "../tests/helper/mod.rs"]
#[macro_use]
mod helper;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_executor::block_on;
use futures_util::StreamExt;
use futures_util::future::join_all;
use grpcio::{ChannelBuilder, ChannelCredentialsBuilder, ClientSStreamReceiver, EnvBuilder};
use helper::wait::{holds, within};
use helper::{TestDaemon, eventually, programs};
use joblet::pb::joblet::{DataChunk, GetJobLogsReq};
use joblet::pb::joblet_grpc::JobServiceClient;

/// The number of streams of one connection.
const ON_A_CONNECTION: usize = 50;
/// Numbers of eight bytes that the job writes: 100 MiB.
const NUMBERS: u64 = 13_107_200;

/// The pace of the job: as fast as it can, or with a computation before each 64 KiB, like a job that does real work.
const KINDS: [(&str, &str); 2] = [
    ("writes only", "./flood NUMBERS"),
    (
        "computes and writes",
        "python3 -c 'import hashlib, os\nb = bytes(65536)\nfor n in range(1600):\n d = b\"\"\n for i in range(8): d = hashlib.sha256(b + d).digest()\n os.write(1, (d * 2048))'",
    ),
];

/// The loop of the reading process, until it is killed.
fn read(count: &str, pace: &str, port: &str, job: &str, dir: &str) {
    let pem = |name: &str| fs::read(format!("{dir}/certs/{name}.pem")).unwrap();
    let count: usize = count.parse().unwrap();
    let env = Arc::new(EnvBuilder::new().cq_count(1).build());
    let clients: Vec<JobServiceClient> = (0..count.div_ceil(ON_A_CONNECTION))
        .map(|n| {
            let credentials = ChannelCredentialsBuilder::new()
                .root_cert(pem("ca-cert"))
                .cert(pem("client-cert"), pem("client-key"))
                .build();
            // Another argument makes another connection.
            let builder = ChannelBuilder::new(env.clone()).primary_user_agent(&format!("reader-{n}"));
            let builder = builder.enable_http_proxy(false).set_credentials(credentials);
            JobServiceClient::new(builder.connect(&format!("localhost:{port}")))
        })
        .collect();
    let request = GetJobLogsReq { uuid: job.to_owned(), ..Default::default() };
    let mut streams: Vec<ClientSStreamReceiver<DataChunk>> =
        (0..count).map(|n| clients[n / ON_A_CONNECTION].get_job_logs(&request).unwrap()).collect();
    block_on(join_all(streams.iter_mut().map(|stream| stream.next())));
    println!("ready");
    match pace {
        "fast" => {
            let bytes = AtomicU64::new(0);
            let all = streams.iter_mut().map(async |stream| {
                while let Some(Ok(chunk)) = stream.next().await {
                    let before = bytes.fetch_add(chunk.payload.len() as u64, Ordering::Relaxed);
                    let after = before + chunk.payload.len() as u64;
                    if before >> 24 != after >> 24 {
                        println!("16 MiB more");
                    }
                }
            });
            block_on(join_all(all));
        }
        "slow" => loop {
            for turn in streams.chunks_mut(count.div_ceil(10)) {
                block_on(join_all(turn.iter_mut().map(|stream| stream.next())));
                let _ = within(Duration::from_millis(100), || None::<()>);
            }
        },
        _ => drop(std::io::stdin().read_line(&mut String::new())),
    }
    // Also when there is nothing more to read.
    drop(std::io::stdin().read_line(&mut String::new()));
}

/// The reading process, which ends when this value is dropped.
struct Readers {
    child: Child,
    said: Option<BufReader<ChildStdout>>,
}

impl Readers {
    fn start(d: &TestDaemon, count: usize, pace: &str, job: &str) -> Readers {
        let (port, count) = (d.port().to_string(), count.to_string());
        let mut command = Command::new("chrt");
        command.args(["--idle", "0"]).arg(std::env::current_exe().unwrap());
        command.args(["--read", &count, pace, &port, job]).arg(d.dir());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Readers { child, said: Some(said) }
    }

    /// Ends the process; returns how much it has read at full speed, in MiB.
    fn end(mut self) -> u64 {
        let _ = self.child.kill();
        16 * self.said.take().map_or(0, |said| said.lines().count() as u64)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of the daemon's threads, by name, in ms.
fn processor(d: &TestDaemon) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{}/task", d.pid())).unwrap().flatten() {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let Some((name, fields)) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(") ")) else {
            continue;
        };
        // utime and stime of proc_pid_stat(5) in ticks of 10 ms.
        let ticks = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
        *all.entry(name.to_owned()).or_default() += 10 * ticks.sum::<u64>();
    }
    all
}

fn number(d: &TestDaemon, label: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", d.pid())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix(label)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// The result of one run of the job.
struct Run {
    /// The time of the job in ms.
    took: f64,
    /// The growth of the daemon's memory in MiB.
    grown: f64,
    /// The daemon's work for readers meanwhile, in ms of a processor: all of its work but that for the job itself.
    spent: f64,
}

fn run(d: &TestDaemon, what: &str, count: usize, pace: &str) -> Run {
    let flood = programs::c("flood").display().to_string();
    let work = what.replace("NUMBERS", &NUMBERS.to_string());
    // The job starts to write when all readers are connected; its first output shows them that it runs.
    let wait = if count > 0 { 12 } else { 1 };
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + wait;
    let script = format!(
        "echo; while [ $(date +%s) -lt {at} ]; do sleep 0.05; done; a=$(date +%s%N); {work}; b=$(date +%s%N); echo $((b - a)) >&2"
    );
    let before = number(d, "VmRSS:");
    let job = d.submit(["--upload", &flood, "bash", "-c", &script]);
    let readers = (count > 0).then(|| Readers::start(d, count, pace, &job));
    let late = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() >= at;
    assert!(count == 0 || !late, "the readers were not there in time");
    // The peak counts from here on: proc_pid_clear_refs(5).
    fs::write(format!("/proc/{}/clear_refs", d.pid()), "5").unwrap();
    let used = processor(d);
    let own = d.dir().join("spool").join(&job).join("stderr");
    let ended = || fs::read_to_string(&own).ok()?.trim().parse::<f64>().ok();
    let took = within(Duration::from_secs(120), ended).expect("the job ends") / 1e6;
    let grown = number(d, "VmHWM:") - before;
    let spent: BTreeMap<String, u64> = processor(d)
        .into_iter()
        .map(|(name, ms)| (name.clone(), ms.saturating_sub(used.get(&name).copied().unwrap_or(0))))
        .filter(|(_, ms)| *ms > 0)
        .collect();
    let read = readers.map_or(0, Readers::end);
    eprintln!("    {took:.0} ms, {grown:.1} MiB more, {read} MiB read; processor ms: {spent:?}");
    d.until_status(&job, "COMPLETED");
    d.rnx(["job", "delete", &job]).ok();
    eventually("the streams are gone", || holds(number(d, "VmRSS:") > 0.0));
    let for_readers = spent.iter().filter(|(name, _)| name.as_str() != "output").map(|(_, ms)| *ms as f64);
    Run { took, grown, spent: for_readers.sum() }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_unstable_by(f64::total_cmp);
    all[all.len() / 2]
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, mark, count, pace, port, job, dir] = &args[..]
        && mark == "--read"
    {
        return read(count, pace, port, job, dir);
    }
    let given =
        |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1)?.parse().ok());
    let (count, rounds): (usize, usize) =
        (given("--readers").unwrap_or(1000), given("--rounds").unwrap_or(3));
    let d = TestDaemon::start();
    let paces =
        [("none", 0), ("that read nothing", count), ("that read slow", count), ("that read fast", count)];
    for (name, what) in KINDS {
        println!("a job of 100 MB that {name}:");
        let mut figures: Vec<Vec<Run>> = paces.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (at, (pace, readers)) in paces.iter().enumerate() {
                let pace = pace.rsplit(' ').next().unwrap_or_default();
                figures[at].push(run(&d, what, *readers, pace));
            }
        }
        let middle = |runs: &[Run], of: fn(&Run) -> f64| median(runs.iter().map(of).collect());
        let alone = middle(&figures[0], |run| run.took);
        for ((pace, readers), runs) in paces.iter().zip(&figures) {
            let took = middle(runs, |run| run.took);
            println!(
                "  {readers} readers, {pace}: {took:.0} ms, {:.2} times; the daemon has {:.1} MiB more, and took {:.0} ms for them",
                took / alone,
                middle(runs, |run| run.grown),
                middle(runs, |run| run.spent)
            );
        }
    }
}
