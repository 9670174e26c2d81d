//! Everything that goes well: order, sizes, rotation, samples, the end of a job, deletion.

use super::*;

#[test]
fn stored_rows_are_read_back_in_order() {
    let mut bench = Bench::new();
    let mut spool = Spool::lines(500);
    spool.lose(true, 99);
    spool.write(false, &vec![b'x'; 16 << 10]);
    spool.write(true, b"\x00\xff");
    let mut job = bench.open();
    assert_eq!((job.resume().through, bench.logs().exists()), (0, false), "opening creates nothing");
    bench.complete(&mut job, &spool, 7);
    bench.check(&spool);
    let resume = bench.open().resume();
    assert_eq!(resume, Resume { through: resume.through, ..job.resume() });
    assert_eq!((resume.bytes(Kind::Stdout), resume.bytes(Kind::Stderr)), (spool.ends[0], spool.ends[1]));
    for (path, mode) in [(bench.logs(), 0o700), (bench.names(Kind::Stdout).log(None), 0o600)] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
    }
}

#[test]
fn members_are_sealed_at_their_size() {
    let mut bench = Bench::new();
    let mut spool = Spool::default();
    for n in 0..100u32 {
        let row: Vec<u8> = (0..16u32 << 10).map(|at| (at.wrapping_mul(n + 7) >> 5) as u8).collect();
        spool.write(false, &row);
    }
    for _ in 0..10_000 {
        spool.write(true, b"x\n");
    }
    let mut job = bench.open();
    let done = bench.store(&mut job, &spool.rows).unwrap();
    assert_eq!((done.records, done.bytes), (10_100, (100 << 14) + 20_000));
    bench.check(&spool);
    for (kind, members) in [(Kind::Stdout, 7), (Kind::Stderr, 4)] {
        let file = fs::File::open(bench.names(kind).log(None)).unwrap();
        let rows = log_file::all_rows(&file, &bench.names(kind).index(None)).unwrap();
        assert_eq!(rows.len(), members, "{kind:?}");
        let index = fs::metadata(bench.names(kind).index(None)).unwrap().len();
        assert_eq!(index, sidecar::place(members as u64));
    }
}

#[test]
fn rotated_files_are_read_as_one_series() {
    let limits = StoreLimits { log_bytes: 2000, metrics_bytes: 2000, ..StoreLimits::default() };
    let (mut bench, spool) = (Bench::with(limits), Spool::lines(600));
    let mut job = bench.open();
    let mut reader = None;
    for rows in spool.rows.chunks(20) {
        bench.store(&mut job, rows).unwrap();
        reader.get_or_insert_with(|| bench.history());
    }
    assert!(bench.names(Kind::Stdout).rotated().unwrap().len() > 3);
    bench.check(&spool);
    // A reader that was there before reads on over all files.
    let mut reader = reader.unwrap();
    assert_eq!(reader.rows().unwrap(), 600);
    assert_eq!(all(&mut reader, [true, false]).len(), 400);
    let limits = StoreLimits { log_files: 2, ..limits };
    bench.store = LocalStore::new(Layout::below(bench.dir.path()), limits);
    let mut more = spool.clone();
    more.write(false, b"more\n");
    let removed = bench.store(&mut bench.open(), &more.rows[600..]).unwrap().removed_files;
    assert!(removed > 2, "{removed}");
    assert_eq!(bench.names(Kind::Stdout).rotated().unwrap().len(), 2);
    let mut history = bench.history();
    assert_eq!(history.row(1).unwrap(), None);
    assert_eq!(history.row(601).unwrap(), Some(more.rows[600].0));
}

