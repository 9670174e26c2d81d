//! The check of whole and of damaged files.

use super::*;
use std::io::Write;

#[test]
fn a_whole_file_has_no_problems() {
    let limits = StoreLimits { log_bytes: 1000, ..StoreLimits::default() };
    let (mut bench, spool) = (Bench::with(limits), Spool::lines(90));
    bench.complete(&mut bench.open(), &spool, 10);
    let names = bench.names(Kind::Stdout);
    let (mut records, mut bytes) = (0, 0);
    for number in names.rotated().unwrap().into_iter().map(Some).chain([None]) {
        let report = check(&names.log(number)).unwrap();
        assert_eq!((report.problem_count, report.foreign_members), (0, 0), "{report:?}");
        assert_eq!(report.index_rows, report.members);
        (records, bytes) = (records + report.records, bytes + report.bytes);
    }
    assert_eq!((records, bytes), (60, spool.ends[0]));
    assert!(names.rotated().unwrap().len() > 1);
    assert!(matches!(check(Path::new("/nonexistent/stdout.log.gz")), Err(StoreError::Read { .. })));
}

#[test]
fn every_damage_is_reported_with_its_place() {
    let (mut bench, spool) = (Bench::new(), Spool::lines(90));
    bench.complete(&mut bench.open(), &spool, 15);
    let path = bench.names(Kind::Stdout).log(None);
    let rows = log_file::all_rows(&fs::File::open(&path).unwrap(), Path::new("none")).unwrap();
    let file = fs::File::options().read(true).write(true).open(&path).unwrap();
    file.write_all_at(b"?", rows[1].offset + 120).unwrap();
    file.write_all_at(b"?", rows[3].offset + 50).unwrap();
    let mut foreign = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    foreign.write_all(b"{}\n").unwrap();
    let end = rows[5].end();
    file.write_all_at(&foreign.finish().unwrap(), end).unwrap();
    let torn = file.metadata().unwrap().len();
    file.write_all_at(b"rubbish", torn).unwrap();
    let report = check(&path).unwrap();
    let places: Vec<u64> = report.problems.iter().map(|problem| problem.offset).collect();
    // Where a member is missing, the next one does not follow the one before.
    assert_eq!(places, [rows[1].offset, rows[3].offset, rows[4].offset, torn], "{report:?}");
    assert_eq!((report.members, report.foreign_members, report.sequences), (5, 1, Some((1, 90))));
}
