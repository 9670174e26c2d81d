//! One job's way into CloudWatch: rows into two log streams, samples into nine metrics.
//!
//! One request is under way at a time. A note on disk says how far AWS has accepted ([`Cursor`]), so a call that fails
//! goes on where it stopped when the caller repeats it. Nothing is given up but what AWS refuses for good, and then
//! a counted gap takes its place.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::diag::{Level, limited};
use crate::job::JobId;
use crate::output::Stream;
use crate::output::spool::{Row, Span};

use super::backoff::Stop;
use super::batch;
use super::cursor::{Accepted, Cursor, Reached};
use super::error::{CloudError, Failure, Kind};
use super::event::{self, Event};
use super::remote::{Attempts, Remote};

/// One row of the spool with its bytes.
#[derive(Debug, Clone, Copy)]
pub struct CloudRow<'a> {
    /// The row of the spool's index.
    pub row: Row,
    /// The row's bytes; empty for a gap.
    pub bytes: &'a [u8],
}

/// The way of one job into CloudWatch.
#[derive(Debug)]
pub struct CloudJob {
    pub(super) remote: Arc<Remote>,
    pub(super) id: JobId,
    pub(super) cursor: Cursor,
    lanes: [Lane; 2],
    /// Failed requests in a row, which later calls go on counting.
    pub(super) failures: u32,
}

/// One of the job's log streams.
#[derive(Debug)]
struct Lane {
    name: String,
    /// Whether the stream is known to exist.
    exists: bool,
    /// How far it is accepted.
    reached: Reached,
    /// The time that its newest event was sent with, ms.
    last_ms: i64,
    queue: VecDeque<Event>,
    /// Most events of its next request: fewer while one that AWS refuses is looked for.
    most: usize,
    /// Whether the next request carries the time of its sending only.
    squeezed: bool,
}

/// The place of a stream in a pair.
fn place(stream: Stream) -> usize {
    usize::from(stream != Stream::Stdout)
}

/// The name of a job's log stream.
pub(super) fn stream_name(id: JobId, stream: Stream) -> String {
    format!("{id}-{}", stream.file_name())
}

impl CloudJob {
    pub(super) fn new(remote: Arc<Remote>, id: JobId, cursor: Cursor) -> CloudJob {
        let streams = cursor.accepted().streams;
        let lane = |stream: Stream| Lane {
            name: stream_name(id, stream),
            // One that had events once is tried first, and made when it is missing.
            exists: streams[place(stream)].sequence > 0,
            reached: streams[place(stream)],
            last_ms: 0,
            queue: VecDeque::new(),
            most: remote.batch_size(),
            squeezed: false,
        };
        let lanes = [lane(Stream::Stdout), lane(Stream::Stderr)];
        CloudJob { remote, id, cursor, lanes, failures: 0 }
    }

    /// The part of the job that CloudWatch has accepted so far.
    pub fn accepted(&self) -> Accepted {
        self.cursor.accepted()
    }

