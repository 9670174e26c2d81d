use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;
use rustix::pipe::{PipeFlags, pipe_with};

use super::super::history::tests::Kept;
use super::super::lines::Needle;
use super::super::spool::CHUNK;
use super::super::{Chunk, LogCursor, LogQuery, OutputReader, SpoolWriter};
use super::*;
use crate::stream::Next;

use Stream::{Stderr, Stdout};

/// A spool and the history behind it.
struct Bench {
    _temp: tempfile::TempDir,
    dir: PathBuf,
    spool: SpoolWriter,
    kept: Kept,
    pipe: (OwnedFd, OwnedFd),
    null: File,
}

impl Bench {
    fn new() -> Bench {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("job");
        let spool = SpoolWriter::create(&dir).unwrap();
        let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
        Bench { _temp: temp, dir, spool, kept: Kept::default(), pipe, null }
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        rustix::io::write(&self.pipe.1, bytes).unwrap();
        let time_ns = self.spool.rows() as i64 * 10;
        self.spool.splice_from(&self.pipe.0, stream, CHUNK, time_ns).unwrap();
    }

    fn lose(&mut self, stream: Stream, bytes: usize) {
        rustix::io::write(&self.pipe.1, &vec![0; bytes]).unwrap();
        let time_ns = self.spool.rows() as i64 * 10;
        self.spool.discard_from(&self.pipe.0, &self.null, stream, CHUNK, time_ns).unwrap();
    }

    fn release(&self, through: u64) -> Option<Header> {
        self.kept.store(&self.dir, through);
        release(&self.dir, through, 0).unwrap()
    }

    fn all(&self) -> Vec<Chunk> {
        let mut reader = OutputReader::open(&self.dir, self.kept.open()).unwrap();
        std::iter::from_fn(|| reader.next(self.spool.rows()).unwrap()).collect()
    }

    fn blocks(&self) -> u64 {
        let files = ["index", "stdout", "stderr"].map(|name| std::fs::metadata(self.dir.join(name)).unwrap());
        files.iter().map(|file| file.blocks() * 512).sum()
    }
}

fn of(chunks: &[Chunk], stream: Stream) -> Vec<u8> {
    chunks.iter().filter(|chunk| chunk.stream == stream).flat_map(|chunk| chunk.bytes.clone()).collect()
}

#[test]
fn released_output_leaves_the_disk_and_is_read_from_the_history() {
    let mut b = Bench::new();
    for n in 0..100u8 {
        b.write(if n % 3 == 0 { Stderr } else { Stdout }, &vec![n + 1; 10_000]);
    }
    let (before, all) = (b.blocks(), b.all());
    let header = b.release(90).unwrap();
    assert_eq!((header.released, header.bytes()), (90, 90 * (10_000 + ROW as u64)));
    let after = b.blocks();
    assert!(after < before / 5, "{before} bytes on the disk, then {after}");
    assert_eq!(b.all(), all);
    // The same rows again, fewer, or too few bytes: nothing happens.
    assert_eq!([b.release(90), b.release(10), release(&b.dir, 91, 1 << 20).unwrap()], [None; 3]);
    b.spool = SpoolWriter::reopen(&b.dir).unwrap();
    assert_eq!((b.spool.rows(), b.spool.released_bytes()), (100, header.bytes()));
    b.write(Stdout, b"more");
    let more = b.all();
    assert_eq!((&more[..100], more[100].bytes.as_slice()), (&all[..], &b"more"[..]));
}

#[test]
fn release_stops_at_a_row_that_does_not_exist() {
    let mut b = Bench::new();
    (0..3).for_each(|_| b.write(Stdout, b"row"));
    assert_eq!(release(&b.dir, 9, 0).unwrap().map(|header| header.released), Some(3));
    assert_eq!(release(&b.dir.join("none"), 9, 0).unwrap(), None);
}

#[test]
fn released_index_that_a_power_cut_shortened_keeps_offsets() {
    let mut b = Bench::new();
    (0..10).for_each(|_| b.write(Stdout, &[7; 6000]));
    b.release(8);
    // The bytes of released rows were never written to the disk, and the later rows neither.
    File::options().write(true).open(b.dir.join("stdout")).unwrap().set_len(5000).unwrap();
    b.spool = SpoolWriter::reopen(&b.dir).unwrap();
    assert_eq!(b.spool.rows(), 8);
    b.write(Stdout, b"later");
    let all = b.all();
    assert_eq!(of(&all, Stdout), [&[7; 48_000][..], b"later"].concat());
}

