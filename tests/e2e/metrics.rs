//! The resource usage of a job, from its first sample to its last: stored, streamed, aggregated, and kept without a daemon.

use crate::helper::daemon::{Node, TestDaemon};
use crate::helper::programs;
use crate::helper::rnx::Running;
use crate::helper::wait::{eventually, holds};
use futures_util::StreamExt;
use grpcio::{ClientSStreamReceiver, RpcStatusCode};
use joblet::pb::joblet::{JobMetricsRequest, JobMetricsSample, StreamJobMetricsRequest};
use joblet::pb::joblet_grpc::JobServiceClient;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A node with the highest sample rate.
fn node() -> TestDaemon {
    TestDaemon::with([("job_metrics.default_sample_rate", "1s")])
}

/// A node with so low a sample rate that a short job has no sample between its start and its end, even on a slow machine.
fn rarely() -> TestDaemon {
    TestDaemon::with([("job_metrics.default_sample_rate", "1m")])
}

fn about(id: &str) -> JobMetricsRequest {
    JobMetricsRequest { uuid: id.to_owned(), ..Default::default() }
}

/// An open stream, with the client that it needs.
struct Reading(
    ClientSStreamReceiver<JobMetricsSample>,
    #[allow(dead_code, reason = "kept open")] JobServiceClient,
);

fn open(d: &TestDaemon, request: &JobMetricsRequest) -> Reading {
    let client = d.client("viewer");
    Reading(client.get_job_metrics(request).unwrap(), client)
}

fn next(stream: &mut Reading) -> Option<JobMetricsSample> {
    futures_executor::block_on(stream.0.next()).map(Result::unwrap)
}

fn all(d: &TestDaemon, request: &JobMetricsRequest) -> Vec<JobMetricsSample> {
    let mut stream = open(d, request);
    std::iter::from_fn(|| next(&mut stream)).collect()
}

fn refusal(d: &TestDaemon, request: &JobMetricsRequest) -> (RpcStatusCode, String) {
    let mut reading = open(d, request);
    match futures_executor::block_on(reading.0.next()) {
        Some(Err(grpcio::Error::RpcFailure(status) | grpcio::Error::RpcFinished(Some(status)))) => {
            (status.code(), status.message().to_owned())
        }
        other => panic!("not refused: {other:?}"),
    }
}

fn file(d: &TestDaemon, id: &str) -> PathBuf {
    d.dir().join("spool").join(id).join("metrics.jsonl")
}

#[test]
fn shortest_job_has_a_sample_at_its_start_and_one_at_its_end() {
    let d = rarely();
    let id = d.submit(["--max-memory=64", "--max-cpu=50", "true"]);
    d.until_status(&id, "COMPLETED");
    let samples = all(&d, &about(&id[..8]));
    assert_eq!(samples.len(), 2, "{samples:?}");
    for sample in &samples {
        assert_eq!((sample.jobId.as_str(), sample.sampleIntervalSeconds), (id.as_str(), 60));
        assert!(sample.timestamp > 1_700_000_000 && sample.cgroupPath.contains(&id), "{sample:?}");
        let limits = &sample.limits;
        assert_eq!((limits.cpu, limits.memory, limits.io), (50, 64 << 20, 0));
        assert!(sample.cpu.is_some() && sample.process.is_some());
        assert!(sample.gpu.is_empty() && sample.gpuAllocation.is_empty());
    }
    let last = &samples[1];
    assert!(last.cpu.usageUsec > 0 && last.cpu.usageUsec >= samples[0].cpu.usageUsec, "{last:?}");
    assert_eq!((last.process.threads, last.process.openFDs), (Some(0), Some(0)), "nobody is left");
    assert_eq!(samples[0].cpu.usagePercent, None, "there is nothing to compare the first one with");
    let stored = file(&d, &id);
    assert_eq!(fs::metadata(&stored).unwrap().permissions().mode() & 0o777, 0o600);
    d.rnx(["job", "delete", &id]).ok();
    assert!(!stored.exists(), "samples go with the job");
    assert_eq!(refusal(&d, &about(&id)), (RpcStatusCode::NOT_FOUND, format!("job not found: {id}")));
}

