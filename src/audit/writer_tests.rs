use std::path::Path;

use futures_executor::block_on;

use super::super::{Report, verify};
use super::*;
use crate::stream::{Next, Source};

fn start(dir: &Path) -> Audit {
    let settings =
        Settings { directory: dir.join("audit"), max_bytes: 16 << 10, keep: 4, on_full: OnFull::Block };
    Audit::start(settings).unwrap()
}

fn entry(job: &str) -> Entry {
    let mut entry = Entry { method: "/joblet.JobService/StopJob".into(), ..Entry::new(Event::Request) };
    entry.about("job", job);
    entry
}

fn whole(dir: &Path) -> Report {
    verify(&dir.join("audit"), None).unwrap()
}

/// All lines that a cursor has until it waits or ends.
fn read(reader: &mut Reader) -> Vec<String> {
    let mut found = Vec::new();
    loop {
        match reader.next().unwrap() {
            Next::Item(lines) => found.extend(lines),
            Next::Yield => {}
            Next::Pending | Next::End => return found,
        }
    }
}

#[test]
fn acknowledged_lines_are_in_the_file_from_many_threads() {
    let dir = tempfile::tempdir().unwrap();
    let audit = start(dir.path());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let audit = audit.clone();
            scope.spawn(move || {
                for number in 0..50 {
                    block_on(audit.request(entry(&format!("{thread}-{number}")))).unwrap();
                }
            });
        }
    });
    assert_eq!(audit.counters(), Some(Counters { written: 200, lost: 0 }));
    let report = whole(dir.path());
    assert!(report.lines > 200 - 64 && report.files == 4, "{report:?}");
}

#[test]
fn a_reader_finds_what_it_asks_for_and_follows_into_new_files() {
    let dir = tempfile::tempdir().unwrap();
    let audit = start(dir.path());
    block_on(audit.told(entry("aaaa")));
    let middle = now_ns();
    block_on(audit.told(entry("bbbb")));
    let all = |query| read(&mut audit.reader(query).unwrap()).len();
    assert_eq!(all(Query::default()), 2);
    assert_eq!(all(Query { since_ns: middle, ..Query::default() }), 1);
    assert_eq!(all(Query { until_ns: middle, ..Query::default() }), 1);
    assert_eq!(all(Query { id: "bb".into(), ..Query::default() }), 1);
    assert_eq!(all(Query { method: "stopjob".into(), ..Query::default() }), 2);
    assert_eq!(all(Query { method: "RunJob".into(), ..Query::default() }), 0);
    let mut follower = audit.reader(Query { id: "c".into(), follow: true, ..Query::default() }).unwrap();
    assert_eq!(read(&mut follower).len(), 0);
    for _ in 0..80 {
        block_on(audit.told(entry("cccc")));
    }
    assert_eq!(read(&mut follower).len(), 80, "over {} files", whole(dir.path()).files);
    assert!(whole(dir.path()).files > 1);
}

#[test]
fn a_second_daemon_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = start(dir.path());
    let settings =
        Settings { directory: dir.path().join("audit"), max_bytes: 1, keep: 2, on_full: OnFull::Continue };
    assert!(matches!(Audit::start(settings), Err(AuditError::Locked(_))));
}

#[test]
fn without_a_trail_nothing_is_written_and_nothing_waits() {
    let audit = Audit::default();
    assert!(block_on(audit.request(entry("x"))).is_ok() && audit.counters().is_none());
    audit.note(entry("x"));
    audit.flush();
    assert!(audit.reader(Query::default()).is_none() && audit.call().is_empty());
}