#[test]
fn rows_that_the_history_lost_become_gaps_with_their_bytes() {
    let mut b = Bench::new();
    for n in 0..20 {
        b.write(if n % 2 == 0 { Stdout } else { Stderr }, &[n + 1; 5000]);
    }
    b.release(16);
    b.kept.forget(4..12);
    let all = b.all();
    let lost = |stream| all.iter().filter(|c| c.stream == stream).map(|c| c.lost).collect::<Vec<_>>();
    assert_eq!(lost(Stdout), [0, 0, 20_000, 0, 0, 0, 0]);
    assert_eq!(lost(Stderr), [0, 0, 20_000, 0, 0, 0, 0]);
    assert!(all.is_sorted_by_key(|chunk| chunk.sequence));
    assert_eq!(of(&all, Stdout).len() + of(&all, Stderr).len(), 60_000);
}

#[test]
fn damaged_part_of_the_history_is_one_gap() {
    let mut b = Bench::new();
    for n in 0..20 {
        b.write(if n % 2 == 0 { Stdout } else { Stderr }, &[n + 1; 5000]);
    }
    b.release(16);
    b.kept.damage(Stdout, 4..12);
    let all = b.all();
    let lost = |stream| all.iter().filter(|c| c.stream == stream).map(|c| c.lost).collect::<Vec<_>>();
    assert_eq!((lost(Stdout), lost(Stderr)), (vec![0, 0, 20_000, 0, 0, 0, 0], vec![0; 10]));
    assert_eq!(of(&all, Stdout).len(), 30_000);
}

#[test]
fn output_that_is_nowhere_becomes_one_gap_of_each_stream() {
    let mut b = Bench::new();
    for n in 0..20 {
        b.write(if n % 2 == 0 { Stdout } else { Stderr }, &[n + 1; 5000]);
    }
    b.release(19);
    let mut reader = OutputReader::open(&b.dir, None).unwrap();
    let all: Vec<Chunk> = std::iter::from_fn(|| reader.next(20).unwrap()).collect();
    let seen: Vec<_> = all.iter().map(|c| (c.sequence, c.stream, c.bytes.len(), c.lost)).collect();
    assert_eq!(seen, [(19, Stdout, 0, 50_000), (19, Stderr, 0, 45_000), (20, Stderr, 5000, 0)]);
}

#[test]
fn removed_spool_is_read_from_the_history_alone() {
    let mut b = Bench::new();
    (0..50).for_each(|n| b.write(Stdout, format!("{n}\n").as_bytes()));
    let all = b.all();
    let mut open = OutputReader::open(&b.dir, b.kept.open()).unwrap();
    b.kept.store(&b.dir, 50);
    remove(&b.dir).unwrap();
    remove(&b.dir).unwrap();
    assert_eq!(b.all(), all);
    assert_eq!(open.next(50).unwrap().as_ref(), all.first());
    let history = b.kept.open();
    assert_eq!(OutputReader::rows_stored(&b.dir, history.as_ref()).unwrap(), 50);
    let tail = LogQuery { tail: Some(2), ..LogQuery::default() };
    assert_eq!(text(&mut LogCursor::new(b.dir.clone(), history, tail), 50), "48\n49\n");
    std::fs::remove_dir(&b.dir).unwrap();
    assert!(
        OutputReader::open(&b.dir, None).is_err_and(|why| why.to_string().contains("cannot read the spool"))
    );
    assert_eq!(b.all(), all);
}

/// A spool that version 1 has stored, with rows that were released.
#[test]
fn the_golden_spool_with_released_rows_is_read() {
    let dir = Path::new("tests/golden/spool-1-released");
    if std::env::var_os("JOBLET_WRITE_GOLDEN").is_some() {
        let mut b = Bench::new();
        b.write(Stdout, b"gone\n");
        b.write(Stderr, b"gone too\n");
        b.write(Stdout, b"gone as well\n");
        b.write(Stdout, b"here\n");
        b.release(3);
        std::fs::create_dir_all(dir).unwrap();
        for name in ["index", "stdout", "stderr"] {
            std::fs::copy(b.dir.join(name), dir.join(name)).unwrap();
        }
    }
    let mut reader = OutputReader::open(dir, None).unwrap();
    let all: Vec<Chunk> = std::iter::from_fn(|| reader.next(4).unwrap()).collect();
    let seen: Vec<_> = all.iter().map(|c| (c.sequence, c.stream, c.bytes.as_slice(), c.lost)).collect();
    let want: [(u64, Stream, &[u8], u64); 3] =
        [(3, Stdout, b"", 18), (3, Stderr, b"", 9), (4, Stdout, b"here\n", 0)];
    assert_eq!(seen, want);
}