#[test]
fn history_and_live_samples_have_no_seam() {
    let d = node();
    let id = d.submit(["sleep", "1000"]);
    let mut early = open(&d, &about(&id));
    let mut seen: Vec<_> = (0..3).map(|_| next(&mut early).unwrap()).collect();
    let late = open(&d, &about(&id));
    let stuck = open(&d, &about(&id));
    d.rnx(["job", "stop", &id]).ok();
    seen.extend(std::iter::from_fn(|| next(&mut early)));
    let mut late = late;
    let again: Vec<_> = std::iter::from_fn(|| next(&mut late)).collect();
    assert_eq!(again, seen, "who comes later has the same samples");
    assert_eq!(all(&d, &about(&id)), seen, "and who comes afterwards");
    let lines = fs::read_to_string(file(&d, &id)).unwrap().lines().count();
    assert_eq!(lines, seen.len(), "each once");
    assert!(seen.is_sorted_by_key(|s| s.timestamp) && seen.len() >= 4, "{seen:?}");
    drop(stuck);
}

#[test]
fn a_busy_job_shows_its_processor_time_and_its_processes() {
    let d = node();
    let hog = programs::c("hog_cpu").display().to_string();
    let id = d.submit(["--upload", &hog, "./hog_cpu"]);
    let mut stream = open(&d, &about(&id));
    // Earlier samples may show joblet-init alone.
    let busy = eventually("a sample shows the busy program beside joblet-init", || {
        next(&mut stream).filter(|s| {
            let process = &s.process;
            let busy = s.cpu.usagePercent > Some(5.0) && s.cpu.userUsec > 0 && process.running > Some(0);
            busy && process.current >= Some(2) && process.threads >= Some(2)
        })
    });
    assert!(busy.process.openFDs > Some(3) && busy.process.maxFDs >= Some(64), "{busy:?}");
    assert!(busy.network.interfaces.keys().eq(["lo"]), "a job without a network has its loopback: {busy:?}");
    d.rnx(["job", "stop", &id]).ok();
    let rest: Vec<_> = std::iter::from_fn(|| next(&mut stream)).collect();
    let last = rest.last().unwrap_or(&busy);
    assert!(last.cpu.usageUsec >= busy.cpu.usageUsec, "the last one counts all: {last:?}");
    assert!(last.network.is_some(), "also what went over the network, though nobody is left: {last:?}");
}

#[test]
fn memory_needs_no_controller_and_unknown_values_are_absent() {
    let d = node();
    let script = "import time; x = bytearray(64 << 20); time.sleep(1000)";
    let id = d.submit(["/usr/bin/python3", "-c", script]);
    let mut stream = open(&d, &about(&id));
    let holding = eventually("a sample shows the memory", || {
        next(&mut stream).filter(|s| s.memory.is_some() && s.memory.anon >= Some(64 << 20))
    });
    assert!(holding.memory.current >= 64 << 20, "{holding:?}");
    let group = PathBuf::from(&holding.cgroupPath);
    assert_eq!(holding.io.is_some(), group.join("io.stat").exists());
    assert_eq!(holding.memory.max.is_some(), group.join("memory.max").exists());
    if !group.join("memory.stat").exists() {
        assert_eq!((holding.memory.slab, holding.memory.pgFault, holding.memory.oomKill), (None, None, None));
    }
    if !fs::read_to_string(group.join("cpu.stat")).unwrap().contains("nr_periods") {
        assert_eq!((holding.cpu.nrPeriods, holding.cpu.throttledUsec), (None, None));
    }
    d.rnx(["job", "stop", &id]).ok();
    let last = std::iter::from_fn(|| next(&mut stream)).last().unwrap();
    assert!(last.memory.is_some(), "{last:?}");
    assert!(last.memory.peak >= Some(64 << 20), "a host that keeps no peak shows the sampled one: {last:?}");
    let status = d.status(&id);
    assert!(status["peakMemoryBytes"].as_u64().is_some_and(|peak| peak >= 64 << 20), "{status}");
}