#[test]
fn rows_that_a_new_spool_cut_differently_are_joined_by_offset() {
    let mut bench = Bench::new();
    let mut spool = Spool::default();
    for bytes in ["one ", "two ", "three "] {
        spool.write(false, bytes.as_bytes());
    }
    let mut job = bench.open();
    bench.store(&mut job, &spool.rows).unwrap();
    // After a power cut the spool has the same bytes, and more, in fewer rows.
    let mut other = Spool::default();
    other.write(false, b"one two th");
    other.write(false, b"ree four");
    other.write(true, b"err");
    bench.store(&mut job, &other.rows).unwrap();
    let read = all(&mut bench.history(), [true; 2]);
    let want = [(1, "one "), (2, "two "), (3, "three "), (4, "four"), (5, "err")];
    assert_eq!(read, want.map(|(n, text)| (n, text.as_bytes().to_vec())));
}

#[test]
fn samples_are_stored_by_number_and_read_back_to_the_byte() {
    let mut bench = Bench::new();
    let lines: Vec<Vec<u8>> = (0..200)
        .map(|n| format!("{{\"timestamp\":{},\"cpu\":{{\"usage_percent\":{n}}}}}", START_NS + n).into_bytes())
        .collect();
    let mut job = bench.open();
    for stored in [60, 120, 200] {
        for (n, line) in lines[..stored].iter().enumerate() {
            job.stage_sample(n as u64 + 1, line, &mut bench.packer, 6).unwrap();
        }
        job.commit(0, &mut bench.packer, 6).unwrap();
    }
    let bytes: u64 = lines.iter().map(|line| line.len() as u64 + 1).sum();
    let resume = bench.open().resume();
    assert_eq!((resume.sequence(Kind::Samples), resume.bytes(Kind::Samples)), (200, bytes));
    let mut history = bench.history();
    assert_eq!(history.samples().unwrap(), 200);
    for (n, line) in lines.iter().enumerate() {
        assert_eq!(history.sample(n as u64 + 1).unwrap(), Some((n as u64 + 1, line.clone())));
    }
    assert_eq!(history.sample(201).unwrap(), None);
    assert_eq!(history.sample_at_time(START_NS + 150).unwrap(), Some(151));
    assert_eq!(history.sample_at_time(START_NS + 200).unwrap(), None);
}

#[test]
fn the_end_of_a_job_is_stated_durably() {
    let (mut bench, spool) = (Bench::new(), Spool::lines(10));
    let mut job = bench.open();
    bench.complete(&mut job, &spool, 10);
    assert_eq!(bench.history().end(), None);
    job.end(START_NS, 10, 0).unwrap();
    let want = JobEnd { version: 1, ended_ns: START_NS, rows: 10, samples: 0 };
    assert_eq!((bench.history().end(), bench.open().resume().end), (Some(want), Some(want)));
    let quiet = Bench::new();
    quiet.open().end(START_NS, 0, 0).unwrap();
    let mut history = quiet.history();
    assert_eq!((history.rows().unwrap(), history.row(1).unwrap()), (0, None), "a job without output");
}

#[test]
fn a_deleted_job_does_not_come_back() {
    let (mut bench, spool) = (Bench::new(), Spool::lines(10));
    let mut job = bench.open();
    bench.store(&mut job, &spool.rows[..5]).unwrap();
    let mut reader = bench.history();
    bench.store.delete(bench.id).unwrap();
    assert!(bench.store.is_deleted(bench.id) && !bench.logs().exists());
    assert!(bench.store.history(bench.id).unwrap().is_none());
    assert!(matches!(bench.store(&mut job, &spool.rows[5..]), Err(StoreError::Deleted)));
    assert!(matches!(bench.store.job(bench.id), Err(StoreError::Deleted)));
    bench.store.delete(bench.id).unwrap();
    assert!(!bench.logs().exists());
    assert_eq!(reader.row(1).unwrap(), Some(spool.rows[0].0), "an open reader reads on");
    bench.store.empty_trash().unwrap();
    assert_eq!(fs::read_dir(bench.dir.path().join("logs/.trash")).unwrap().count(), 0);
    let later = SystemTime::now() + std::time::Duration::from_secs(31 * 24 * 3600);
    assert_eq!(bench.store.expire_tombstones(later, &|_| true), 0);
    assert_eq!(bench.store.expire_tombstones(SystemTime::now(), &|_| false), 0);
    assert_eq!(bench.store.expire_tombstones(later, &|_| false), 1);
}