#[test]
fn reader_at_the_edge_of_releases_never_sees_a_hole() {
    let mut b = Bench::new();
    let (rows, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let (dir, history) = (b.dir.clone(), b.kept.open());
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut passes, mut seen) = (0, 0);
                    while passes < 3 || !over.load(Ordering::SeqCst) {
                        let mut reader = OutputReader::open(&dir, history.clone()).unwrap();
                        let all = rows.load(Ordering::SeqCst);
                        // Most of it may be in the history: the edge is at the end.
                        reader.seek(if passes % 2 == 0 { all.saturating_sub(64) } else { 0 });
                        while let Some(chunk) = reader.next(all).unwrap() {
                            let want = (chunk.sequence % 251) as u8 + 1;
                            assert!(
                                chunk.lost == 0 && chunk.bytes.iter().all(|byte| *byte == want),
                                "{chunk:?}"
                            );
                            seen += chunk.bytes.len();
                        }
                        passes += 1;
                    }
                    seen
                })
            })
            .collect();
        for n in 1..=1500u64 {
            b.write(if n % 5 == 0 { Stderr } else { Stdout }, &vec![(n % 251) as u8 + 1; 9000]);
            rows.store(n, Ordering::SeqCst);
            if n % 3 == 0 {
                b.release(n - 1);
            }
        }
        over.store(true, Ordering::SeqCst);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
}

#[derive(Debug, Clone)]
enum Step {
    Write(bool, usize),
    Lose(bool, usize),
    /// The history has stored so much of what is published, and so much of that is released.
    Store(f64, f64),
    /// The daemon is killed, and a new one goes on.
    Kill,
    /// One of the readers reads so many chunks.
    Read(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), 1usize..6000).prop_map(|(stream, length)| Step::Write(stream, length)),
        1 => (any::<bool>(), 1usize..100).prop_map(|(stream, length)| Step::Lose(stream, length)),
        2 => (0.0..=1.0, 0.0..=1.0).prop_map(|(stored, released)| Step::Store(stored, released)),
        1 => Just(Step::Kill),
        3 => (0usize..3, 1usize..20).prop_map(|(reader, chunks)| Step::Read(reader, chunks)),
    ]
}

/// The text that a cursor shows of output that has ended.
fn text(cursor: &mut LogCursor, rows: u64) -> String {
    let mut bytes = Vec::new();
    loop {
        match cursor.next(rows, true, 0).unwrap() {
            Next::Item(chunk) => bytes.extend(chunk.bytes),
            Next::Yield => {}
            _ => return String::from_utf8(bytes).unwrap(),
        }
    }
}

/// Lines of letters of this length in all.
fn letters(n: usize, length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| if (at + n).is_multiple_of(37) { b'\n' } else { b'a' + ((at * n) % 7) as u8 })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn every_reader_gets_all_output_whatever_is_released_meanwhile(
        steps in prop::collection::vec(step(), 1..120),
        filter in prop::option::of("[a-c]{1,2}"),
        tail in prop::option::of(0..200u64),
        since in prop::option::of(0..600i64),
    ) {
        // The same output in a spool that releases nothing.
        let (mut b, mut whole) = (Bench::new(), Bench::new());
        let mut readers: Vec<(Option<OutputReader>, Vec<Chunk>)> = (0..3).map(|_| (None, Vec::new())).collect();
        let side = |is_stderr| if is_stderr { Stderr } else { Stdout };
        let mut stored = 0;
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Write(stream, length) => {
                    for b in [&mut b, &mut whole] {
                        b.write(side(stream), &letters(n, length));
                    }
                }
                Step::Lose(stream, length) => {
                    for b in [&mut b, &mut whole] {
                        b.lose(side(stream), length);
                    }
                }
                Step::Store(share, released) => {
                    stored = ((b.spool.rows() as f64 * share) as u64).max(stored);
                    b.kept.store(&b.dir, stored);
                    release(&b.dir, (stored as f64 * released) as u64, 0).unwrap();
                }
                Step::Kill => {
                    for b in [&mut b, &mut whole] {
                        b.spool = SpoolWriter::reopen(&b.dir).unwrap();
                    }
                }
                Step::Read(at, chunks) => {
                    let (reader, got) = &mut readers[at];
                    let reader = reader.get_or_insert_with(|| OutputReader::open(&b.dir, b.kept.open()).unwrap());
                    for _ in 0..chunks {
                        got.extend(reader.next(b.spool.rows()).unwrap());
                    }
                }
            }
        }
        let rows = b.spool.rows();
        let want = whole.all();
        prop_assert_eq!(&b.all(), &want);
        for (reader, mut got) in readers {
            if let Some(mut reader) = reader {
                got.extend(std::iter::from_fn(|| reader.next(rows).unwrap()));
                prop_assert_eq!(&got, &want);
            }
        }
        let query = LogQuery {
            filter: filter.map(|text| Needle::new(text.as_bytes())), tail, since_ns: since, ..LogQuery::default()
        };
        let shown = text(&mut LogCursor::new(b.dir.clone(), b.kept.open(), query.clone()), rows);
        prop_assert_eq!(shown, text(&mut LogCursor::new(whole.dir.clone(), None, query), rows));
    }
}
