//! Deaths of the process, failing disks, power cuts, damaged and removed files.

use super::*;
use std::sync::LazyLock;

/// A process that dies anywhere loses nothing and doubles nothing.
#[test]
fn death_at_any_call_loses_and_doubles_nothing() {
    let spool = Spool::lines(18);
    for half in [false, true] {
        let mut calls = 0;
        loop {
            let limits = StoreLimits { log_bytes: 900, ..StoreLimits::default() };
            let mut bench = Bench::with(limits);
            let mut job = bench.open();
            fault::after(calls, Fault::Death(half));
            let died =
                spool.rows.chunks(6).try_for_each(|rows| bench.store(&mut job, rows).map(drop)).is_err();
            let through = job.resume().through;
            let happened = fault::end();
            drop(job);
            let mut job = bench.open();
            assert!(job.resume().through <= through + 6);
            bench.complete(&mut job, &spool, 5);
            bench.check(&spool);
            drop(job);
            bench.complete(&mut bench.open(), &spool, 5);
            bench.check(&spool);
            if !happened {
                assert!(!died && calls > 20, "{calls} calls");
                break;
            }
            calls += 1;
        }
    }
}

#[test]
fn failing_disk_stores_nothing_until_it_works_again() {
    let spool = Spool::lines(30);
    for errno in [Errno::NOSPC, Errno::IO] {
        for fault in [Fault::Once(errno), Fault::Lasting(errno)] {
            for calls in 0..20 {
                let mut bench = Bench::new();
                let mut job = bench.open();
                bench.store(&mut job, &spool.rows[..10]).unwrap();
                let before = job.resume();
                fault::after(calls, fault);
                let failed = bench.store(&mut job, &spool.rows[10..20]).is_err();
                if failed {
                    assert_eq!((job.resume(), job.stage.staged_bytes()), (before, 0), "{fault:?} at {calls}");
                    // A try each second, while it lasts.
                    let again = bench.store(&mut job, &spool.rows[10..20]);
                    assert_eq!(again.is_err(), matches!(fault, Fault::Lasting(_)));
                }
                fault::end();
                bench.complete(&mut job, &spool, 20);
                bench.check(&spool);
            }
        }
    }
}

/// Neither what was written nor its cut comes to the disk, and another file of the job is gone: all are looked at anew.
#[test]
fn members_that_could_not_be_synced_are_never_taken_for_durable() {
    let (mut bench, spool) = (Bench::new(), Spool::lines(30));
    let mut job = bench.open();
    bench.store(&mut job, &spool.rows[..10]).unwrap();
    let before = job.resume();
    // Behind the writes of both streams.
    fault::after(2, Fault::Lasting(Errno::IO));
    assert!(bench.store(&mut job, &spool.rows[10..20]).is_err());
    fs::remove_file(bench.names(Kind::Stderr).log(None)).unwrap();
    for _ in 0..2 {
        assert!(bench.store(&mut job, &spool.rows[10..20]).is_err());
        assert_eq!(job.resume().bytes(Kind::Stdout), before.bytes(Kind::Stdout));
    }
    fault::end();
    let _ = bench.store(&mut job, &spool.rows[10..20]);
    assert_eq!(job.resume().bytes(Kind::Stdout), before.bytes(Kind::Stdout));
    bench.store(&mut job, &spool.rows[10..]).unwrap();
    assert_eq!(content(&gunzip(&bench.names(Kind::Stdout))), spool.of(Stream::Stdout));
}

#[test]
fn both_streams_are_whole_when_one_died_in_between() {
    // The first commit's stdout member carries no promise about the stderr rows of the same commit.
    let (mut bench, spool) = (Bench::new(), Spool::lines(30));
    let mut job = bench.open();
    bench.store(&mut job, &spool.rows).unwrap();
    drop(job);
    fs::remove_file(bench.names(Kind::Stderr).log(None)).unwrap();
    let mut job = bench.open();
    assert_eq!(job.resume().through, 0);
    bench.complete(&mut job, &spool, 30);
    bench.check(&spool);
}

