//! The cost of being seen: `/metrics` and the monitoring of a node with many live jobs.
//!
//! `cargo bench --bench seeing [-- --jobs N]`, as root. Each line is the processor time of the daemon in 20 seconds, in percent of
//! one core, without its thread that samples the jobs: with nobody who looks, then with a reader of the page each five seconds
//! (Prometheus asks less often), then with a stream of the host at the default interval and at two seconds, as the dashboard asks.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on panics; figures are printed"
)]

#[path = "../tests/helper/mod.rs"]
#[macro_use]
mod helper;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use helper::TestDaemon;
use helper::wait::within;
use joblet::pb::joblet::{RunJobRequest, StreamMetricsReq};
use joblet::pb::joblet_grpc::MonitoringServiceClient;

/// The time of one measurement.
const LONG: Duration = Duration::from_secs(20);
/// The time between two questions for the page.
const SCRAPE: Duration = Duration::from_secs(5);
/// The thread whose work is not a part of this.
const SAMPLER: &str = "sampler";

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Processor time of the daemon so far without its sampler, ended threads included.
fn busy(pid: i32) -> Duration {
    let stat = read(&format!("/proc/{pid}/stat"));
    let words: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = words[11].parse::<u64>().unwrap() + words[12].parse::<u64>().unwrap();
    let all = Duration::from_millis(ticks * 10);
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().map(|task| task.path());
    let samplers = tasks.filter(|task| read(&format!("{}/comm", task.display())).trim() == SAMPLER);
    let ns = |path: String| read(&path).split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
    let sampled: u64 = samplers.map(|task| ns(format!("{}/schedstat", task.display()))).sum();
    all.saturating_sub(Duration::from_nanos(sampled))
}

/// Does something each `every` for the time of a measurement, and prints what that has cost the daemon.
fn measure(what: &str, pid: i32, every: Duration, mut act: impl FnMut()) {
    let (began, before) = (Instant::now(), busy(pid));
    while began.elapsed() < LONG {
        act();
        // No condition to wait for: time has to pass.
        let _ = within(every, || None::<()>);
    }
    let share = (busy(pid) - before).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    println!("{what}: {share:.2} % of a core");
}

fn page(address: SocketAddr) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).unwrap();
    text
}

/// The size of the page, and the time of its answer.
fn measure_page(address: SocketAddr) {
    let mut times: Vec<Duration> = (0..100)
        .map(|_| {
            let began = Instant::now();
            page(address);
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    let text = page(address);
    let body = text.split_once("\r\n\r\n").unwrap().1;
    let series = body.lines().filter(|line| !line.starts_with('#')).count();
    println!(
        "/metrics: {series} series, {} KiB; answered in {:.2} ms (median of 100), {:.2} ms (99th), {:.2} ms (longest)",
        body.len() >> 10,
        times[50].as_secs_f64() * 1e3,
        times[98].as_secs_f64() * 1e3,
        times[99].as_secs_f64() * 1e3
    );
}

/// The cost of one reader of the host.
fn measure_stream(d: &TestDaemon, seconds: i32) {
    let (identity, ca) = d.identity("viewer");
    let client = MonitoringServiceClient::new(d.channel(&identity, &ca));
    let wanted = StreamMetricsReq { intervalSeconds: seconds, ..Default::default() };
    let mut stream = client.stream_system_metrics(&wanted).unwrap();
    let over = AtomicBool::new(false);
    let pace =
        if seconds == 0 { "10 seconds (the default)".to_owned() } else { format!("{seconds} seconds") };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                futures_executor::block_on(stream.next()).unwrap().unwrap();
            }
        });
        measure(&format!("the host each {pace}"), d.pid(), LONG, || {});
        over.store(true, Ordering::Relaxed);
    });
}

fn start(d: &TestDaemon, count: usize) {
    let jobs = d.client("default");
    let request = RunJobRequest { command: "sleep".into(), args: vec!["10000".into()], ..Default::default() };
    for _ in 0..count {
        jobs.run_job(&request).unwrap();
    }
    // Warm sandboxes are made again, and the history of the starts is stored.
    let _ = within(Duration::from_secs(10), || None::<()>);
}

fn node(count: usize, metrics: bool) -> TestDaemon {
    let node = helper::daemon::Node::set_up();
    node.set("joblet.maxConcurrentJobs", count + 10);
    node.set("process.subidCount", count + 100);
    if metrics {
        node.set("metrics.listen", "127.0.0.1:0");
    }
    node.start()
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let count = args.iter().position(|a| a == "--jobs").and_then(|at| args.get(at + 1)?.parse().ok());
    let count: usize = count.unwrap_or(1000);
    for metrics in [false, true] {
        let d = node(count, metrics);
        start(&d, count);
        let state = if metrics { "on" } else { "off" };
        measure(&format!("{count} live jobs, metrics {state}, nobody looks"), d.pid(), LONG, || {});
        if metrics {
            let log = d.log();
            let address = log.split("serving metrics | address=").nth(1).unwrap();
            let address = address.split_whitespace().next().unwrap().parse().unwrap();
            measure_page(address);
            measure("/metrics each 5 seconds", d.pid(), SCRAPE, || drop(page(address)));
            measure_stream(&d, 0);
            measure_stream(&d, 2);
        }
    }
}
