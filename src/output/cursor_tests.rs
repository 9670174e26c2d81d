use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use proptest::prelude::*;
use rustix::pipe::{PipeFlags, pipe_with};

use super::super::SpoolWriter;
use super::super::lines::Needle;
use super::super::spool::CHUNK;
use super::*;

/// A spool whose row n, counted from 0, has the time n * 10.
struct Bench {
    temp: tempfile::TempDir,
    spool: SpoolWriter,
    pipe: (OwnedFd, OwnedFd),
    null: fs::File,
}

impl Bench {
    fn new() -> Bench {
        let temp = tempfile::tempdir().unwrap();
        let spool = SpoolWriter::create(&temp.path().join("job")).unwrap();
        let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let null = fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
        Bench { temp, spool, pipe, null }
    }

    fn of(rows: &[(Stream, &str)]) -> Bench {
        let mut bench = Bench::new();
        rows.iter().for_each(|(stream, text)| bench.write(*stream, text));
        bench
    }

    fn write(&mut self, stream: Stream, text: &str) {
        rustix::io::write(&self.pipe.1, text.as_bytes()).unwrap();
        let time_ns = self.spool.rows() as i64 * 10;
        self.spool.splice_from(&self.pipe.0, stream, CHUNK, time_ns).unwrap();
    }

    fn lose(&mut self, stream: Stream) {
        rustix::io::write(&self.pipe.1, b"lost").unwrap();
        let time_ns = self.spool.rows() as i64 * 10;
        self.spool.discard_from(&self.pipe.0, &self.null, stream, CHUNK, time_ns).unwrap();
    }

    fn view(&self, query: LogQuery) -> LogCursor {
        LogCursor::new(Path::join(self.temp.path(), "job"), None, query)
    }

    /// The chunks that the cursor yields of the rows so far.
    fn show(&self, view: &mut LogCursor, ended: bool) -> (Vec<Chunk>, Next<Chunk>) {
        let mut shown = Vec::new();
        loop {
            match view.next(self.spool.rows(), ended, i64::MIN).unwrap() {
                Next::Item(chunk) => shown.push(chunk),
                Next::Yield => {}
                next => return (shown, next),
            }
        }
    }

    fn all(&self, query: LogQuery) -> Vec<Chunk> {
        let (shown, seen) = self.show(&mut self.view(query), true);
        assert_eq!(seen, Next::End);
        shown
    }

    fn text(&self, query: LogQuery) -> String {
        text(&self.all(query))
    }
}

fn text(chunks: &[Chunk]) -> String {
    String::from_utf8(chunks.iter().flat_map(|chunk| chunk.bytes.clone()).collect()).unwrap()
}

fn of(chunks: &[Chunk], stream: Stream) -> String {
    text(&chunks.iter().filter(|chunk| chunk.stream == stream).cloned().collect::<Vec<_>>())
}

fn filter(text: &str) -> Option<Needle> {
    Some(Needle::new(text.as_bytes()))
}

use Stream::{Stderr, Stdout};

#[test]
fn a_range_of_sequences_and_times_is_exact() {
    let b = Bench::of(&[(Stdout, "a"), (Stderr, "b"), (Stdout, "c"), (Stdout, "d")]);
    let query = LogQuery::default;
    assert_eq!(b.text(query()), "abcd");
    assert_eq!(b.text(LogQuery { from_sequence: 3, ..query() }), "cd");
    assert_eq!(b.text(LogQuery { from_sequence: 9, ..query() }), "");
    assert_eq!(b.text(LogQuery { since_ns: Some(10), until_ns: Some(20), ..query() }), "bc");
    assert_eq!(b.text(LogQuery { since_ns: Some(11), ..query() }), "cd");
    assert_eq!(b.text(LogQuery { until_ns: Some(9), ..query() }), "a");
    assert_eq!(b.text(LogQuery { stream: Some(Stdout), from_sequence: 2, ..query() }), "cd");
    assert_eq!(b.all(LogQuery { stream: Some(Stderr), ..query() })[0].sequence, 2);
}

