//! Several jobs in one commit, and readers beside writers.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn jobs_of_one_commit_fail_and_succeed_alone() {
    let limits = StoreLimits { open_jobs: 3, ..StoreLimits::default() };
    let (mut bench, spool) = (Bench::with(limits), Spool::lines(20));
    let ids: Vec<JobId> = (0..10).map(|_| JobId::random()).collect();
    let mut jobs: Vec<(JobStage, JobFiles)> =
        ids.iter().map(|id| bench.store.job(*id).unwrap().split()).collect();
    for round in spool.rows.chunks(10) {
        let mut batches = Vec::new();
        for (n, (stage, files)) in jobs.iter_mut().enumerate() {
            for (row, bytes) in round {
                stage.stage(row, bytes, &mut bench.packer, 6).unwrap();
            }
            if n == 4 && round[0].0.sequence == 11 {
                bench.store.delete(ids[4]).unwrap();
            }
            batches.push((files, stage.take(round[9].0.sequence, &mut bench.packer, 6)));
        }
        let mut results = Vec::new();
        commit_all(&mut batches, |n, result| results.push((n, result)));
        let places: Vec<usize> = results.iter().map(|(n, _)| *n).collect();
        assert_eq!(places, (0..10).collect::<Vec<_>>());
        let failed: Vec<usize> = results.iter().filter(|(_, done)| done.is_err()).map(|(n, _)| *n).collect();
        assert_eq!(failed, if round[0].0.sequence == 11 { vec![4] } else { vec![] });
    }
    for (n, id) in ids.into_iter().enumerate() {
        bench.id = id;
        if n != 4 {
            bench.check(&spool);
        }
    }
}

/// Readers that begin at any moment, and one that stays, beside commits, rotations and packing.
#[test]
fn readers_beside_a_writer_see_no_wrong_byte() {
    let limits = StoreLimits { log_bytes: 20_000, ..StoreLimits::default() };
    let (mut bench, spool) = (Bench::with(limits), Spool::lines(3000));
    let (store, id, is_done) = (bench.store.clone(), bench.id, AtomicBool::new(false));
    let mut job = bench.open();
    bench.store(&mut job, &spool.rows[..10]).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut lasting = store.history(id).unwrap().unwrap();
            let (mut known, mut turns) = (0, 0u64);
            while !is_done.load(Ordering::Acquire) {
                for history in [&mut lasting, &mut store.history(id).unwrap().unwrap()] {
                    let through = history.rows().unwrap();
                    for sequence in [1, through / 2, through.saturating_sub(1), through] {
                        let Some((want, bytes)) = spool.rows.get((sequence as usize).wrapping_sub(1)) else {
                            continue;
                        };
                        assert_eq!(history.row(sequence).unwrap().as_ref(), Some(want), "of {through}");
                        let Span::Bytes { offset, length } = want.span else { unreachable!() };
                        assert_eq!(&history.bytes(want.stream, offset, length as usize).unwrap(), bytes);
                    }
                    let mut from = through / 3;
                    while let Some(chunk) =
                        history.next(from, [true; 2]).unwrap().filter(|c| c.sequence <= through)
                    {
                        assert!(chunk.sequence == from.max(1), "{} behind {from}", chunk.sequence);
                        from = chunk.sequence + 1;
                    }
                    assert_eq!(from, through + 1);
                    known = through.max(known);
                    turns += 1;
                }
            }
            assert_eq!((lasting.rows().unwrap(), lasting.damaged()), (3000, 0));
            turns
        });
        for rows in spool.rows[10..].chunks(13) {
            bench.store(&mut job, rows).unwrap();
        }
        job.end(START_NS, 3000, 0).unwrap();
        job.files.pack(&mut bench.packer).unwrap();
        is_done.store(true, Ordering::Release);
        assert!(reader.join().unwrap() > 1);
    });
    bench.check(&spool);
}

/// A reader may know a row from the spool, and ask here for its bytes alone.
#[test]
fn bytes_that_came_later_are_found_by_a_reader_that_stays() {
    let (mut bench, spool) = (Bench::new(), Spool::lines(20));
    let mut job = bench.open();
    bench.store(&mut job, &spool.rows[..10]).unwrap();
    let mut history = bench.history();
    bench.store(&mut job, &spool.rows[10..]).unwrap();
    for (row, bytes) in &spool.rows[12..] {
        let Span::Bytes { offset, length } = row.span else { continue };
        assert_eq!(&history.bytes(row.stream, offset, length as usize).unwrap(), bytes);
    }
}