#[test]
fn a_hole_is_refused_unless_its_rows_are_gone() {
    let (mut bench, spool) = (Bench::new(), Spool::lines(20));
    let mut job = bench.open();
    bench.store(&mut job, &spool.rows[..4]).unwrap();
    let refused = job.stage(&spool.rows[6].0, &spool.rows[6].1, &mut bench.packer, 6);
    assert!(matches!(refused, Err(StoreError::Hole { sequence: 7, .. })), "{refused:?}");
    drop(job);
    fs::remove_dir_all(bench.dir.path().join("logs")).unwrap();
    let mut job = bench.open();
    assert_eq!(job.resume().through, 0);
    job.stage.released(4);
    bench.store(&mut job, &spool.rows[4..]).unwrap();
    let mut history = bench.history();
    let gap = history.row(4).unwrap().unwrap();
    let stdout: u64 = [0, 2, 3].map(|n| spool.rows[n].1.len() as u64).iter().sum();
    assert_eq!((gap.stream, gap.span), (Stream::Stdout, Span::Lost(stdout)));
    for (row, bytes) in &spool.rows[4..] {
        assert_eq!(history.row(row.sequence).unwrap(), Some(*row));
        let Span::Bytes { offset, length } = row.span else { unreachable!() };
        assert_eq!(&history.bytes(row.stream, offset, length as usize).unwrap(), bytes);
    }
}

#[test]
fn files_removed_under_a_job_begin_anew_with_a_gap() {
    let (mut bench, spool) = (Bench::new(), Spool::lines(60));
    let mut job = bench.open();
    bench.store(&mut job, &spool.rows[..20]).unwrap();
    let mut reader = bench.history();
    fs::remove_file(bench.names(Kind::Stdout).log(None)).unwrap();
    let changed = bench.store(&mut job, &spool.rows[20..40]);
    assert!(matches!(changed, Err(StoreError::Changed { .. })), "{changed:?}");
    assert_eq!(job.resume().through, 20, "what was stored once is not asked for again");
    bench.complete(&mut job, &spool, 20);
    assert_eq!(reader.row(1).unwrap(), Some(spool.rows[0].0), "an open reader keeps the file");
    let mut history = bench.history();
    assert_eq!(history.row(1).unwrap(), None);
    let gap = history.row(19).unwrap().unwrap();
    assert!(matches!(gap.span, Span::Lost(lost) if lost > 100), "{gap:?}");
    assert_eq!(history.row(60).unwrap(), Some(spool.rows[59].0));
    assert_eq!(history.row(2).unwrap(), Some(spool.rows[1].0), "the other stream is whole");
}

/// The files of both streams, and where their synced part ends: two commits of rows, and one of many members.
#[derive(Debug)]
struct Unsynced {
    id: JobId,
    spool: Spool,
    files: Vec<(PathBuf, Vec<u8>)>,
    synced: (usize, usize),
}

impl Unsynced {
    fn new() -> Unsynced {
        let (mut bench, spool) = (Bench::new(), Spool::lines(24));
        let mut job = bench.open();
        bench.store(&mut job, &spool.rows[..6]).unwrap();
        bench.store(&mut job, &spool.rows[6..12]).unwrap();
        let paths = [Kind::Stdout, Kind::Stderr].map(|kind| bench.names(kind));
        let paths = paths.each_ref().map(|names| [names.log(None), names.index(None)]).concat();
        let synced = [0, 1].map(|n: usize| fs::metadata(&paths[n]).unwrap().len() as usize);
        for rows in spool.rows[12..].chunks(3) {
            for (row, bytes) in rows {
                job.stage(row, bytes, &mut bench.packer, 6).unwrap();
            }
            job.stage.seal(&mut bench.packer, 6);
        }
        job.commit(0, &mut bench.packer, 6).unwrap();
        let name = |path: &Path| PathBuf::from(path.file_name().unwrap());
        let files = paths.iter().map(|path| (name(path), fs::read(path).unwrap())).collect();
        Unsynced { id: bench.id, spool, files, synced: (synced[0], synced[1]) }
    }

    /// A store with a copy of the files.
    fn copy(&self) -> Bench {
        let bench = Bench { id: self.id, ..Bench::new() };
        fs::create_dir_all(bench.logs()).unwrap();
        for (name, bytes) in &self.files {
            fs::write(bench.logs().join(name), bytes).unwrap();
        }
        bench
    }
}