#[test]
fn a_filter_shows_whole_lines_with_the_row_in_which_they_end() {
    let b =
        Bench::of(&[(Stdout, "an er"), (Stderr, "ERROR no\n"), (Stdout, "ror\nfine\nerror"), (Stdout, " 2")]);
    let shown = b.all(LogQuery { filter: filter("error"), ..LogQuery::default() });
    let rows: Vec<_> = shown.iter().map(|c| (c.sequence, c.time_ns, text(std::slice::from_ref(c)))).collect();
    assert_eq!(rows, [(3, 20, "an error\n".to_owned()), (4, 30, "error 2".to_owned())]);
    assert_eq!(b.text(LogQuery { filter: filter("nowhere"), ..LogQuery::default() }), "");
}

#[test]
fn bytes_that_are_no_text_are_looked_through_like_others() {
    let mut b = Bench::new();
    rustix::io::write(&b.pipe.1, b"\xff\xc3(\x00 needle \xf0\x9f\nother \xff\n").unwrap();
    b.spool.splice_from(&b.pipe.0, Stdout, CHUNK, 1).unwrap();
    let shown = b.all(LogQuery { filter: filter("needle"), ..LogQuery::default() });
    assert_eq!(shown[0].bytes, b"\xff\xc3(\x00 needle \xf0\x9f\n");
}

#[test]
fn a_tail_goes_on_with_what_follows_as_it_comes() {
    let mut b = Bench::of(&[(Stdout, "1\n2\n3"), (Stderr, "e\n")]);
    let mut views = [0, 1, 2, 9].map(|tail| b.view(LogQuery { tail: Some(tail), ..LogQuery::default() }));
    let shown: Vec<String> = views.iter_mut().map(|view| text(&b.show(view, false).0)).collect();
    // "3" has no line break yet, and counts as the last line.
    assert_eq!(shown, ["", "3", "3e\n", "1\n2\n3e\n"]);
    b.write(Stdout, "3\n4\nprompt> ");
    let mut rest = views.iter_mut().map(|view| text(&b.show(view, false).0));
    assert!(rest.all(|rest| rest == "3\n4\nprompt> "));
}

/// The chunks that a reader gets that loses its stream after each chunk and continues behind it without a tail.
fn piecewise(b: &mut Bench, query: LogQuery, later: &[(Stream, &str)]) -> String {
    let mut later = later.iter();
    let (mut query, mut got) = (query, Vec::new());
    loop {
        let mut view = b.view(query.clone());
        let next = loop {
            match view.next(b.spool.rows(), later.len() == 0, i64::MIN).unwrap() {
                Next::Yield => {}
                seen => break seen,
            }
        };
        match next {
            Next::Item(chunk) => {
                query = LogQuery { tail: None, from_sequence: chunk.sequence + 1, ..query };
                got.push(chunk);
            }
            Next::End => return text(&got),
            _ => later.next().into_iter().for_each(|(stream, text)| b.write(*stream, text)),
        }
    }
}

#[test]
fn interrupted_reader_resumes_without_lost_or_doubled_lines() {
    let query =
        |tail, text: Option<&str>| LogQuery { tail, filter: text.and_then(filter), ..LogQuery::default() };
    let mut first = Bench::of(&[(Stdout, "1\n2\n3\n4 be"), (Stdout, "gun\n5\n")]);
    let later = [(Stdout, "6\n7 is "), (Stdout, "open\n8\n9\n")];
    let rest = "6\n7 is open\n8\n9\n";
    assert_eq!(piecewise(&mut first, query(Some(3), None), &later), format!("3\n4 begun\n5\n{rest}"));
    // No output existed to be shown, and the output that comes without a reader is more than the tail.
    let mut none = Bench::of(&[(Stdout, "old\n")]);
    assert_eq!(piecewise(&mut none, query(Some(0), None), &later), rest);
    let mut none = Bench::new();
    assert_eq!(piecewise(&mut none, query(Some(1), None), &later), rest);
    let mut lines = Bench::of(&[(Stdout, "an o"), (Stderr, "o o\n"), (Stdout, "ld one\nand\n")]);
    assert_eq!(piecewise(&mut lines, query(None, Some("o")), &later), "o o\nan old one\n7 is open\n");
    let mut lines = Bench::of(&[(Stdout, "an o"), (Stderr, "o o\n"), (Stdout, "ld one\nand\n")]);
    assert_eq!(piecewise(&mut lines, query(Some(1), Some("o")), &later), "an old one\n7 is open\n");
}

