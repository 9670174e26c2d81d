//! Members that the second thread reads: many readers, few places, and damage.

use std::time::{Duration, Instant};

use super::*;

#[test]
fn readers_in_order_share_the_thread_and_see_every_byte() {
    let (mut bench, spool) = (Bench::new(), Spool::lines(3000));
    let mut job = bench.open();
    // Some thirty members in each stream.
    bench.complete(&mut job, &spool, 100);
    let want: Vec<(u64, Vec<u8>)> =
        spool.rows.iter().map(|(row, bytes)| (row.sequence, bytes.clone())).collect();
    let (store, id) = (bench.store.clone(), bench.id);
    std::thread::scope(|scope| {
        for reader in 0..12 {
            let (store, want) = (store.clone(), &want);
            scope.spawn(move || {
                let mut history = store.history(id).unwrap().unwrap();
                if reader % 3 == 0 {
                    // One that goes away in the middle.
                    let from = want[1000].0;
                    assert_eq!(history.next(from, [true; 2]).unwrap().unwrap().sequence, from);
                    (from..from + 700).for_each(|at| drop(history.next(at, [true; 2]).unwrap()));
                } else {
                    assert!(all(&mut history, [true; 2]) == *want);
                }
            });
        }
    });
    let until = Instant::now() + Duration::from_secs(60);
    while bench.store.ahead.members() > 0 {
        assert!(Instant::now() < until, "{} places are not given back", bench.store.ahead.members());
        std::thread::yield_now();
    }
}

#[test]
fn damage_that_is_read_ahead_is_one_gap_and_counted_once() {
    let (mut bench, spool) = (Bench::new(), Spool::lines(1000));
    let mut job = bench.open();
    bench.complete(&mut job, &spool, 100);
    let path = bench.names(Kind::Stdout).log(None);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let mut history = bench.history();
    let (mut from, mut read, mut lost) = (0, 0, 0);
    while let Some(chunk) = history.next(from, [true, false]).unwrap() {
        (from, read, lost) = (chunk.sequence + 1, read + chunk.bytes.len() as u64, lost + chunk.lost);
    }
    assert_eq!((read + lost, history.damaged()), (spool.ends[0], 1));
    assert!(lost > 0);
}
