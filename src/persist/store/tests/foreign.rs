//! Files that another program wrote: read, never appended to.

use super::*;
use flate2::{Compression, write::GzEncoder};
use std::io::Write;

/// A gzip member with the records of another program: no sequences, and keys that zero values leave out.
fn member(texts: &[String]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::new(6));
    for (n, text) in texts.iter().enumerate() {
        let mut own = Vec::new();
        let place = record::Place { stream: Stream::Stdout, time_ns: START_NS + n as i64, sequence: 0 };
        record::write_row(
            &JobId::nil().to_string(),
            place,
            record::Content::Bytes(text.as_bytes()),
            &mut own,
        );
        let mut value: serde_json::Value = serde_json::from_slice(&own).unwrap();
        value.as_object_mut().unwrap().remove("sequence");
        writeln!(gz, "{value}").unwrap();
    }
    gz.finish().unwrap()
}

fn texts(count: u32) -> Vec<String> {
    (0..count).map(|n| format!("line {n} {}\n", "x".repeat((n % 97) as usize))).collect()
}

#[test]
fn a_foreign_job_is_read_in_its_order() {
    // Many small members, and one large one: pages begin in its middle.
    for per_member in [7, 20_000] {
        let (bench, texts) = (Bench::new(), texts(20_000));
        fs::create_dir_all(bench.logs()).unwrap();
        let file: Vec<u8> = texts.chunks(per_member).flat_map(member).collect();
        fs::write(bench.names(Kind::Stdout).log(None), &file).unwrap();
        fs::write(bench.names(Kind::Stderr).log(None), member(&["err\n".to_owned()])).unwrap();
        let mut history = bench.history();
        assert_eq!(history.rows().unwrap(), 20_001);
        let read = all(&mut history, [true; 2]);
        let want = texts.iter().map(String::as_str).chain(["err\n"]);
        let want: Vec<(u64, Vec<u8>)> = (1..).zip(want.map(|text| text.as_bytes().to_vec())).collect();
        assert!(read == want);
        assert_eq!(all(&mut history, [false, true]), [(20_001, b"err\n".to_vec())]);
        for sequence in [20_001, 1, 19_999, 4_100, 4_096] {
            let row = history.row(sequence).unwrap().unwrap();
            let Span::Bytes { offset, length } = row.span else { panic!("{row:?}") };
            let bytes = history.bytes(row.stream, offset, length as usize).unwrap();
            assert_eq!(bytes, want[sequence as usize - 1].1);
        }
        assert_eq!(history.row(20_002).unwrap(), None);
        assert_eq!(history.at_time(Stream::Stderr, START_NS + 1).unwrap(), None);
        assert_eq!(history.at_time(Stream::Stdout, START_NS + 3).unwrap(), Some(4));
        let whole = history.bytes(Stream::Stdout, 0, usize::MAX).unwrap();
        assert!(whole == texts.concat().into_bytes());
    }
}

#[test]
fn foreign_files_of_too_much_text_are_refused_early() {
    let bench = Bench::with(StoreLimits { foreign_text: 100_000, ..StoreLimits::default() });
    fs::create_dir_all(bench.logs()).unwrap();
    let path = bench.names(Kind::Stdout).log(None);
    fs::write(&path, member(&texts(100))).unwrap();
    assert_eq!(bench.history().rows().unwrap(), 100);
    // Lines, and one that never ends.
    let mut endless = GzEncoder::new(Vec::new(), Compression::new(1));
    (0..20).for_each(|_| endless.write_all(&[b'x'; 10_000]).unwrap());
    for file in [member(&texts(2000)), endless.finish().unwrap()] {
        fs::write(&path, file).unwrap();
        let refused = bench.store.history(bench.id).unwrap_err();
        assert!(matches!(refused, StoreError::Foreign { limit: 100_000, .. }), "{refused}");
    }
}

#[test]
fn a_foreign_file_is_set_aside_and_left_as_it_is() {
    let (mut bench, spool) = (Bench::new(), Spool::lines(30));
    fs::create_dir_all(bench.logs()).unwrap();
    let (names, foreign) = (bench.names(Kind::Stdout), member(&texts(50)));
    fs::write(names.log(None), &foreign).unwrap();
    let mut job = bench.open();
    assert_eq!((job.files.repaired().foreign_files, job.resume().bytes(Kind::Stdout)), (1, 0));
    assert_eq!(fs::read(names.log(Some(1))).unwrap(), foreign);
    assert_eq!(bench.history().rows().unwrap(), 50);
    bench.store(&mut job, &spool.rows).unwrap();
    assert_eq!(fs::read(names.log(Some(1))).unwrap(), foreign);
    let mut history = bench.history();
    assert_eq!(history.rows().unwrap(), 30, "a job of ours is read from what is ours");
    assert_eq!(history.row(1).unwrap(), Some(spool.rows[0].0));
    // Appended to a file of ours by another program.
    let own = fs::read(names.log(None)).unwrap();
    let mixed = [own.as_slice(), &foreign].concat();
    fs::write(names.log(None), &mixed).unwrap();
    let mut job = bench.open();
    assert_eq!(fs::read(names.log(Some(2))).unwrap(), mixed);
    assert_eq!(job.resume().bytes(Kind::Stdout), spool.ends[0]);
    let mut more = spool.clone();
    more.write(false, b"more\n");
    bench.store(&mut job, &more.rows).unwrap();
    let mut history = bench.history();
    for (row, _) in &more.rows {
        assert_eq!(history.row(row.sequence).unwrap().as_ref(), Some(row));
    }
}
