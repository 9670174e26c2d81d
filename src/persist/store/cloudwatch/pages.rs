//! Fetched events on disk, and their order.
//!
//! CloudWatch orders events by their times, which are not always those of the output, and may hold an event twice. The
//! bytes go into a temporary file without a name; what stays in memory is an [`Entry`] of 48 bytes an event. In each
//! stream the offsets decide what comes next, and both streams are merged by their sequences.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::job::JobId;
use crate::output::Stream;
use crate::output::spool::{Row, Span};

use super::error::CloudError;
use super::event::{self, Content, PIECE, Piece};

/// Most events of one fetch: 192 MiB of memory.
const EVENTS: usize = 4 * 1024 * 1024;
/// Most bytes of one row that is handed over.
const ROW: u64 = PIECE as u64;

/// The numbers of a fetch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Rows that were handed over.
    pub rows: u64,
    /// Events that were there twice.
    pub doubles: u64,
    /// Events of other programs in the job's streams.
    pub foreign: u64,
    /// Bytes of output that are not in CloudWatch; gaps in their place count them.
    pub lost_bytes: u64,
}

/// One event: where it belongs, and the place of its bytes in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    offset: u64,
    sequence: u64,
    what: What,
    /// Number of bytes, present or not.
    length: u64,
    time_ns: i64,
    place: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Bytes,
    Lost,
    Refused,
}

/// The events that were fetched so far.
#[derive(Debug)]
pub(super) struct Pages {
    job: JobId,
    path: PathBuf,
    file: BufWriter<File>,
    written: u64,
    streams: [Vec<Entry>; 2],
    found: Fetched,
}

impl Pages {
    /// An empty file in this directory, without a name once it is open.
    pub(super) fn new(dir: &Path, job: JobId) -> Result<Pages, CloudError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("fetch-{}-{number}", std::process::id()));
        let open = || {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(BufWriter::with_capacity(128 * 1024, file))
        };
        let file = open().map_err(|source| CloudError::Fetch { path: dir.to_owned(), source })?;
        let (streams, found) = ([Vec::new(), Vec::new()], Fetched::default());
        Ok(Pages { job, path: dir.to_owned(), file, written: 0, streams, found })
    }

    fn failed(&self, source: io::Error) -> CloudError {
        CloudError::Fetch { path: self.path.clone(), source }
    }

    /// Takes in the messages of one page.
    pub(super) fn add(&mut self, stream: Stream, messages: Vec<String>) -> Result<(), CloudError> {
        for message in messages {
            let Some(Piece { sequence, offset, time_ns, content }) = event::read(&message) else {
                self.found.foreign += 1;
                continue;
            };
            let (what, length) = match &content {
                Content::Bytes(bytes) => (What::Bytes, bytes.len() as u64),
                Content::Lost(lost) => (What::Lost, *lost),
                Content::Refused(refused) => (What::Refused, *refused),
            };
            if what == What::Bytes && length > ROW {
                self.found.foreign += 1;
                continue;
            }
            if self.streams.iter().map(Vec::len).sum::<usize>() == EVENTS {
                return Err(CloudError::TooLong { job: self.job.to_string(), most: EVENTS });
            }
            let entries = &mut self.streams[usize::from(stream != Stream::Stdout)];
            entries.push(Entry { offset, sequence, what, length, time_ns, place: self.written });
            if let Content::Bytes(bytes) = content {
                self.file.write_all(&bytes).map_err(|e| self.failed(e))?;
                self.written += length;
            }
        }
        Ok(())
    }

    /// Hands all rows over in the order of their sequences.
    pub(super) fn hand_over<E: From<CloudError>>(
        mut self,
        mut take: impl FnMut(Row, &[u8]) -> Result<(), E>,
    ) -> Result<Fetched, E> {
        self.file.flush().map_err(|e| self.failed(e))?;
        let [out, err] = std::mem::take(&mut self.streams);
        let mut found = self.found;
        let mut lanes =
            [Lane::new(Stream::Stdout, out, &mut found), Lane::new(Stream::Stderr, err, &mut found)];
        let mut last = 0;
        let mut bytes = Vec::new();
        while let Some(place) = earliest(&lanes) {
            let Some(mut made) = lanes[place].next(last, &mut found) else { continue };
            // One sequence is one row. A damaged history may name it twice.
            made.sequence = made.sequence.max(last.saturating_add(1));
            last = made.sequence;
            bytes.clear();
            for part in &made.parts {
                let from = bytes.len();
                bytes.resize(from + usize::try_from(part.length).unwrap_or(0), 0);
                let into = bytes.get_mut(from..).unwrap_or_default();
                self.file.get_ref().read_exact_at(into, part.place).map_err(|e| self.failed(e))?;
            }
            found.rows += 1;
            if let Span::Lost(lost) = made.span {
                found.lost_bytes = found.lost_bytes.saturating_add(lost);
            }
            let row =
                Row { sequence: made.sequence, time_ns: made.time_ns, stream: made.stream, span: made.span };
            take(row, &bytes)?;
        }
        Ok(found)
    }
}

