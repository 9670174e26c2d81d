use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};
use rustix::pipe::{PipeFlags, pipe_with};

use super::super::frame::Files;
use super::super::jobs::End;
use super::super::store::{Layout, StoreLimits};
use super::*;
use crate::output::{SpoolWriter, Stream};
use crate::sys::mailbox::{Inbox, mailbox};

struct Bench {
    temp: tempfile::TempDir,
    poll: Poll,
    inbox: Inbox<LaneEvent>,
    lane: Lane,
    store: LocalStore,
    job: JobId,
}

impl Bench {
    fn new() -> Bench {
        Bench::of(tempfile::tempdir().unwrap(), JobId::random())
    }

    fn of(temp: tempfile::TempDir, job: JobId) -> Bench {
        let poll = Poll::new().unwrap();
        let waker = std::sync::Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (events, inbox) = mailbox(64, waker);
        let store = LocalStore::new(Layout::below(temp.path()), StoreLimits::default());
        let (chores, _) = unbounded();
        let compression = Compression { level: 1, ..Compression::default() };
        let lane = Lane::start(&store, &compression, &events, &chores).unwrap();
        Bench { temp, poll, inbox, lane, store, job }
    }

    /// The process dies, and the next one begins.
    fn again(self) -> Bench {
        let Bench { temp, job, lane, .. } = self;
        lane.end().into_iter().for_each(|thread| thread.join().unwrap());
        Bench::of(temp, job)
    }

    /// Has rows stored, and returns how much the lane says is stored.
    fn store(&mut self, rows: u64, end: Option<End>) -> Reached {
        let reached = Reached { rows, sample_bytes: 0 };
        let (job, lag, again, all_samples) = (self.job, 0, false, true);
        self.lane.send(Task::Work(Work { job, reached, end, lag, again, all_samples }));
        assert!(matches!(self.event(), LaneEvent::Staged { .. }));
        match self.event() {
            LaneEvent::Stored { stored, complete, .. } if complete == end.is_some() => stored,
            other => panic!("{other:?}"),
        }
    }

    fn opened(&mut self) -> Reached {
        match self.event() {
            LaneEvent::Opened { stored, complete: false, .. } => stored,
            other => panic!("{other:?}"),
        }
    }

    /// The bytes of a stream in history.
    fn content(&self, stream: Stream) -> Vec<u8> {
        let mut history = self.store.history(self.job).unwrap().unwrap();
        let wanted = [stream == Stream::Stdout, stream == Stream::Stderr];
        let (mut bytes, mut from) = (Vec::new(), 0);
        while let Some(chunk) = history.next(from, wanted).unwrap() {
            assert!(chunk.sequence >= from && chunk.lost == 0, "{chunk:?}");
            from = chunk.sequence + 1;
            bytes.extend(chunk.bytes);
        }
        bytes
    }

    fn event(&mut self) -> LaneEvent {
        let mut woken = Events::with_capacity(1);
        for _ in 0..100 {
            if let Some(event) = self.inbox.take() {
                return event;
            }
            self.poll.poll(&mut woken, Some(Duration::from_millis(100))).unwrap();
        }
        panic!("the lane says nothing");
    }

    fn open(&self, dir: &Path, released: u64) {
        let open = |name| OwnedFd::from(File::open(dir.join(name)).unwrap());
        let files = Files::INDEX.with(Files::STDOUT).with(Files::STDERR);
        let source = SpoolSource::new(files, ["index", "stdout", "stderr"].map(open).into()).unwrap();
        self.lane.send(Task::Open { job: self.job, source: Box::new(source), released });
    }

    fn work(&self, rows: u64, again: bool) {
        let reached = Reached { rows, sample_bytes: 0 };
        let (job, lag, end, all_samples) = (self.job, 0, None, false);
        self.lane.send(Task::Work(Work { job, reached, end, lag, again, all_samples }));
    }
}

/// A spool of so many rows of one line each, in turn on both streams.
fn spool(dir: &Path, rows: u64) {
    let mut spool = SpoolWriter::create(dir).unwrap();
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    for n in 0..rows {
        rustix::io::write(&write, format!("{n}\n").as_bytes()).unwrap();
        let stream = if n % 2 == 0 { Stream::Stdout } else { Stream::Stderr };
        spool.splice_from(&read, stream, 65_536, 5).unwrap();
    }
}

#[test]
fn rows_behind_a_failed_commit_are_not_stored_before_it() {
    let mut b = Bench::new();
    let dir = b.temp.path().join("job");
    spool(&dir, 9);
    b.open(&dir, 0);
    assert!(matches!(b.event(), LaneEvent::Opened { complete: false, .. }));
    // Its directory cannot be made.
    std::fs::write(b.temp.path().join("logs"), "in the way").unwrap();
    b.work(3, false);
    assert!(matches!(b.event(), LaneEvent::Staged { .. }));
    assert!(matches!(b.event(), LaneEvent::Failed { .. }));
    std::fs::remove_file(b.temp.path().join("logs")).unwrap();
    // Under way already when the loop hears of the failure.
    b.work(6, false);
    assert!(matches!(b.event(), LaneEvent::Staged { .. }));
    b.work(9, true);
    assert!(matches!(b.event(), LaneEvent::Staged { .. }));
    let stored = b.event();
    assert!(matches!(stored, LaneEvent::Stored { stored: Reached { rows: 9, .. }, .. }), "{stored:?}");
    let mut history = b.store.history(b.job).unwrap().unwrap();
    for sequence in 1..=9 {
        assert!(history.row(sequence).unwrap().is_some(), "row {sequence} is missing");
    }
}

