//! A server that goes away while a job is watched. Its jobs go on without it, so the watch goes on with its
//! successor: what was being asked is asked again as soon as somebody answers. gRPC does the knocking.

use std::time::{Duration, Instant};

use super::error::Result;
use super::out::Out;
use super::server::Server;
use super::terminal::one_line;
use crate::pb::joblet::{DataChunk, GetJobStatusReq, GetJobStatusRes};

/// How long a server may take to come back: an upgrade with room to spare.
const LONGEST: Duration = Duration::from_secs(60);
/// A call that breaks sooner than this was hardly served.
const SHORT: Duration = Duration::from_secs(1);
/// After so many of those in a row there is no use in asking again.
const TRIES: u32 = 5;

/// The watch over one job or several, from loss to loss.
pub(crate) struct Watch {
    server: &'static Server,
    asked: Instant,
    broken: u32,
}

impl Watch {
    /// Begins now.
    pub(crate) fn new(server: &'static Server) -> Self {
        Watch { server, asked: Instant::now(), broken: 0 }
    }

    /// A call has failed: if the server went away, waits until it is back and tells how the job is; any
    /// other failure, and an absence longer than `most` or a minute, is the caller's.
    pub(crate) fn lost(
        &mut self,
        uuid: &str,
        why: super::error::Error,
        most: Option<Duration>,
    ) -> Result<GetJobStatusRes> {
        self.broken = if self.asked.elapsed() < SHORT { self.broken + 1 } else { 1 };
        if !why.is_absence() || self.broken > TRIES {
            return Err(why);
        }
        let note = Out { json: false, colour: false };
        let (address, why) = (self.server.address(), one_line(&why.to_string()));
        note.note(&format!("rnx: lost the server at {address} ({why}); waiting for it to come back"));
        let bound = most.map_or(LONGEST, |most| most.min(LONGEST));
        let request = GetJobStatusReq { uuid: uuid.into(), ..Default::default() };
        let job =
            self.server.ask_when_there(bound, |jobs, option| jobs.get_job_status_opt(&request, option))?;
        self.asked = Instant::now();
        Ok(job)
    }

    /// How the job is, from whoever answers.
    pub(crate) fn status(&mut self, uuid: &str, deadline: Duration) -> Result<GetJobStatusRes> {
        let request = GetJobStatusReq { uuid: uuid.into(), ..Default::default() };
        let answer = self.server.ask(deadline, |jobs, option| jobs.get_job_status_opt(&request, option));
        answer.or_else(|e| self.lost(uuid, e, None))
    }

    /// Hands every byte of a job's output to `each` once, from the first on, to the end of the job.
    ///
    /// A successor is asked for everything again, and what was seen of each stream is passed over. Going on
    /// behind the last chunk by its number would be wrong: of what the dead server had just read, the
    /// successor makes chunks of its own.
    pub(crate) fn output(
        &mut self,
        uuid: &str,
        mut each: impl FnMut(&DataChunk) -> Result<()>,
    ) -> Result<()> {
        let mut seen = Bytes::default();
        loop {
            let (mut again, server) = (seen, self.server);
            let ended = server.output(uuid, |chunk| match again.pass(chunk) {
                Passed::All => Ok(()),
                Passed::Nothing => {
                    seen.add(chunk);
                    each(chunk)
                }
                Passed::Start(rest) => {
                    seen.add(&rest);
                    each(&rest)
                }
            });
            let Err(e) = ended else { return Ok(()) };
            self.lost(uuid, e, None)?;
        }
    }
}

/// Bytes of each stream; those that were lost count like those that came.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Bytes([u64; 3]);

/// What of a chunk was seen before.
#[derive(Debug, PartialEq)]
enum Passed {
    All,
    Nothing,
    /// The beginning; this is the rest.
    Start(DataChunk),
}

impl Bytes {
    fn of(&mut self, chunk: &DataChunk) -> &mut u64 {
        let last = self.0.len() - 1;
        &mut self.0[usize::try_from(chunk.stream.value()).unwrap_or(0).min(last)]
    }

    fn add(&mut self, chunk: &DataChunk) {
        *self.of(chunk) += chunk.lost_bytes + chunk.payload.len() as u64;
    }

    /// Takes a chunk's bytes off those that are to be passed over.
    fn pass(&mut self, chunk: &DataChunk) -> Passed {
        let left = self.of(chunk);
        let all = chunk.lost_bytes + chunk.payload.len() as u64;
        if *left == 0 {
            return Passed::Nothing;
        }
        if *left >= all {
            *left -= all;
            return Passed::All;
        }
        let mut rest = chunk.clone();
        rest.lost_bytes = chunk.lost_bytes.saturating_sub(*left);
        let cut = left.saturating_sub(chunk.lost_bytes);
        // Less than the payload has, because `left` is less than all.
        rest.payload.drain(..usize::try_from(cut).unwrap_or(usize::MAX).min(chunk.payload.len()));
        *left = 0;
        Passed::Start(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunk(stream: usize, lost: u64, payload: &[u8]) -> DataChunk {
        use crate::pb::joblet::OutputStream::*;
        let streams = [OUTPUT_STREAM_UNSPECIFIED, OUTPUT_STREAM_STDOUT, OUTPUT_STREAM_STDERR];
        DataChunk {
            stream: streams[stream].into(),
            lost_bytes: lost,
            payload: payload.to_vec(),
            ..Default::default()
        }
    }

    #[test]
    fn what_was_seen_is_passed_over_and_gaps_count() {
        let mut seen = Bytes::default();
        seen.add(&chunk(1, 0, b"abc"));
        seen.add(&chunk(1, 4, b"d"));
        seen.add(&chunk(2, 0, b"x"));
        let mut again = seen;
        assert_eq!(again.pass(&chunk(1, 0, b"ab")), Passed::All);
        assert_eq!(again.pass(&chunk(2, 0, b"xy")), Passed::Start(chunk(2, 0, b"y")));
        assert_eq!(again.pass(&chunk(1, 0, b"c")), Passed::All);
        assert_eq!(again.pass(&chunk(1, 6, b"ef")), Passed::Start(chunk(1, 1, b"ef")));
        assert_eq!(again.pass(&chunk(1, 0, b"g")), Passed::Nothing);
    }

    /// One stream's bytes cut into chunks.
    fn cuts() -> impl Strategy<Value = Vec<usize>> {
        prop::collection::vec(1usize..9, 1..20)
    }

    proptest! {
        #[test]
        fn however_chunks_are_cut_anew_every_byte_comes_once(first in cuts(), second in cuts(), until in 0usize..20) {
            let total: usize = first.iter().sum::<usize>().max(second.iter().sum());
            let bytes: Vec<u8> = (0..total).map(|n| n as u8).collect();
            let chunks = |cuts: &[usize]| {
                let mut rest = &bytes[..];
                let mut all = Vec::new();
                for cut in cuts.iter().copied().chain([total]) {
                    let (one, more) = rest.split_at(cut.min(rest.len()));
                    all.push(chunk(1, 0, one));
                    rest = more;
                }
                all
            };
            let (mut seen, mut got) = (Bytes::default(), Vec::new());
            for chunk in chunks(&first).iter().take(until) {
                seen.add(chunk);
                got.extend_from_slice(&chunk.payload);
            }
            let mut again = seen;
            for chunk in chunks(&second) {
                match again.pass(&chunk) {
                    Passed::All => {}
                    Passed::Nothing => got.extend_from_slice(&chunk.payload),
                    Passed::Start(rest) => got.extend_from_slice(&rest.payload),
                }
            }
            prop_assert_eq!(got, bytes);
        }
    }
}
