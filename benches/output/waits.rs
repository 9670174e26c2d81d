//! The wait of a row until it is durable, and of other jobs until they start.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use joblet::pb::joblet::{GetJobLogsReq, GetJobStatusReq};

use super::figures::Samples;
use super::helper::wait::{holds, within};
use super::node::Node;
use super::producer::{self, Corpus};

/// Bytes of the header of a sidecar index, and of each of its rows.
const HEADER: u64 = 32;
const ROW: u64 = 96;
/// The place of a member's least time in its row.
const LEAST_NS: u64 = 40;
/// Lines a second of a steady flood.
const STEADY: u64 = 200_000;

/// Watches the index of a stream: a row is written when its member is durable.
struct Watched {
    index: std::path::PathBuf,
    rows: u64,
}

impl Watched {
    fn new(logs: &Path) -> Watched {
        Watched { index: logs.join("stdout.idx"), rows: 0 }
    }

    /// The waits in ms of the oldest rows of members that have become durable since the last call.
    fn news(&mut self) -> Vec<f64> {
        let now = producer::now();
        let rows = producer::size(&self.index).saturating_sub(HEADER) / ROW;
        let fresh = self.rows..rows;
        self.rows = rows;
        let Ok(file) = File::open(&self.index) else { return Vec::new() };
        let wait = |row: u64| {
            let mut least = [0; 8];
            file.read_exact_at(&mut least, HEADER + row * ROW + LEAST_NS).ok()?;
            Some(now.saturating_sub(u64::from_le_bytes(least)) as f64 / 1e6)
        };
        fresh.filter_map(wait).collect()
    }
}

fn watch(node: &Node, jobs: &[String]) -> Samples {
    let mut waits = Samples::default();
    let mut watched: Vec<Watched> = jobs.iter().map(|job| Watched::new(&node.logs(job))).collect();
    within(Duration::from_secs(120), || {
        watched.iter_mut().flat_map(Watched::news).for_each(|wait| waits.add(wait));
        holds(jobs.iter().all(|job| node.logs(job).join("job.json").exists()))
    })
    .expect("history has the jobs");
    jobs.iter().for_each(|job| node.delete(job));
    waits
}

/// Waits in ms of the lines of quiet jobs.
pub fn quiet(node: &Node, jobs: usize) -> Samples {
    let script = "for n in 1 2 3; do echo $n; sleep 2.7; done";
    let jobs: Vec<String> = (0..jobs).map(|_| node.run("sh", &["-c", script], Vec::new())).collect();
    watch(node, &jobs)
}

/// Waits in ms of the oldest row of each member of a flood that the node keeps up with.
pub fn steady(node: &Node, seconds: u64) -> Samples {
    watch(node, &[node.produce(Corpus::App, seconds * STEADY, Some(STEADY))])
}

/// Times in ms from RunJob to its reply, and to the end of the job's log.
#[derive(Default)]
pub struct Starts {
    pub reply: Samples,
    pub end: Samples,
}

/// Starts jobs one after the other.
pub fn starts(node: &Node, count: usize) -> Starts {
    let mut starts = Starts::default();
    for _ in 0..count {
        let start = Instant::now();
        let job = node.run("true", &[], Vec::new());
        starts.reply.add(start.elapsed().as_secs_f64() * 1e3);
        node.read(&GetJobLogsReq { uuid: job, ..Default::default() });
        starts.end.add(start.elapsed().as_secs_f64() * 1e3);
        // Warm sandboxes are made in the pauses of a node; a start that finds none is another figure.
        within(Duration::from_millis(15), || None::<()>);
    }
    starts
}

/// The same beside a flood, which ends behind it.
pub fn starts_beside(node: &Node, count: usize) -> Starts {
    let job = node.produce(Corpus::App, 1_000_000_000, None);
    let request = GetJobStatusReq { uuid: job.clone(), ..Default::default() };
    let runs = || holds(node.client().get_job_status(&request).ok()?.status == "RUNNING");
    within(Duration::from_secs(20), runs).expect("the flood runs");
    let starts = starts(node, count);
    node.stop(&job);
    node.delete(&job);
    starts
}
