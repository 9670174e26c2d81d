use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::pipe::{PipeFlags, pipe_with};

use super::super::ring::bytes_kept;
use super::super::spool::CHUNK;
use super::super::{Full, Release, SpoolWriter, Watermark, release};
use super::*;
use crate::job::SpoolPolicy;

/// A collector with one job.
struct Bench {
    _temp: tempfile::TempDir,
    dir: PathBuf,
    id: JobId,
    collector: Collector,
    watermark: Arc<Watermark>,
    stdout: Option<File>,
}

impl Bench {
    fn new(limit: u64, create: impl FnOnce(&Path) -> SpoolWriter) -> Bench {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("job");
        let limits = SpoolLimits { all: 1 << 30, job: limit, ring: 1 << 16, policy: SpoolPolicy::Block };
        let collector = Collector::start(limits, |_, _| {}).unwrap();
        let pipe = || pipe_with(PipeFlags::CLOEXEC).unwrap();
        let ((stdout, out), (stderr, _), (_, control)) = (pipe(), pipe(), pipe());
        for end in [&stdout, &stderr] {
            rustix::io::ioctl_fionbio(end, true).unwrap();
        }
        let (id, watermark) = (JobId::random(), Watermark::new());
        collector.add(JobOutput {
            id,
            stdout,
            stderr,
            release: Some(Arc::new(Release { control: Arc::new(control), wake: None })),
            spool: create(&dir),
            watermark: watermark.clone(),
        });
        Bench { _temp: temp, dir, id, collector, watermark, stdout: Some(out.into()) }
    }

    /// Writes in a thread of its own, and closes the pipe.
    fn flood(&mut self, bytes: Vec<u8>) -> std::thread::JoinHandle<io::Result<()>> {
        let mut stdout = self.stdout.take().unwrap();
        std::thread::spawn(move || io::Write::write_all(&mut stdout, &bytes))
    }
}

fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let late = std::time::Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(std::time::Instant::now() < late, "never: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn flood_into_a_ring_never_waits() {
    // Below the size of the ring: the job gives way at its limit.
    for limit in [40_000, 1 << 20] {
        let mut b = Bench::new(limit, |dir| SpoolWriter::create_ring(dir).unwrap());
        b.flood(vec![7; 1_000_000]).join().unwrap().unwrap();
        eventually("all bytes have passed", || {
            std::fs::metadata(b.dir.join("stdout")).unwrap().len() == 1_000_000
        });
        let kept = bytes_kept(&b.dir);
        assert!(kept > CHUNK as u64 && kept <= limit.min(5 << 14) + CHUNK as u64, "{kept} bytes");
        assert_eq!(b.watermark.waits(), None);
        assert_eq!(b.collector.stop(), []);
    }
}

#[test]
fn job_at_its_limit_goes_on_when_its_output_is_released() {
    let mut b = Bench::new(100_000, |dir| SpoolWriter::create(dir).unwrap());
    let flood = b.flood(vec![7; 1_000_000]);
    let mut waits = 0;
    while !flood.is_finished() {
        if b.watermark.waits() == Some(Full::Job) {
            waits += 1;
            let rows = b.watermark.look().0;
            if let Some(header) = release(&b.dir, rows, 1).unwrap() {
                b.collector.released(b.id, header.bytes());
            }
        }
        std::thread::yield_now();
    }
    flood.join().unwrap().unwrap();
    assert!(waits > 0, "it never waited");
    eventually("all bytes are in the spool", || {
        std::fs::metadata(b.dir.join("stdout")).unwrap().len() == 1_000_000
    });
    assert_eq!(b.collector.stop(), []);
}