/// The file that a power cut may leave: everything synced, and behind that a part of what was not.
fn power_cut(gz: &Path, index: &Path, synced: (usize, usize), choice: (u8, prop::sample::Index, u8)) {
    let (mut bytes, mut rows) = (fs::read(gz).unwrap(), fs::read(index).unwrap());
    let ((end, row), (kind, at, bit)) = (synced, choice);
    let at = end + at.index(bytes.len() - end + 1);
    match kind {
        0 => bytes.truncate(at),
        1 => bytes[at..].iter_mut().take(4096).for_each(|byte| *byte = 0),
        2 if at < bytes.len() => bytes[at] ^= 1 << (bit % 8),
        3 => bytes.extend((0..u16::from(bit) * 7).map(|n| n.wrapping_mul(n) as u8)),
        _ => bytes.truncate(end),
    }
    // The index is never synced: it may lack its end, or all of it.
    match bit % 4 {
        0 => rows.truncate(row),
        1 => rows.truncate(row.saturating_sub(usize::from(bit))),
        2 => rows.clear(),
        _ => rows.truncate(row + 50),
    }
    fs::write(gz, bytes).unwrap();
    fs::write(index, rows).unwrap();
}

static UNSYNCED: LazyLock<Unsynced> = LazyLock::new(Unsynced::new);

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    /// A thousand power cuts: nothing durable is lost, and nothing wrong is kept.
    #[test]
    fn a_damaged_tail_is_cut_and_stored_anew(
        kind in 0u8..5, at in any::<prop::sample::Index>(), bit in any::<u8>(),
    ) {
        let (spool, mut bench) = (&UNSYNCED.spool, UNSYNCED.copy());
        let names = bench.names(Kind::Stdout);
        power_cut(&names.log(None), &names.index(None), UNSYNCED.synced, (kind, at, bit));
        let mut job = bench.open();
        let resume = job.resume();
        prop_assert!(resume.sequence(Kind::Stdout) >= 12);
        // The store has what it says; the rest comes from the spool again.
        let known = resume.bytes(Kind::Stdout) as usize;
        let kept = content(&gunzip(&names));
        prop_assert_eq!(&kept[..], &spool.of(Stream::Stdout)[..known]);
        bench.store(&mut job, &spool.rows).unwrap();
        bench.check(spool);
    }
}

#[test]
fn a_damaged_member_is_one_gap_of_its_bytes() {
    let (mut bench, spool) = (Bench::new(), Spool::lines(90));
    let mut job = bench.open();
    for rows in spool.rows.chunks(30) {
        bench.store(&mut job, rows).unwrap();
    }
    let names = bench.names(Kind::Stdout);
    let file = fs::File::options().read(true).write(true).open(names.log(None)).unwrap();
    let rows = log_file::all_rows(&file, &names.index(None)).unwrap();
    file.write_all_at(b"?", rows[1].offset + 130).unwrap();
    for has_index in [true, false] {
        if !has_index {
            fs::remove_file(names.index(None)).unwrap();
        }
        // Also the writer keeps it: later members say that it was durable.
        assert_eq!(bench.open().resume().sequence(Kind::Stdout), 90);
        let mut history = bench.history();
        let damaged = &rows[1].header;
        let lost: u64 = (1..=90)
            .map(|sequence| match history.row(sequence).unwrap().unwrap().span {
                Span::Lost(lost) => lost,
                Span::Bytes { .. } => 0,
            })
            .sum();
        assert_eq!((lost, history.damaged()), (u64::from(damaged.bytes), 1));
        let read = all(&mut history, [true, false]);
        assert_eq!(read.iter().filter(|(_, bytes)| bytes.is_empty()).count(), 1, "one gap");
        assert_eq!(read.len(), 60 - damaged.records as usize + 1);
        assert_eq!(all(&mut history, [false, true]).len(), 30);
        let short = history.bytes(Stream::Stdout, 0, 1 << 20).unwrap();
        assert_eq!(short.len() as u64, damaged.bytes_before);
        assert_eq!(history.bytes(Stream::Stdout, damaged.bytes_before + 5, 10).unwrap(), b"");
    }
}