#[test]
fn job_begins_again_behind_what_its_spool_has_released() {
    let mut b = Bench::new();
    let dir = b.temp.path().join("job");
    spool(&dir, 9);
    // Something else stands where rows were that are gone.
    let index = std::fs::OpenOptions::new().write(true).open(dir.join("index")).unwrap();
    index.write_all_at(&[0; 5 * 32], 32).unwrap();
    std::fs::write(b.temp.path().join("logs"), "in the way").unwrap();
    b.open(&dir, 5);
    std::fs::remove_file(b.temp.path().join("logs")).unwrap();
    let opened = b.event();
    assert!(matches!(opened, LaneEvent::Opened { .. } | LaneEvent::Failed { .. }), "{opened:?}");
    b.work(9, true);
    loop {
        match b.event() {
            LaneEvent::Opened { .. } => b.work(9, true),
            LaneEvent::Staged { .. } => {}
            LaneEvent::Stored { stored, .. } => {
                assert_eq!(stored.rows, 9);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The files cannot be opened, and before the next try the daemon hands the spool over again, now with samples.
#[test]
fn job_that_is_handed_over_again_before_its_next_try_goes_on() {
    let mut b = Bench::new();
    let dir = b.temp.path().join("job");
    spool(&dir, 9);
    std::fs::write(b.temp.path().join("logs"), "in the way").unwrap();
    b.open(&dir, 0);
    assert!(matches!(b.event(), LaneEvent::Failed { .. }));
    std::fs::remove_file(b.temp.path().join("logs")).unwrap();
    b.open(&dir, 0);
    assert!(matches!(b.event(), LaneEvent::Opened { complete: false, .. }));
    b.work(9, true);
    assert!(matches!(b.event(), LaneEvent::Staged { .. }), "the loop waits for the lane for ever");
    assert!(matches!(b.event(), LaneEvent::Stored { .. }));
}

#[test]
fn level_falls_with_the_lag_unless_it_is_fixed() {
    let mut compression = Compression { level: 2, ..Compression::default() };
    let levels = |compression: &Compression| [0, 4 << 20, 32 << 20].map(|lag| level(compression, lag));
    assert_eq!(levels(&compression), [2, 2, 1]);
    compression.level = 6;
    assert_eq!(levels(&compression), [6, 3, 1]);
    compression.adaptive = false;
    assert_eq!(levels(&compression), [6, 6, 6]);
}

/// After a power cut the index lacks rows, and the next daemon cuts their bytes into others.
#[test]
fn rows_that_a_power_cut_has_cut_anew_are_stored_once_and_whole() {
    let rows = 300;
    for (left, released) in [(80, 60), (80, 0), (0, 0), (150, 100), (299, 200)] {
        let mut b = Bench::new();
        let dir = b.temp.path().join("job");
        spool(&dir, rows);
        b.open(&dir, 0);
        assert_eq!(b.opened().rows, 0);
        // The second commit says that the first one has ended.
        for part in [100, 200] {
            assert_eq!(b.store(part, None).rows, part);
        }
        let index = std::fs::OpenOptions::new().write(true).open(dir.join("index")).unwrap();
        index.set_len(32 + left * 32).unwrap();
        let recut = SpoolWriter::reopen(&dir).unwrap().rows();
        let mut b = b.again();
        b.open(&dir, released);
        let stored = b.opened().rows;
        assert!(stored <= left.max(released), "{stored} of {left} rows that were left are said to be stored");
        let stored = b.store(recut, Some(End { ended_ns: 1 })).rows;
        assert!(
            stored <= left.max(released) || left == 299,
            "{stored} rows may go before the job is complete"
        );
        for stream in [Stream::Stdout, Stream::Stderr] {
            let all = std::fs::read(dir.join(stream.file_name())).unwrap();
            assert!(b.content(stream) == all, "{stream:?} differs with {left} rows left");
        }
    }
}

/// The files hold rows of a commit that ended in no acknowledgement, and the next process begins behind them.
#[test]
fn next_process_begins_behind_all_that_is_stored() {
    let mut b = Bench::new();
    let dir = b.temp.path().join("job");
    spool(&dir, 20);
    b.open(&dir, 0);
    b.opened();
    b.store(10, None);
    let mut b = b.again();
    b.open(&dir, 4);
    assert_eq!(b.opened().rows, 10);
    assert_eq!(b.store(20, None).rows, 20);
    let all = std::fs::read(dir.join("stdout")).unwrap();
    assert_eq!(b.content(Stream::Stdout), all);
}

/// The daemon lets go what an earlier process has stored, behind its message about the spool.
#[test]
fn rows_that_go_while_a_spool_is_opened_hold_no_job_up() {
    let mut b = Bench::new();
    let dir = b.temp.path().join("job");
    spool(&dir, 20);
    b.open(&dir, 0);
    b.opened();
    b.store(10, None);
    let mut b = b.again();
    let index = std::fs::OpenOptions::new().write(true).open(dir.join("index")).unwrap();
    index.write_all_at(&10u64.to_le_bytes(), 24).unwrap();
    index.write_all_at(&[0; 8 * 32], 32 + 2 * 32).unwrap();
    b.open(&dir, 0);
    assert_eq!(b.opened().rows, 10);
    assert_eq!(b.store(20, None).rows, 20);
    let all = std::fs::read(dir.join("stderr")).unwrap();
    assert_eq!(b.content(Stream::Stderr), all);
}
