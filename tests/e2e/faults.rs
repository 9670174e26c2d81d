//! The daemon is killed at random moments, again and again, also while it starts, and with another binary in between. Its
//! jobs do not notice.

use crate::helper::daemon::{JOBLET, Node, PERSIST, TestDaemon};
use crate::helper::random::Random;
use crate::helper::wait::{eventually, holds, pause};
use crate::helper::{programs, residue, soak};
use futures_util::StreamExt;
use joblet::pb::joblet::{
    DataChunk, FileUpload, GetJobLogsReq, GetJobStatusReq, OutputStream, RunJobRequest,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The number of jobs that run meanwhile.
const JOBS: usize = 50;
/// One in so many daemons may finish its start and answers requests before it is killed.
const PEACE: usize = 10;
/// Milliseconds from one line of a job to the next.
const RHYTHM_MS: u32 = 50;

/// A job with its expected result.
struct Job {
    id: String,
    // Lines of each stream; `None`: until a signal.
    lines: Option<u32>,
    code: i32,
}

/// Line `number` of `tests/jobs/lines.c`.
fn line(stream: &str, number: u32) -> String {
    let text = format!("{stream} {number:08} {}", "x".repeat((number.wrapping_mul(7919) % 97) as usize));
    let sum = text.bytes().fold(2_166_136_261_u32, |sum, b| (sum ^ u32::from(b)).wrapping_mul(16_777_619));
    format!("{text} {sum:08x}\n")
}

/// Fails unless the stream has every line once and in order; returns the number of lines.
#[track_caller]
fn lines_of(id: &str, stream: &str, got: &[u8]) -> u32 {
    let text = String::from_utf8_lossy(got);
    let mut number = 0;
    let mut all = text.split_inclusive('\n').peekable();
    while let Some(this) = all.next() {
        if all.peek().is_none() {
            assert_eq!(this, format!("end {number:08}\n"), "job {id}: the last line of {stream}");
            return number;
        }
        number += 1;
        assert_eq!(this, line(stream, number), "job {id}: line {number} of {stream}");
    }
    panic!("job {id}: nothing on {stream}");
}

fn submit(d: &TestDaemon, program: &Path) -> Vec<Job> {
    let client = d.client("default");
    let content = fs::read(program).unwrap();
    let upload = FileUpload { path: "lines".into(), content, mode: 0o755, ..Default::default() };
    let start = |n: usize| {
        // Every third job ends meanwhile, the others at a signal.
        let lines = n.is_multiple_of(3).then_some(20 + 10 * n as u32);
        let code = n as i32;
        let args = [lines.unwrap_or(0), n as u32, RHYTHM_MS].map(|arg| arg.to_string()).into();
        let uploads = vec![upload.clone()];
        let request = RunJobRequest { command: "./lines".into(), args, uploads, ..Default::default() };
        let id = client.run_job(&request).unwrap().jobUuid;
        Job { id, lines, code }
    };
    (0..JOBS).map(start).collect()
}

/// The client must get a job's output with sequence numbers without a gap, and each stream complete.
fn check_output(d: &TestDaemon, job: &Job) {
    let client = d.client("viewer");
    let request = GetJobLogsReq { uuid: job.id.clone(), ..Default::default() };
    let stream = client.get_job_logs(&request).unwrap();
    let chunks: Vec<DataChunk> = futures_executor::block_on(stream.map(Result::unwrap).collect());
    for (chunk, wanted) in chunks.iter().zip(1..) {
        assert_eq!((chunk.seq, chunk.lost_bytes), (wanted, 0), "job {}", job.id);
    }
    let of = |stream: OutputStream| -> Vec<u8> {
        chunks.iter().filter(|c| c.stream == stream.into()).flat_map(|c| c.payload.clone()).collect()
    };
    let out = lines_of(&job.id, "out", &of(OutputStream::OUTPUT_STREAM_STDOUT));
    let err = lines_of(&job.id, "err", &of(OutputStream::OUTPUT_STREAM_STDERR));
    assert_eq!(out, err, "job {}", job.id);
    assert!(job.lines.is_none_or(|lines| lines == out), "job {}: {out} lines", job.id);
}

fn check_end(d: &TestDaemon, job: &Job) {
    let client = d.client("viewer");
    let request = GetJobStatusReq { uuid: job.id.clone(), ..Default::default() };
    let now = eventually("the job is over", || {
        let now = client.get_job_status(&request).unwrap();
        (now.status != "RUNNING").then_some(now)
    });
    let wanted = if job.code == 0 { "COMPLETED" } else { "FAILED" };
    let got = (now.status.as_str(), now.exitCode, now.exit_reason.as_str(), now.signal);
    assert_eq!(got, (wanted, job.code, "exited", 0), "job {}: {}", job.id, now.message);
}

/// The daemon runs for a random time, from the first instruction of its start on, and is killed.
fn killed_soon(node: &Node, random: &mut Random) {
    let mut daemon = node.spawn();
    pause(Duration::from_micros(random.below(400_000)));
    assert!(daemon.try_wait().unwrap().is_none(), "the daemon gave up by itself:\n{}", node.log());
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

fn runs(uids: &std::ops::Range<u32>) -> Vec<Pid> {
    let payloads = residue::payloads_of(uids).into_iter();
    let number = |payload: String| payload.split(' ').next().and_then(|pid| pid.parse().ok());
    payloads.filter_map(number).map(Pid::from_raw).collect()
}

fn jobs_survive(kills: usize, programs: &dyn Fn(&Node) -> Vec<PathBuf>) {
    let mut random = Random::new();
    let mut node = Node::set_up();
    let programs = programs(&node);
    let d = node.start();
    let jobs = submit(&d, &programs::c("lines"));
    node = d.crash();
    for kill in 1..kills {
        node.program.clone_from(&programs[kill % programs.len()]);
        if kill % PEACE != 0 {
            killed_soon(&node, &mut random);
            continue;
        }
        let d = node.start();
        assert_eq!(d.run(["echo", "served"]).text(), "served\n");
        let list = d.rnx(["job", "list", "--json"]).text();
        for job in &jobs {
            assert!(list.contains(&job.id), "job {} is forgotten: {list}", job.id);
        }
        node = d.crash();
    }
    let d = node.start();
    let told = jobs.iter().filter(|job| job.lines.is_none()).count();
    let alive = runs(&d.uids());
    assert!(alive.len() >= told, "{} of {told} jobs live:\n{}", alive.len(), d.log());
    alive.into_iter().for_each(|pid| {
        // Another job may end by itself meanwhile.
        let _ = kill(pid, Signal::SIGUSR1);
    });
    for job in &jobs {
        check_end(&d, job);
        check_output(&d, job);
    }
    eventually("nothing of them runs", || holds(runs(&d.uids()).is_empty()));
    d.stop();
}

#[test]
fn jobs_do_not_notice_that_the_daemon_is_killed_repeatedly() {
    jobs_survive(soak::rounds(40, 1000), &|_| vec![JOBLET.into()]);
}

#[test]
fn jobs_do_not_notice_a_daemon_replaced_by_another_binary() {
    jobs_survive(soak::rounds(15, 250), &|node| {
        let newer = node.dir().join("joblet-newer");
        fs::copy(JOBLET, &newer).unwrap();
        // It looks for its history process beside itself.
        fs::copy(PERSIST, node.dir().join("persist")).unwrap();
        vec![JOBLET.into(), newer]
    });
}
