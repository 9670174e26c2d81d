//! Files that version 1 has stored: every later version must read them and go on behind them.

use super::*;

const JOB: &str = "f47ac10b-58cc-4372-a567-0e02b2c3d479";
const GOLDEN: &str = "tests/golden/history-1";

/// Two commits: bytes of both streams, a gap, bytes that are no text, two samples.
fn spool() -> Spool {
    let mut spool = Spool::default();
    spool.write(false, b"hello\n");
    spool.write(true, b"err\n");
    spool.lose(false, 123_456_789_012);
    spool.write(false, b"\x00\xff\n");
    spool.write(true, b"no end");
    spool
}

fn samples() -> Vec<String> {
    let text = fs::read_to_string("tests/golden/metrics-1/metrics.jsonl").unwrap();
    text.lines().map(str::to_owned).collect()
}

fn write(base: &Path) {
    let store = LocalStore::new(Layout::below(base), StoreLimits::default());
    let (mut job, mut packer, spool) =
        (store.job(JobId::parse(JOB).unwrap()).unwrap(), Packer::new(), spool());
    for rows in spool.rows.chunks(3) {
        for (row, bytes) in rows {
            job.stage(row, bytes, &mut packer, 6).unwrap();
        }
        job.commit(rows[rows.len() - 1].0.sequence, &mut packer, 6).unwrap();
    }
    for (n, line) in samples().iter().enumerate() {
        job.stage_sample(n as u64 + 1, line.as_bytes(), &mut packer, 6).unwrap();
    }
    job.commit(5, &mut packer, 6).unwrap();
    job.end(START_NS + 6000, 5, 2).unwrap();
}

#[test]
fn golden_history_is_read_and_continued() {
    if std::env::var_os("JOBLET_WRITE_GOLDEN").is_some() {
        write(Path::new(GOLDEN));
    }
    let mut bench = Bench { id: JobId::parse(JOB).unwrap(), ..Bench::new() };
    for tree in ["logs", "metrics"] {
        let (from, to) = (Path::new(GOLDEN).join(tree).join(JOB), bench.dir.path().join(tree).join(JOB));
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(&from).unwrap() {
            let name = entry.unwrap().file_name();
            fs::copy(from.join(&name), to.join(&name)).unwrap();
        }
    }
    let mut spool = spool();
    bench.check(&spool);
    let mut history = bench.history();
    let samples = samples();
    assert_eq!(history.samples().unwrap(), 2);
    for (n, line) in (1..).zip(&samples) {
        assert_eq!(history.sample(n).unwrap(), Some((n, line.clone().into_bytes())));
    }
    let end = JobEnd { version: 1, ended_ns: START_NS + 6000, rows: 5, samples: 2 };
    assert_eq!(history.end(), Some(end));
    let mut job = bench.open();
    assert_eq!((job.resume().through, job.files.repaired()), (5, Repaired::default()));
    spool.write(false, b"later\n");
    bench.store(&mut job, &spool.rows[5..]).unwrap();
    assert_eq!(bench.history().row(6).unwrap(), Some(spool.rows[5].0));
}

/// The first member to the byte, and the index, which no compressor changes.
#[test]
fn golden_header_and_index_have_their_documented_bytes() {
    let dir = Path::new(GOLDEN).join("logs").join(JOB);
    let member = fs::read(dir.join("stdout.log.gz")).unwrap();
    let index = fs::read(dir.join("stdout.idx")).unwrap();
    assert_eq!(&member[..16], b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x5c\0\x4a\x4c\x58\0");
    let long = |at: usize| u64::from_le_bytes(member[at..at + 8].try_into().unwrap());
    let word = |at: usize| u32::from_le_bytes(member[at..at + 4].try_into().unwrap());
    // Sequences 1 to 3, nothing durable before, two times, nothing before it.
    assert_eq!([24, 32, 40].map(long), [1, 3, 0]);
    assert_eq!([48, 56, 64, 72].map(long), [START_NS as u64 + 1000, START_NS as u64 + 3000, 0, 0]);
    // Six bytes, one line, two records, a gap, version 1.
    assert_eq!([80, 84, 88, 92, 96].map(word), [6, 1, 2, 1, 1]);
    let mut crc = flate2::Crc::new();
    crc.update(&member[..100]);
    assert_eq!(word(100), crc.sum());
    assert_eq!(&index[..32], b"JOBLET LOG INDEX 1\n\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(index[32..40], [0; 8]);
    assert_eq!(index[40..128], member[16..104]);
    assert_eq!(index.len(), 32 + 2 * 96);
}