fn earliest(lanes: &[Lane; 2]) -> Option<usize> {
    let fronts = lanes.iter().enumerate().filter_map(|(place, lane)| Some((lane.front()?.sequence, place)));
    fronts.min().map(|(_, place)| place)
}

/// A row to be read from the file.
struct Made {
    sequence: u64,
    time_ns: i64,
    stream: Stream,
    span: Span,
    parts: Vec<Part>,
}

/// A range of the file.
struct Part {
    place: u64,
    length: u64,
}

/// One stream's events in order, without doubles.
struct Lane {
    stream: Stream,
    entries: Vec<Entry>,
    at: usize,
    /// The end of the bytes seen, by the job's offsets.
    end: u64,
    /// The end of the bytes that were handed over: offsets without what is lost.
    given: u64,
}

impl Lane {
    fn new(stream: Stream, mut entries: Vec<Entry>, found: &mut Fetched) -> Lane {
        entries.sort_unstable();
        let before = entries.len();
        entries.dedup_by_key(|entry| (entry.offset, entry.sequence, entry.what, entry.length));
        let mut end: u64 = 0;
        entries.retain_mut(|entry| {
            if entry.what == What::Lost {
                return true;
            }
            // Bytes that were accepted in another cut, or an event that was refused at first and accepted later.
            let known = end.saturating_sub(entry.offset).min(entry.length);
            entry.offset = entry.offset.saturating_add(known);
            (entry.length, entry.place) = (entry.length - known, entry.place + known);
            end = end.max(entry.offset.saturating_add(entry.length));
            entry.length > 0
        });
        found.doubles += (before - entries.len()) as u64;
        Lane { stream, entries, at: 0, end: 0, given: 0 }
    }

    fn front(&self) -> Option<&Entry> {
        self.entries.get(self.at)
    }