#[test]
fn followed_tail_reports_its_position_once() {
    let mut b = Bench::of(&[(Stdout, "1\n"), (Stdout, "2\n")]);
    let mut view = b.view(LogQuery { tail: Some(0), ..LogQuery::default() });
    let (shown, _) = b.show(&mut view, false);
    let places: Vec<_> = shown.iter().map(|chunk| (chunk.sequence, chunk.bytes.len())).collect();
    assert_eq!(places, [(2, 0)]);
    b.write(Stdout, "3\n");
    assert_eq!(text(&b.show(&mut view, false).0), "3\n");
    assert_eq!(b.show(&mut view, false), (vec![], Next::Pending));
    // A reader that does not follow, or that has no tail, gets no position.
    assert!(b.all(LogQuery { tail: Some(0), no_follow: true, ..LogQuery::default() }).is_empty());
    let mut all = b.view(LogQuery { filter: filter("x"), ..LogQuery::default() });
    assert_eq!(b.show(&mut all, false), (vec![], Next::Pending));
}

#[test]
fn the_first_line_of_a_tail_is_whole_whichever_stream_it_is_of() {
    let b = Bench::of(&[(Stdout, "begun "), (Stderr, "e\n"), (Stdout, "before\n")]);
    assert_eq!(
        b.text(LogQuery { since_ns: Some(10), tail: Some(1), ..LogQuery::default() }),
        "begun before\n"
    );
}

#[test]
fn cursor_without_follow_ends_at_the_first_observed_end() {
    let mut b = Bench::of(&[(Stdout, "one\nand a")]);
    let query = LogQuery { no_follow: true, ..LogQuery::default() };
    let mut view = b.view(query.clone());
    assert_eq!(view.next(1, false, 0).unwrap(), Next::Yield);
    b.write(Stdout, "more\n");
    let (shown, seen) = b.show(&mut view, false);
    assert_eq!((text(&shown).as_str(), seen), ("one\nand a", Next::End));
    assert_eq!(b.view(query).next(0, false, 0).unwrap(), Next::End, "nothing was there");
    // A cursor that follows waits, also for a spool that does not exist yet.
    let mut early = LogCursor::new("/nonexistent".into(), None, LogQuery::default());
    assert_eq!(early.next(0, false, 0).unwrap(), Next::Pending);
    assert_eq!(early.next(0, true, 0).unwrap(), Next::End);
}

#[test]
fn cursor_with_an_end_time_ends_then_also_without_output() {
    let b = Bench::of(&[(Stdout, "x")]);
    let mut view = b.view(LogQuery { until_ns: Some(50), ..LogQuery::default() });
    let (shown, seen) = b.show(&mut view, false);
    assert_eq!((text(&shown).as_str(), seen), ("x", Next::Pending));
    assert_eq!(view.next(1, false, 50).unwrap(), Next::Pending);
    assert_eq!(view.next(1, false, 51).unwrap(), Next::End);
}

#[test]
fn a_gap_stands_between_the_lines_around_it() {
    let mut b = Bench::of(&[(Stdout, "a needle")]);
    b.lose(Stdout);
    b.write(Stdout, " behind\nneedle\n");
    let shown = b.all(LogQuery { filter: filter("needle"), ..LogQuery::default() });
    let seen: Vec<(String, u64)> = shown.iter().map(|c| (text(std::slice::from_ref(c)), c.lost)).collect();
    assert_eq!(seen, [("a needle".to_owned(), 0), (String::new(), 4), ("needle\n".to_owned(), 0)]);
    assert!(b.all(LogQuery { stream: Some(Stderr), ..LogQuery::default() }).is_empty());
    assert_eq!(
        b.all(LogQuery { tail: Some(1), ..LogQuery::default() }).len(),
        1,
        "what came before the tail is not missed"
    );
}

