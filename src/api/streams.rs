//! Jobs' output and samples as streams of messages: what the pump moves for the API.
//!
//! The pump knows neither messages nor certificates. Here a job's source gets the protocol's form ([`JobSource`]), and
//! its client's certificate is checked for as long as the stream lasts.

use std::sync::Arc;
use std::time::SystemTime;

use grpcio::{RpcStatus, RpcStatusCode};

use super::access::Peer;
use super::{ApiError, StreamPump, status};
use crate::daemon::command::CommandError;
use crate::diag::{Level, event};
use crate::job::JobId;
use crate::stream::{Client, Next, OpenError, Source, StreamReader, Watermark};

/// Starts the thread that feeds all streams.
///
/// # Errors
/// The system refuses another thread.
pub fn start_pump() -> Result<StreamPump, ApiError> {
    StreamPump::start("log-pump").map_err(ApiError::StartPump)
}

/// A source of one job, whose items and errors are converted for the client.
pub(super) struct JobSource<S: Source, M> {
    pub(super) job: JobId,
    pub(super) source: S,
    pub(super) message: fn(JobId, S::Item) -> M,
    pub(super) failure: fn(JobId, &S::Error) -> RpcStatus,
}

impl<S: Source, M: Send + 'static> Source for JobSource<S, M> {
    type Item = M;
    type Error = RpcStatus;

    fn watermark(&self) -> &Arc<Watermark> {
        self.source.watermark()
    }

    fn wake_at(&self) -> Option<SystemTime> {
        self.source.wake_at()
    }

    fn next(&mut self) -> Result<Next<M>, RpcStatus> {
        match self.source.next() {
            Ok(next) => Ok(next.map(|item| (self.message)(self.job, item))),
            Err(why) => Err((self.failure)(self.job, &why)),
        }
    }
}

/// Opens a stream for a client, which ends when the client's certificate is no longer good. Streams of one client share
/// its turns.
///
/// # Errors
/// Too many streams, or the daemon is shutting down.
pub(super) fn open<S: Source, M: Send + 'static>(
    pump: &StreamPump,
    source: JobSource<S, M>,
    client: Client,
    peer: Peer,
) -> Result<StreamReader<M, RpcStatus>, RpcStatus> {
    let job = source.job;
    let recheck = move || {
        peer.check().inspect_err(|status| {
            event!(Level::Warn, "stream cut", jobId = job, why = status.message());
        })
    };
    pump.open(client, source, Box::new(recheck)).map_err(not_opened)
}

/// The same of a source that is no job's.
///
/// # Errors
/// Too many streams, or the daemon is shutting down.
pub(super) fn open_source<S: Source<Error = RpcStatus>>(
    pump: &StreamPump,
    source: S,
    client: Client,
    peer: Peer,
) -> Result<StreamReader<S::Item, RpcStatus>, RpcStatus> {
    let recheck =
        move || peer.check().inspect_err(|status| event!(Level::Warn, "stream cut", why = status.message()));
    pump.open(client, source, Box::new(recheck)).map_err(not_opened)
}

fn not_opened(why: OpenError) -> RpcStatus {
    match why {
        OpenError::TooMany => status::new(RpcStatusCode::RESOURCE_EXHAUSTED, &why.to_string()),
        OpenError::Closed => gone(),
    }
}

/// The status of a stream that ends because the daemon is shutting down.
pub(super) fn gone() -> RpcStatus {
    status::of_command(&CommandError::ShuttingDown)
}

#[cfg(test)]
#[path = "streams_tests.rs"]
mod tests;
