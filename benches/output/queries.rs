//! Queries of a large log that only history has.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use joblet::pb::joblet::{GetJobLogsReq, OutputStream};

use super::figures::Samples;
use super::node::Node;
use super::peers;
use super::producer::{self, Corpus};

/// A text that no line has.
const ABSENT: &str = "status=500";

/// All figures, round by round.
#[derive(Default)]
pub struct Queries {
    pub tail_cached: Samples,
    pub tail_cold: Samples,
    pub part: Samples,
    pub scan: Samples,
    pub zcat: Samples,
    /// A part over the scan of its round.
    pub part_ratio: Samples,
    /// The time of zcat and grep over that of a scan, and the processor time of a scan over theirs.
    pub speed: Samples,
    pub processor: Samples,
}

struct Queried<'a> {
    node: &'a Node,
    job: &'a str,
}

impl Queried<'_> {
    fn request(&self) -> GetJobLogsReq {
        GetJobLogsReq {
            uuid: self.job.to_owned(),
            no_follow: true,
            stream: OutputStream::OUTPUT_STREAM_STDOUT.into(),
            ..Default::default()
        }
    }

    /// The time of the last 100 lines, in ms.
    fn tail(&self) -> f64 {
        let mut request = self.request();
        request.tail = Some(100);
        let start = Instant::now();
        let bytes = self.node.read(&request);
        let took = start.elapsed().as_secs_f64() * 1e3;
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 100);
        took
    }

    fn forget(&self) {
        for entry in fs::read_dir(self.node.logs(self.job)).expect("history has the job").flatten() {
            let file = File::open(entry.path()).expect("root may read it");
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
                .expect("a file may be forgotten");
        }
    }

    /// The seconds for a hundredth of the log by time, from the middle.
    fn part(&self, times: (u64, u64), bytes: u64) -> f64 {
        let mut request = self.request();
        let span = times.1 - times.0;
        request.since_ns = (times.0 + span / 2).cast_signed();
        request.until_ns = request.since_ns + (span / 100).cast_signed();
        let start = Instant::now();
        let read = self.node.read(&request).len() as u64;
        let took = start.elapsed().as_secs_f64();
        assert!(read > 0 && read < bytes / 20, "{read} bytes are no hundredth");
        took / (read as f64 / (bytes as f64 / 100.0))
    }

    /// The seconds of a scan for a text that is not there, and of a processor.
    fn scan(&self) -> (f64, f64) {
        let mut request = self.request();
        request.filter = ABSENT.into();
        let used = self.node.daemon().used();
        let start = Instant::now();
        assert!(self.node.read(&request).is_empty());
        let took = start.elapsed().as_secs_f64();
        (took, self.node.daemon().used().since(&used).processor())
    }
}

/// The same by zcat and grep.
fn zcat(raw: &Path) -> (f64, f64) {
    let before = peers::children();
    let start = Instant::now();
    let script = format!("zcat \"$0\" | grep -cF {ABSENT}; true");
    let mut command = Command::new("bash");
    let status = command.args(["-c", &script]).arg(raw).stdout(Stdio::null()).status();
    assert!(status.expect("bash can be executed").success());
    (start.elapsed().as_secs_f64(), peers::children() - before)
}

/// Makes the log, and queries it. The lines of a hundredth vary with the producer's pace, so its time is that of a
/// hundredth of the bytes.
pub fn measure(node: &Node, dir: &Path, lines: u64, rounds: usize) -> Queries {
    let (job, _, _) = node.flood(Corpus::App, lines);
    let said = node.log(&job, OutputStream::OUTPUT_STREAM_STDERR);
    let times = producer::times(&String::from_utf8_lossy(&said)).expect("the producer says its times");
    let raw = dir.join("raw.gz");
    peers::filter(&["gzip", "-1"], Corpus::App, lines, &raw);
    let queried = Queried { node, job: &job };
    let mut all = Queries::default();
    for _ in 0..rounds {
        let ((scan, processor), (zcat, theirs)) = (queried.scan(), zcat(&raw));
        let part = queried.part(times, lines * producer::LINE);
        all.part.add(part);
        all.scan.add(scan);
        all.zcat.add(zcat);
        all.part_ratio.add(part / scan);
        all.speed.add(zcat / scan);
        all.processor.add(processor / theirs);
    }
    for _ in 0..7 * rounds {
        all.tail_cached.add(queried.tail());
    }
    for _ in 0..3 * rounds {
        queried.forget();
        all.tail_cold.add(queried.tail());
    }
    node.delete(&job);
    all
}