/// A log of 100 MB: 10 million lines, in chunks as the collector stores them.
#[test]
fn the_end_of_a_large_log_is_found_by_reading_its_end() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("job");
    drop(SpoolWriter::create(&dir).unwrap());
    fs::write(dir.join("stdout"), "123456789\n".repeat(10_000_000)).unwrap();
    let rows = SpoolWriter::reopen(&dir).unwrap().rows();
    let mut steps = 0;
    let mut view = LogCursor::new(dir, None, LogQuery { tail: Some(3), ..LogQuery::default() });
    let mut shown = Vec::new();
    loop {
        steps += 1;
        match view.next(rows, true, 0).unwrap() {
            Next::Item(chunk) => shown.push(chunk),
            Next::Yield => {}
            _ => break,
        }
    }
    assert_eq!(text(&shown), "123456789\n".repeat(3));
    assert!(steps < 60, "{steps} steps");
}

/// The lines of these rows that end in a range, in the order of their ends, and unended ones last.
fn lines(rows: &[(Stream, String)], from: usize, query: &LogQuery) -> Vec<(Stream, String)> {
    let mut got = Vec::new();
    let mut open = [String::new(), String::new()];
    let mut begun = [false; 2];
    let wanted = |stream: Stream| query.stream.is_none_or(|wanted| wanted == stream);
    for (n, (stream, text)) in rows.iter().enumerate() {
        begun[stream.place()] |= n >= from;
        for piece in text.split_inclusive('\n') {
            let line = &mut open[stream.place()];
            line.push_str(piece);
            if line.ends_with('\n') {
                let line = std::mem::take(line);
                if n >= from && wanted(*stream) {
                    got.push((*stream, line));
                }
            }
        }
    }
    for stream in [Stdout, Stderr] {
        let line = std::mem::take(&mut open[stream.place()]);
        if begun[stream.place()] && wanted(stream) && !line.is_empty() {
            got.push((stream, line));
        }
    }
    got.retain(|(_, line)| query.wants_line(line.as_bytes()));
    got
}

proptest! {
    #[test]
    fn every_log_query_gets_exactly_what_it_selects(
        rows in prop::collection::vec((any::<bool>(), "[ab\n]{1,12}"), 0..200),
        stream in prop::option::of(any::<bool>()),
        filter in prop::option::of("[ab]{1,3}"),
        since in prop::option::of(0..2200i64),
        until in prop::option::of(0..2200i64),
        tail in prop::option::of(0..40u64),
        from_sequence in prop_oneof![Just(0u64), 0..220u64],
    ) {
        let side = |is_stderr| if is_stderr { Stderr } else { Stdout };
        let rows: Vec<(Stream, String)> = rows.into_iter().map(|(e, text)| (side(e), text)).collect();
        let borrowed: Vec<(Stream, &str)> = rows.iter().map(|(s, text)| (*s, text.as_str())).collect();
        let b = Bench::of(&borrowed);
        let query = LogQuery {
            stream: stream.map(side),
            filter: filter.as_ref().map(|text| Needle::new(text.as_bytes())),
            since_ns: since,
            until_ns: until,
            tail,
            no_follow: false,
            from_sequence,
        };
        let shown = b.all(query.clone());
        let from = (from_sequence.saturating_sub(1) as usize).max(since.map_or(0, |ns| (ns as usize).div_ceil(10)));
        let to = until.map_or(rows.len(), |ns| rows.len().min(ns as usize / 10 + 1));
        let lines = lines(&rows[..to], from, &query);
        let keep = tail.map_or(lines.len(), |tail| lines.len().min(tail as usize));
        for stream in [Stdout, Stderr] {
            let want: String = if filter.is_none() && keep == lines.len() {
                let mine = rows[from.min(to)..to].iter().filter(|(s, _)| *s == stream && query.stream.is_none_or(|w| w == *s));
                mine.map(|(_, text)| text.as_str()).collect()
            } else {
                let kept = lines[lines.len() - keep..].iter();
                kept.filter(|(s, _)| *s == stream).map(|(_, line)| line.as_str()).collect()
            };
            prop_assert_eq!(of(&shown, stream), want, "{:?} of {:?}", stream, query);
        }
        prop_assert!(shown.is_sorted_by_key(|chunk| chunk.sequence));
    }
}