#[test]
fn host_network_is_not_reported_as_the_jobs_network() {
    let d = TestDaemon::with([("network.allow_host", true)]);
    let id = d.submit(["--network=host", "sleep", "1000"]);
    let first = next(&mut open(&d, &about(&id))).unwrap();
    assert!(first.network.is_none() && first.cpu.is_some(), "{first:?}");
    d.rnx(["job", "stop", &id]).ok();
}

#[test]
fn ranges_and_folds_match_the_request_or_are_refused_by_name() {
    let d = node();
    let id = d.submit(["sleep", "1000"]);
    let mut stream = open(&d, &about(&id));
    let live: Vec<_> = (0..3).map(|_| next(&mut stream).unwrap()).collect();
    d.rnx(["job", "stop", &id]).ok();
    let samples = all(&d, &about(&id));
    assert!(samples.len() >= 4 && samples.starts_with(&live), "{samples:?}");
    let fold = |how: &str| {
        let request = JobMetricsRequest { aggregate: how.into(), ..about(&id) };
        let [one] = all(&d, &request).try_into().unwrap();
        one.cpu.usageUsec
    };
    let usage: Vec<u64> = samples.iter().map(|s| s.cpu.usageUsec).collect();
    assert_eq!(fold("min"), *usage.iter().min().unwrap());
    assert_eq!(fold("max"), *usage.iter().max().unwrap());
    assert_eq!(fold("sum"), usage.iter().sum::<u64>());
    assert!(fold("avg").abs_diff(fold("sum") / usage.len() as u64) <= 1);
    let hours = JobMetricsRequest { aggregate: "max".into(), interval_s: 86_400 * 365, ..about(&id) };
    assert_eq!(all(&d, &hours).len(), 1);
    let middle = (samples[1].timestamp + 1) * 1_000_000_000;
    let since = all(&d, &JobMetricsRequest { since_ns: middle, ..about(&id) });
    let until = all(&d, &JobMetricsRequest { until_ns: middle - 1, ..about(&id) });
    assert_eq!([until, since].concat(), samples, "two ranges that touch have everything once");
    let wrong = |request: JobMetricsRequest, text: &str| {
        assert_eq!(refusal(&d, &request), (RpcStatusCode::INVALID_ARGUMENT, text.to_owned()));
    };
    wrong(about(""), "uuid is required");
    wrong(JobMetricsRequest { since_ns: -1, ..about(&id) }, "since_ns cannot be negative");
    wrong(JobMetricsRequest { since_ns: 2, until_ns: 1, ..about(&id) }, "until_ns is before since_ns");
    wrong(
        JobMetricsRequest { interval_s: 5, ..about(&id) },
        "interval_s needs aggregate: avg, min, max or sum",
    );
    let text = "invalid aggregate \"median\": avg, min, max or sum";
    wrong(JobMetricsRequest { aggregate: "median".into(), ..about(&id) }, text);
}

#[test]
fn a_job_that_never_ran_has_no_samples_and_the_stream_ends() {
    let d = node();
    let id = d.rnx(["job", "run", "-q", "no-such-program"]).id();
    assert_eq!(all(&d, &about(&id)), []);
    assert!(!file(&d, &id).exists());
}

