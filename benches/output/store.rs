//! The store by itself: the commit of many small files, and what is left of a trickle when it is packed.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use joblet::job::JobId;
use joblet::output::Stream;
use joblet::output::spool::{Row, Span};
use joblet::persist::store::{JobStore, Layout, LocalStore, Packer, StoreLimits, commit_all};

use super::figures::Samples;
use super::producer;

/// Jobs that print on both streams.
const JOBS: usize = 100;
/// Bytes of each row.
const ROW: usize = 512;
const LEVEL: u32 = 6;

fn row(sequence: u64, stream: Stream, offset: u64, length: usize) -> Row {
    let span = Span::Bytes { offset, length: u32::try_from(length).expect("a short row") };
    Row {
        sequence,
        time_ns: 1_796_000_000_000_000_000 + sequence.cast_signed() * 1_000_000_000,
        stream,
        span,
    }
}

/// The time of a commit of a row on each of 200 streams over that of 200 writes and fdatasyncs, round by round.
pub fn commits(dir: &Path, rounds: u64) -> Samples {
    std::fs::create_dir_all(dir).expect("a directory for the files");
    let store = LocalStore::new(Layout::below(dir), StoreLimits::default());
    let mut packer = Packer::new();
    let mut jobs: Vec<JobStore> = (0..JOBS).map(|_| store.job(JobId::random()).expect("a new job")).collect();
    let plain: Vec<File> = (0..2 * JOBS)
        .map(|n| {
            let path = dir.join(format!("plain-{n}"));
            OpenOptions::new().create_new(true).write(true).open(path).expect("a plain file")
        })
        .collect();
    let text = [b'x'; ROW];
    let mut ratios = Samples::default();
    for round in 0..=rounds {
        let mut batches = Vec::with_capacity(JOBS);
        for job in &mut jobs {
            for (n, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
                let row = row(2 * round + n as u64 + 1, stream, round * ROW as u64, ROW);
                job.stage.stage(&row, &text, &mut packer, LEVEL).expect("the next row");
            }
            let batch = job.stage.take(2 * round + 2, &mut packer, LEVEL);
            batches.push((&mut job.files, batch));
        }
        let start = Instant::now();
        commit_all(&mut batches, |_, done| assert!(done.is_ok(), "{done:?}"));
        let ours = start.elapsed();
        let start = Instant::now();
        for file in &plain {
            file.write_all_at(&text, round * ROW as u64).expect("the disk takes it");
            file.sync_data().expect("the disk takes it");
        }
        // The first round makes the files.
        if round > 0 {
            ratios.add(ours.as_secs_f64() / start.elapsed().as_secs_f64());
        }
    }
    ratios
}

/// Lines of a log, a row each, one commit every so many.
fn trickle(store: &LocalStore, log: &[u8], every: usize) -> JobStore {
    let mut packer = Packer::new();
    let mut job = store.job(JobId::random()).expect("a new job");
    let (mut sequence, mut offset) = (0, 0);
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        sequence += 1;
        let row = row(sequence, Stream::Stdout, offset, line.len());
        job.stage(&row, line, &mut packer, LEVEL).expect("the next row");
        offset += line.len() as u64;
        if sequence % every as u64 == 0 {
            job.commit(sequence, &mut packer, LEVEL).expect("the disk takes it");
        }
    }
    job.commit(sequence, &mut packer, LEVEL).expect("the disk takes it");
    job.end(1_796_000_000_000_000_000, sequence, 0).expect("the disk takes it");
    job
}

/// The bytes that a log needs in one piece, as a trickle of two lines a commit, and as that when it is packed.
pub fn trickles(dir: &Path, log: &[u8]) -> [u64; 3] {
    let store = LocalStore::new(Layout::below(dir), StoreLimits::default());
    let stored = || {
        let jobs = std::fs::read_dir(dir.join("logs")).expect("the store has made it").flatten();
        jobs.map(|job| producer::size(&job.path().join("stdout.log.gz"))).sum::<u64>()
    };
    drop(trickle(&store, log, usize::MAX));
    let whole = stored();
    let mut job = trickle(&store, log, 2);
    let loose = stored() - whole;
    job.files.pack(&mut Packer::new()).expect("the file can be packed");
    [whole, loose, stored() - whole]
}
