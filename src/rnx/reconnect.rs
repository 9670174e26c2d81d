//! A server that goes away while rnx follows a job. Its jobs keep running without it, so rnx reconnects: it repeats
//! the request as soon as a server answers. gRPC does the retries of the connection.

use std::time::{Duration, Instant};

use grpcio::CallOption;

use super::error::{Error, Result};
use super::out::Out;
use super::server::Server;
use super::terminal::one_line;
use super::wait_note::WaitNote;
use crate::pb::joblet::{
    DataChunk, GetJobLogsReq, GetJobStatusReq, GetJobStatusRes, JobMetricsRequest, JobMetricsSample,
};
use crate::pb::joblet_grpc::JobServiceClient;

/// How long a server may take to come back: an upgrade with room to spare.
const LONGEST: Duration = Duration::from_secs(60);
/// A call that fails sooner than this counts as one that the server did not serve.
const SHORT: Duration = Duration::from_secs(1);
/// Number of such calls in a row after which rnx gives up.
const TRIES: u32 = 5;
/// The beginning of a server's answer that what it needs is away, and not itself.
const HISTORY: &str = "history cannot be read";
/// Number of such answers, without any progress between them, after which rnx gives up.
const ANSWERS: u32 = 2;

/// Follows one job or several across losses of the server.
pub(crate) struct Watch {
    server: &'static Server,
    asked: Instant,
    broken: u32,
    /// Such answers in a row.
    refused: u32,
}

impl Watch {
    /// A watch that begins now.
    pub(crate) fn new(server: &'static Server) -> Self {
        Watch { server, asked: Instant::now(), broken: 0, refused: 0 }
    }

    /// Handles a failed call: if the server went away, waits until it is back and returns the job's status. Any
    /// other failure, and a server that stays away longer than `most` or [`LONGEST`], is returned. So is the second answer
    /// in a row that history cannot be read: the server is there, and what it needs is away.
    pub(crate) fn lost(&mut self, uuid: &str, why: Error, most: Option<Duration>) -> Result<GetJobStatusRes> {
        let request = GetJobStatusReq { uuid: uuid.into(), ..Default::default() };
        self.back(why, most, |jobs, option| jobs.get_job_status_opt(&request, option))
    }

    /// The same with another question to the server that is back.
    pub(crate) fn back<T>(
        &mut self,
        why: Error,
        most: Option<Duration>,
        question: impl Fn(&JobServiceClient, CallOption) -> grpcio::Result<T>,
    ) -> Result<T> {
        self.broken = if self.asked.elapsed() < SHORT { self.broken + 1 } else { 1 };
        let lacks_history = why.is_call_with(HISTORY);
        self.refused = if lacks_history { self.refused + 1 } else { 0 };
        if !why.is_unreachable() || self.broken > TRIES || self.refused >= ANSWERS {
            return Err(why);
        }
        let note = Out { json: false, colour: false };
        let (address, why) = (self.server.address(), one_line(&why.to_string()));
        note.note(&match lacks_history {
            true => format!("rnx: {why}; trying once more"),
            false => format!("rnx: lost the server at {address} ({why}); waiting for it to come back"),
        });
        let bound = most.map_or(LONGEST, |most| most.min(LONGEST));
        let until = Instant::now() + bound;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let answer = self.server.ask_when_there(left, &question);
            match answer {
                // The server that came back has gone again before it answered.
                Err(e) if e.is_unreachable() && self.broken < TRIES && Instant::now() < until => {
                    self.broken += 1;
                }
                answer => {
                    self.asked = Instant::now();
                    return answer;
                }
            }
        }
    }

    /// The job's status, also from a server that came back.
    pub(crate) fn status(&mut self, uuid: &str, deadline: Duration) -> Result<GetJobStatusRes> {
        let request = GetJobStatusReq { uuid: uuid.into(), ..Default::default() };
        let answer = self.server.ask(deadline, |jobs, option| jobs.get_job_status_opt(&request, option));
        answer.or_else(|e| self.lost(uuid, e, None))
    }

    /// Waits for the end of a job without a byte of its output.
    pub(crate) fn end(&mut self, uuid: &str) -> Result<()> {
        while let Err(e) = self.server.first_end(&[uuid], None) {
            self.lost(uuid, e, None)?;
        }
        Ok(())
    }

    /// Passes the wanted part of a job's output to `each`, to the end of the job.
    ///
    /// After a reconnect the request begins behind the last chunk: a chunk that was sent is in the job's spool
    /// with its number, whatever happened to the daemon.
    pub(crate) fn output(
        &mut self,
        wanted: &GetJobLogsReq,
        mut each: impl FnMut(&DataChunk) -> Result<()>,
    ) -> Result<()> {
        let mut wanted = wanted.clone();
        let mut waits = WaitNote::new(&wanted.uuid);
        loop {
            let mut place = Position::default();
            let refused = &mut self.refused;
            let ended = self.server.output(&wanted, |chunk| {
                place.advance(chunk);
                *refused = 0;
                waits.chunk(chunk);
                if is_empty(chunk) { Ok(()) } else { each(chunk) }
            });
            let Err(e) = ended else { return Ok(()) };
            if place.is_unknown {
                return Err(e);
            }
            self.lost(&wanted.uuid, e, None)?;
            place.resume(&mut wanted);
        }
    }

    /// Passes the wanted samples of a job to `each`, to the end of the job. Aggregated samples end with the loss of
    /// the server: the next one begins its intervals elsewhere.
    pub(crate) fn samples(
        &mut self,
        wanted: &JobMetricsRequest,
        mut each: impl FnMut(&JobMetricsSample) -> Result<()>,
    ) -> Result<()> {
        let (mut wanted, mut second, mut skip) = (wanted.clone(), SamplePosition::default(), 0);
        loop {
            let refused = &mut self.refused;
            let ended = self.server.samples(&wanted, |sample| {
                if skip > 0 {
                    skip -= 1;
                    return Ok(());
                }
                second.advance(sample);
                *refused = 0;
                each(sample)
            });
            let Err(e) = ended else { return Ok(()) };
            if !wanted.aggregate.is_empty() {
                return Err(e);
            }
            self.lost(&wanted.uuid, e, None)?;
            skip = second.resume(&mut wanted);
        }
    }
}