#[test]
fn samples_outlive_the_daemon_and_go_on_with_the_next_one() {
    let mut node = Node::set_up();
    node.set("job_metrics.default_sample_rate", "1s");
    let d = node.start();
    let hog = programs::c("hog_cpu").display().to_string();
    let id = d.submit(["--upload", &hog, "./hog_cpu"]);
    let mut stream = open(&d, &about(&id));
    let before: Vec<_> = (0..3).map(|_| next(&mut stream).unwrap()).collect();
    let stored = file(&d, &id);
    node = d.crash();
    let text = fs::read_to_string(&stored).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() >= 3 && text.ends_with('\n'), "{text}");
    for (line, sample) in lines.iter().zip(&before) {
        assert_eq!(line["cpu"]["usage_usec"], sample.cpu.usageUsec);
        assert_eq!(line["timestamp"].as_i64().unwrap() / 1_000_000_000, sample.timestamp);
    }
    // A machine that lost its power may leave such a file.
    fs::write(&stored, format!("{text}{{\"version\":1,\"timest")).unwrap();

    let d = node.start();
    let mut stream = open(&d, &about(&id));
    let after: Vec<_> = (0..lines.len() + 2).map(|_| next(&mut stream).unwrap()).collect();
    assert_eq!(after[..3], before, "what was measured before is still there");
    let first = &after[lines.len()];
    assert!(first.cpu.usageUsec > after[lines.len() - 1].cpu.usageUsec, "{first:?}");
    assert!(
        first.cpu.usagePercent > Some(0.0),
        "its rate is that since the last one of the daemon before: {first:?}"
    );
    d.rnx(["job", "stop", &id]).ok();
    let rest: Vec<_> = std::iter::from_fn(|| next(&mut stream)).collect();
    assert!(!rest.is_empty(), "one at the end");
    let whole = [after, rest].concat();
    assert_eq!(all(&d, &about(&id)), whole, "each once, whoever asks when");
    node = d.crash();
    let d = node.start();
    assert_eq!(all(&d, &about(&id)), whole, "also of a job that ended in an earlier life");
}

#[test]
fn the_rate_of_samples_is_checked_and_kept() {
    let node = Node::set_up();
    for (rate, ok) in [("999ms", false), ("1s", true), ("1m", true), ("61s", false), ("0s", false)] {
        node.set("job_metrics.default_sample_rate", rate);
        let out = std::process::Command::new(crate::helper::daemon::JOBLET)
            .arg("--check-config")
            .arg("--config")
            .arg(node.config())
            .env_clear()
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.success(), ok, "{rate}: {said}");
        assert!(ok || said.contains("job_metrics.default_sample_rate"), "{rate}: {said}");
    }
    node.set("job_metrics.default_sample_rate", "1m");
    let d = node.start();
    let id = d.submit(["sleep", "1000"]);
    let sample = next(&mut open(&d, &about(&id))).unwrap();
    assert_eq!(sample.sampleIntervalSeconds, 60);
    d.rnx(["job", "stop", &id]).ok();
    eventually("the last sample is there", || holds(all(&d, &about(&id)).len() == 2));
}

/// A terminal with a program: prints "curves" when they are drawn, becomes narrow, gets a key, and prints the exit of the
/// program and whether the terminal is restored.
const TERMINAL: &str = r#"
import fcntl, os, pty, struct, sys, termios
key, command = sys.argv[1].encode().decode("unicode_escape").encode(), sys.argv[2:]
master, slave = pty.openpty()
before = termios.tcgetattr(slave)
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
    os.execv(command[0], command)
seen = b""
def until(mark):
    global seen
    while mark not in seen:
        seen += os.read(master, 65536)
until(b"Memory")
text = seen.decode()
drawn = any(chr(c) in text for c in range(0x2581, 0x2589)) and "\u2502" in text and "sleep 1000" in text
print("curves", "\x1b[?1049h" in text, drawn)
fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 4, 9, 0, 0))
seen = b""
until(b"\x1b[H")
os.write(master, key)
until(b"\x1b[?1049l")
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print("ended", code, termios.tcgetattr(slave) == before, b"\x1b[?25h" in seen)
"#;

#[test]
fn a_terminal_shows_curves_and_is_as_before_when_they_are_left() {
    let d = node();
    let id = d.submit(["sleep", "1000"]);
    for key in ["q", "\\x03"] {
        let mut command = std::process::Command::new("/usr/bin/python3");
        command.args(["-c", TERMINAL, key, crate::helper::daemon::RNX, "--config"]);
        command.arg(d.dir().join("rnx-config.yml")).args(["job", "metrics", "--watch", &id]);
        command.env_clear().env("TERM", "xterm").env("HOME", d.dir()).env("PYTHONIOENCODING", "utf-8");
        let said = Running::start(&mut command).finish().ok();
        assert_eq!(said, "curves True True\nended 0 True True\n", "{key}");
    }
    d.rnx(["job", "stop", &id]).ok();
    let plain = d.rnx(["job", "metrics", "--watch", &id]).ok();
    assert!(plain.starts_with("Timestamp: ") && !plain.contains('\x1b'), "no terminal, no curves: {plain}");
}