    /// The next row. `last` is the sequence of the last one of both streams, which is below that of the front.
    fn next(&mut self, last: u64, found: &mut Fetched) -> Option<Made> {
        let first = *self.front()?;
        let made = |span, sequence, parts| {
            Some(Made { sequence, time_ns: first.time_ns, stream: self.stream, span, parts })
        };
        let hole = first.offset.saturating_sub(self.end);
        if hole > 0 {
            self.end = first.offset;
            if first.sequence - 1 > last {
                return made(Span::Lost(hole), first.sequence - 1, Vec::new());
            }
            // No sequence is free for a row of its own.
            found.lost_bytes = found.lost_bytes.saturating_add(hole);
        }
        if first.what != What::Bytes {
            self.at += 1;
            if first.what == What::Refused {
                self.end = first.offset.saturating_add(first.length);
            }
            return made(Span::Lost(first.length), first.sequence, Vec::new());
        }
        let (mut parts, mut length) = (Vec::new(), 0);
        while let Some(entry) = self.entries.get(self.at) {
            let joins =
                entry.what == What::Bytes && entry.sequence <= first.sequence && entry.offset == self.end;
            // The first one always goes, so that each call comes further.
            let is_first = parts.is_empty();
            if !is_first && (!joins || length + entry.length > ROW) {
                break;
            }
            parts.push(Part { place: entry.place, length: entry.length });
            length += entry.length;
            self.end = self.end.max(entry.offset.saturating_add(entry.length));
            self.at += 1;
        }
        let span = Span::Bytes { offset: self.given, length: u32::try_from(length).unwrap_or(u32::MAX) };
        self.given += length;
        made(span, first.sequence, parts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OUT: Stream = Stream::Stdout;
    const ERR: Stream = Stream::Stderr;

    fn bytes(sequence: u64, offset: u64, text: &str) -> (u64, String) {
        let length = text.len() as u32;
        let row = Row { sequence, time_ns: 5, stream: OUT, span: Span::Bytes { offset, length } };
        (sequence, event::of_row(&row, text.as_bytes(), 0).remove(0).message)
    }

    fn handed(pages: &[(Stream, (u64, String))]) -> (Vec<(Row, String)>, Fetched) {
        let dir = tempfile::tempdir().unwrap();
        let mut all = Pages::new(dir.path(), JobId::random()).unwrap();
        for (stream, (_, message)) in pages {
            all.add(*stream, vec![message.clone()]).unwrap();
        }
        let mut rows = Vec::new();
        let found = all.hand_over(|row, bytes| {
            rows.push((row, String::from_utf8(bytes.to_vec()).unwrap()));
            Ok::<_, CloudError>(())
        });
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        (rows, found.unwrap())
    }

    fn text(rows: &[(Row, String)]) -> Vec<(u64, &str)> {
        rows.iter().map(|(row, text)| (row.sequence, text.as_str())).collect()
    }

    #[test]
    fn both_streams_are_merged_and_doubles_dropped() {
        let (rows, found) = handed(&[
            (OUT, bytes(3, 2, "cd")),
            (OUT, bytes(1, 0, "ab")),
            (OUT, bytes(3, 2, "cd")),
            (ERR, bytes(2, 0, "xy")),
            (ERR, (0, "another program".into())),
        ]);
        assert_eq!(text(&rows), [(1, "ab"), (2, "xy"), (3, "cd")]);
        assert_eq!(found, Fetched { rows: 3, doubles: 1, foreign: 1, lost_bytes: 0 });
        assert_eq!(rows[2].0.span, Span::Bytes { offset: 2, length: 2 });
    }

    #[test]
    fn rows_that_are_missing_or_refused_become_counted_gaps() {
        let lost = (2, r#"{"seq":2,"off":2,"t":5,"lost":7}"#.to_owned());
        let refused = (3, r#"{"seq":3,"off":2,"t":5,"refused":4}"#.to_owned());
        let (rows, found) = handed(&[
            (OUT, bytes(1, 0, "ab")),
            (OUT, lost),
            (OUT, refused),
            (OUT, bytes(4, 6, "gh")),
            (OUT, bytes(6, 18, "z")),
        ]);
        let spans: Vec<_> = rows.iter().map(|(row, _)| (row.sequence, row.span)).collect();
        let expected = [
            (1, Span::Bytes { offset: 0, length: 2 }),
            (2, Span::Lost(7)),
            (3, Span::Lost(4)),
            (4, Span::Bytes { offset: 2, length: 2 }),
            (5, Span::Lost(10)),
            (6, Span::Bytes { offset: 4, length: 1 }),
        ];
        assert_eq!(spans, expected);
        assert_eq!(found.lost_bytes, 21);
    }

    #[test]
    fn bytes_in_another_cut_count_once() {
        let (rows, _) = handed(&[
            (OUT, bytes(1, 0, "abc")),
            (OUT, bytes(2, 3, "def")),
            (OUT, bytes(1, 0, "abcdefgh")),
            (OUT, bytes(2, 6, "gh")),
        ]);
        let all: String = rows.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(all, "abcdefgh");
        assert!(rows.windows(2).all(|pair| pair[0].0.sequence < pair[1].0.sequence));
    }

    #[test]
    fn an_entry_that_was_not_trimmed_is_handed_over_once() {
        let entry =
            |offset, place| Entry { offset, sequence: 1, what: What::Bytes, length: 4, time_ns: 5, place };
        let mut lane = Lane::new(OUT, Vec::new(), &mut Fetched::default());
        lane.entries = vec![entry(0, 0), entry(2, 4)];
        let mut rows = 0;
        while lane.front().is_some() && rows < 9 {
            rows += 1;
            lane.next(0, &mut Fetched::default());
        }
        assert_eq!(rows, 2);
    }

    proptest! {
        #[test]
        fn any_order_and_any_doubles_give_the_output(
            cuts in proptest::collection::vec((any::<bool>(), 1..40_usize), 1..40),
            again in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
            seed: u64,
        ) {
            let (mut ends, mut wanted, mut events) = ([0_u64; 2], Vec::new(), Vec::new());
            for (n, (is_err, length)) in cuts.iter().enumerate() {
                let stream = if *is_err { ERR } else { OUT };
                let text: String = (0..*length).map(|at| char::from(b'a' + ((n * 7 + at) % 26) as u8)).collect();
                let end = &mut ends[usize::from(*is_err)];
                events.push((stream, bytes(n as u64 + 1, *end, &text)));
                *end += *length as u64;
                wanted.push((n as u64 + 1, text));
            }
            let doubles: Vec<_> = again.iter().map(|index| index.get(&events).clone()).collect();
            events.extend(doubles);
            events.sort_by_key(|(_, (sequence, _))| sequence.wrapping_mul(seed | 1) ^ (seed >> 7));
            let (rows, found) = handed(&events);
            let rows: Vec<_> = rows.iter().map(|(row, text)| (row.sequence, text.clone())).collect();
            prop_assert_eq!(rows, wanted);
            prop_assert_eq!((found.doubles, found.lost_bytes), (again.len() as u64, 0));
        }

        #[test]
        fn no_numbers_of_outside_end_the_reader(
            events in proptest::collection::vec((any::<bool>(), 1..u64::MAX, 0..u64::MAX, 0..4_u8), 0..30),
        ) {
            let pages: Vec<_> = events.iter().map(|(is_err, sequence, offset, kind)| {
                let what = ["\"log\":\"abc\"", "\"lost\":18446744073709551615", "\"refused\":9", "\"b64\":\"YQ==\""];
                let what = what[usize::from(*kind)];
                let message = format!("{{\"seq\":{sequence},\"off\":{offset},\"t\":0,{what}}}");
                (if *is_err { ERR } else { OUT }, (0, message))
            }).collect();
            let _ = handed(&pages);
        }
    }
}