/// The position in the samples. Their times are whole seconds, and one second may have several samples.
#[derive(Default)]
pub(crate) struct SamplePosition {
    timestamp: i64,
    seen: usize,
}

impl SamplePosition {
    /// Moves behind a sample.
    pub(crate) fn advance(&mut self, sample: &JobMetricsSample) {
        let same = sample.timestamp == self.timestamp;
        *self = SamplePosition { timestamp: sample.timestamp, seen: if same { self.seen + 1 } else { 1 } };
    }

    /// The position as text: the second, and how many of its samples were seen.
    pub(crate) fn id(&self) -> String {
        format!("{}.{}", self.timestamp, self.seen)
    }

    /// The position that a text names.
    pub(crate) fn parse(id: &str) -> Option<Self> {
        let (timestamp, seen) = id.split_once('.')?;
        Some(SamplePosition { timestamp: timestamp.parse().ok()?, seen: seen.parse().ok()? })
    }

    /// Sets the request for the rest, and returns how many of its first samples were seen.
    pub(crate) fn resume(&self, wanted: &mut JobMetricsRequest) -> usize {
        if self.seen > 0 {
            wanted.since_ns = wanted.since_ns.max(self.timestamp.saturating_mul(1_000_000_000));
        }
        self.seen
    }
}

/// The position in the output.
#[derive(Default)]
struct Position {
    rows: Option<u64>,
    /// The server is of an older version and sends no sequence numbers.
    is_unknown: bool,
}

impl Position {
    fn advance(&mut self, chunk: &DataChunk) {
        self.rows = Some(chunk.seq);
        self.is_unknown |= chunk.seq == 0 && !is_empty(chunk);
    }

    /// Sets the request for the rest. The tail was counted from the output that was there at first.
    fn resume(&self, wanted: &mut GetJobLogsReq) {
        if let Some(rows) = self.rows {
            wanted.from_seq = wanted.from_seq.max(rows + 1);
            wanted.tail = None;
        }
    }
}

/// Whether a chunk only marks a position in the output and has nothing to show.
fn is_empty(chunk: &DataChunk) -> bool {
    chunk.payload.is_empty() && chunk.lost_bytes == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconnect_resumes_after_the_last_chunk_without_a_new_tail() {
        let chunk = |seq, payload: &str| DataChunk { seq, payload: payload.into(), ..Default::default() };
        let first = GetJobLogsReq { tail: Some(3), filter: "x".into(), from_seq: 5, ..Default::default() };
        let asked = |chunks: &[DataChunk]| {
            let (mut place, mut wanted) = (Position::default(), first.clone());
            chunks.iter().for_each(|chunk| place.advance(chunk));
            place.resume(&mut wanted);
            (wanted.from_seq, wanted.tail, wanted.filter, place.is_unknown)
        };
        assert_eq!(asked(&[]), (5, Some(3), "x".into(), false), "nothing was heard: the same again");
        assert_eq!(asked(&[chunk(7, "a"), chunk(9, "b")]), (10, None, "x".into(), false));
        assert_eq!(asked(&[chunk(8, "")]), (9, None, "x".into(), false));
        assert_eq!(asked(&[chunk(0, "")]), (5, None, "x".into(), false), "there was no output at all");
        assert!(asked(&[chunk(0, "a")]).3);
    }
}