#[test]
fn rnx_prints_a_sample_in_three_lines_or_as_a_line_of_json() {
    let d = rarely();
    // Long enough for a rate between its first sample and its last.
    let id = d.submit(["--name", "short", "--max-memory=64", "sleep", "0.1"]);
    d.until_status(&id, "COMPLETED");
    let text = d.rnx(["job", "metrics", "short"]).ok();
    assert_eq!(text.matches("Timestamp: 2").count(), 2, "{text}");
    assert_eq!(text.matches("\nCPU: ").count(), 2, "{text}");
    assert_eq!(text.matches("\nNetwork RX: ").count(), 2, "{text}");
    // As `jq -c '{timestamp, cpu: .cpu.usagePercent, memory: .memory.current}'` reads it.
    let lines = d.rnx(["--json", "job", "metrics", &id[..8]]).ok();
    let samples: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(samples.len(), 2);
    assert!(samples[0]["cpu"]["usagePercent"].is_null() && samples[1]["cpu"]["usagePercent"].is_f64());
    for sample in &samples {
        assert!(sample["timestamp"].is_i64() && sample["cpu"]["usageUsec"].is_u64(), "{sample}");
        assert_eq!(sample["memory"].is_object(), sample["memory"]["current"].is_u64());
        assert_eq!(
            (&sample["jobId"], &sample["limits"]["memory"]),
            (&Value::from(id.as_str()), &(64 << 20).into())
        );
    }
    let folded = d.rnx(["--json", "job", "metrics", "--aggregate=max", &id]).json();
    let most = samples.iter().map(|s| s["cpu"]["usageUsec"].as_u64().unwrap()).max();
    assert_eq!(folded["cpu"]["usageUsec"].as_u64(), most);
    assert_eq!(d.rnx(["job", "metrics", "--since=1h", "--until=now", &id]).ok(), text);
    let none = d.rnx(["job", "metrics", "--until=2020-01-01T00:00:00Z", &id]);
    let said = format!("no metrics available for job {id} (metrics collection may not be enabled)");
    assert!(none.code == 1 && none.stderr.contains(&said), "{}", none.stderr);
    assert_eq!(d.rnx(["job", "metrics", "--aggregate=median", &id]).code, 2);
    assert_eq!(d.rnx(["job", "metrics", &joblet::job::JobId::random().to_string()]).code, 5);
}

#[test]
fn stream_of_metrics_events_has_history_then_live_to_the_end() {
    let d = node();
    let id = d.submit(["sleep", "1000"]);
    let mut long = open(&d, &about(&id));
    let seen = next(&mut long).unwrap();
    let viewer = d.client("viewer");
    let request = StreamJobMetricsRequest { job_uuid: id[..8].to_owned(), ..Default::default() };
    let mut events = viewer.stream_job_metrics(&request).unwrap();
    let mut event = || futures_executor::block_on(events.next()).map(Result::unwrap);
    let first = event().unwrap();
    assert_eq!((first.job_uuid.as_str(), first.timestamp / 1_000_000_000), (id.as_str(), seen.timestamp));
    assert_eq!((first.cpu_percent, first.gpu_percent), (None, None), "nothing to compare the first with");
    let second = event().unwrap();
    assert!(second.timestamp > first.timestamp && second.cpu_percent.is_some(), "{second:?}");
    d.rnx(["job", "stop", &id]).ok();
    let rest: Vec<_> = std::iter::from_fn(event).collect();
    assert_eq!(rest.len() + 2, fs::read_to_string(file(&d, &id)).unwrap().lines().count());
    let start = rest[0].timestamp;
    let some = JobMetricsRequest { uuid: id, start_time: start, limit: 1, ..Default::default() };
    let samples = all(&d, &some);
    assert_eq!(samples.iter().map(|s| s.timestamp).collect::<Vec<_>>(), [start / 1_000_000_000]);
}