    /// Sends rows, in the order of their sequences, and returns the sequence up to which all are accepted. Rows that are
    /// accepted already are skipped. Blocks for as long as the requests and at most eight failed attempts take; memory
    /// is twice the bytes of the rows.
    ///
    /// # Errors
    /// CloudWatch did not take all of them, the flag is set, or the note of what was accepted cannot be kept.
    /// [`CloudJob::accepted`] says how far it came; the call may be repeated.
    pub fn put(&mut self, rows: &[CloudRow<'_>], stop: &Stop) -> Result<u64, CloudError> {
        self.fill(rows);
        let end = rows.last().map_or(0, |last| last.row.sequence);
        let mut attempts = Attempts::patient(self.failures);
        let sent = self.send_all(end, &mut attempts, stop);
        self.failures = attempts.failures;
        sent?;
        Ok(self.accepted().through)
    }

    /// Makes the events of what is not accepted yet.
    fn fill(&mut self, rows: &[CloudRow<'_>]) {
        let mut streams = self.accepted().streams;
        self.lanes.iter_mut().for_each(|lane| lane.queue.clear());
        for CloudRow { row, bytes } in rows {
            let (reached, lane) = (&mut streams[place(row.stream)], &mut self.lanes[place(row.stream)]);
            // A host that lost its power may cut bytes into other rows than those that were accepted: offsets decide.
            let is_new = match row.span {
                Span::Bytes { offset, .. } => offset + bytes.len() as u64 > reached.end,
                Span::Lost(_) => row.sequence > reached.sequence,
            };
            if is_new {
                lane.queue.extend(event::of_row(row, bytes, reached.end));
                reached.end = lane.queue.back().map_or(reached.end, |last| last.offset + last.covers);
            }
        }
    }

    fn send_all(&mut self, end: u64, attempts: &mut Attempts, stop: &Stop) -> Result<(), CloudError> {
        while let Some(place) = self.oldest() {
            match self.send(place, stop) {
                Ok(()) => {
                    attempts.failures = 0;
                    self.note(end)?;
                }
                Err(failure) => self.recover(place, failure, attempts, stop)?,
            }
        }
        self.note(end)
    }

    /// The lane whose next event comes first.
    fn oldest(&self) -> Option<usize> {
        let front = |lane: &Lane| lane.queue.front().map(|event| event.sequence);
        let fronts = self.lanes.iter().enumerate().filter_map(|(place, lane)| Some((front(lane)?, place)));
        fronts.min().map(|(_, place)| place)
    }

    /// Notes how far both streams are accepted.
    fn note(&mut self, end: u64) -> Result<(), CloudError> {
        let waiting =
            self.lanes.iter().filter_map(|lane| lane.queue.front()).map(|event| event.sequence - 1).min();
        let accepted = self.accepted();
        let through = waiting.unwrap_or(end).max(accepted.through);
        let streams = [self.lanes[0].reached, self.lanes[1].reached];
        self.cursor.save(Accepted { through, streams, ..accepted })
    }

    /// Sends the next request of a lane.
    fn send(&mut self, place: usize, stop: &Stop) -> Result<(), Failure> {
        let (remote, lane) = (self.remote.clone(), &mut self.lanes[place]);
        if !lane.exists {
            remote.make_stream(&lane.name, stop)?;
            lane.exists = true;
        }
        let window = remote.window();
        let mut batch = batch::next(&lane.queue, window, lane.last_ms, lane.most);
        let count = batch.times_ms.len();
        if lane.squeezed {
            batch.times_ms.fill(window.now_ms);
            batch.adjusted = count as u64;
        }
        let messages = lane.queue.iter().map(|event| event.message.clone());
        let events = batch.times_ms.iter().copied().zip(messages).collect();
        let whole = match remote.aws.put_events(stop, &remote.group, &lane.name, events) {
            Err(failure) if failure.kind == Kind::Exists => true,
            other => other?,
        };
        let counters = &remote.aws.counters;
        if !whole {
            // The indices in the answer are not to be relied on, so all go again, and readers drop doubles.
            counters.rejected.add(count as u64);
            if lane.squeezed {
                return Err(Failure::new(
                    Kind::Busy,
                    "rejected",
                    "CloudWatch rejects events with the time of now",
                ));
            }
            lane.squeezed = true;
            return Ok(());
        }
        counters.events.add(count as u64);
        counters.bytes.add(batch.bytes as u64);
        counters.times_adjusted.add(batch.adjusted);
        if let Some(last) = lane.queue.drain(..count).next_back() {
            lane.reached = Reached {
                sequence: last.sequence.max(lane.reached.sequence),
                end: last.offset + last.covers,
            };
        }
        lane.last_ms = batch.times_ms.last().copied().unwrap_or(lane.last_ms);
        lane.squeezed = false;
        lane.most = remote.batch_size();
        Ok(())
    }

    /// Prepares the next attempt after a failed one.
    fn recover(
        &mut self,
        place: usize,
        failure: Failure,
        attempts: &mut Attempts,
        stop: &Stop,
    ) -> Result<(), CloudError> {
        if failure.kind == Kind::Missing {
            // Perhaps the whole group is gone: all is made again where it does not exist.
            self.remote.forget_group();
            let was_there = self.lanes[place].exists;
            self.lanes.iter_mut().for_each(|lane| lane.exists = false);
            if was_there {
                return Ok(());
            }
        }
        let lane = &mut self.lanes[place];
        if failure.kind == Kind::Invalid && lane.exists {
            lane.narrow(&self.remote, &failure);
            return Ok(());
        }
        let action = format!("store output in the log stream {}", lane.name);
        self.remote.pause(&action, failure, attempts, stop)
    }
}

impl Lane {
    /// Looks for the event that AWS refuses: half as many in the next request, and a gap in the place of a single one.
    fn narrow(&mut self, remote: &Remote, failure: &Failure) {
        let window = remote.window();
        let count = batch::next(&self.queue, window, self.last_ms, self.most).times_ms.len();
        if count > 1 {
            self.most = count / 2;
            remote.aws.counters.split.add(1);
            return;
        }
        let Some(event) = self.queue.pop_front() else { return };
        if event.refused {
            return;
        }
        limited!(
            Level::Error,
            "CloudWatch refuses a piece of output, a gap takes its place",
            stream = self.name,
            sequence = event.sequence,
            bytes = event.covers,
            reason = failure,
        );
        remote.aws.counters.lost_bytes.add(event.covers);
        self.queue.push_front(event.refuse());
    }
}
