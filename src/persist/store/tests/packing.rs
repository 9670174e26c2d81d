//! Files of small members that are written anew.

use super::*;

/// A job that commits after every row or two.
fn trickle(bench: &mut Bench, spool: &Spool) -> JobStore {
    let mut job = bench.open();
    for rows in spool.rows.chunks(2) {
        bench.store(&mut job, rows).unwrap();
    }
    job.end(START_NS, spool.rows.len() as u64, 0).unwrap();
    job
}

#[test]
fn packing_makes_a_trickle_as_small_as_a_flood() {
    let (mut bench, mut flood, spool) = (Bench::new(), Bench::new(), Spool::lines(600));
    let mut job = trickle(&mut bench, &spool);
    let mut reader = bench.history();
    assert_eq!(reader.row(1).unwrap(), Some(spool.rows[0].0));
    let packed = job.files.pack(&mut bench.packer).unwrap();
    let once = flood.store(&mut flood.open(), &spool.rows).unwrap().stored;
    // The ids of both jobs differ, and so do a few bytes.
    assert!(packed.files == 2 && packed.after.abs_diff(once) < once / 100, "{packed:?} {once}");
    assert!(packed.before > 5 * packed.after, "{packed:?}");
    bench.check(&spool);
    assert_eq!(all(&mut reader, [true; 2]).len(), 600, "an open reader goes on");
    assert_eq!(job.files.pack(&mut bench.packer).unwrap(), Packed::default(), "it is packed");
    assert_eq!(bench.open().resume(), job.resume());
    let mut more = spool.clone();
    more.write(false, b"late\n");
    bench.store(&mut job, &more.rows[600..]).unwrap();
    assert_eq!(bench.history().row(601).unwrap(), Some(more.rows[600].0));
}

/// The janitor packs while the writer's thread deletes: whoever is first, nothing comes back.
#[test]
fn job_that_is_deleted_while_it_is_packed_leaves_nothing() {
    let spool = Spool::lines(120);
    for round in 0..30 {
        let mut bench = Bench::new();
        let mut job = trickle(&mut bench, &spool);
        let (store, id) = (bench.store.clone(), bench.id);
        std::thread::scope(|scope| {
            let packing = scope.spawn(|| job.files.pack(&mut bench.packer).is_ok());
            // At another moment each time.
            (0..round * 20_000).for_each(|n| _ = std::hint::black_box(n));
            store.delete(id).unwrap();
            packing.join().unwrap();
        });
        assert!(bench.store.history(id).unwrap().is_none(), "round {round}");
        assert!(!bench.logs().exists(), "round {round}");
        bench.store.empty_trash().unwrap();
        assert!(matches!(bench.store.job(id), Err(StoreError::Deleted)));
    }
}

#[test]
fn death_while_packing_leaves_a_whole_file() {
    let spool = Spool::lines(40);
    for calls in 0.. {
        let mut bench = Bench::new();
        let mut job = trickle(&mut bench, &spool);
        fault::after(calls, Fault::Death(true));
        let died = job.files.pack(&mut bench.packer).is_err();
        bench.check(&spool);
        let happened = fault::end();
        drop(job);
        bench.check(&spool);
        let mut job = bench.open();
        assert_eq!(job.resume().sequence(Kind::Stdout), 40);
        job.files.pack(&mut bench.packer).unwrap();
        bench.check(&spool);
        if !happened {
            assert!(!died && calls > 10, "{calls}");
            break;
        }
    }
}

#[test]
fn an_index_of_another_file_is_not_believed() {
    let (mut bench, spool) = (Bench::new(), Spool::lines(200));
    drop(trickle(&mut bench, &spool));
    let index = bench.names(Kind::Stdout).index(None);
    let old = fs::read(&index).unwrap();
    bench.open().files.pack(&mut bench.packer).unwrap();
    fs::write(&index, &old).unwrap();
    bench.check(&spool);
    drop(bench.open());
    assert_ne!(fs::read(&index).unwrap(), old);
    bench.check(&spool);
    fs::remove_file(&index).unwrap();
    bench.check(&spool);
}
