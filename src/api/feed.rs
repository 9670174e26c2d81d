//! What the [`pump`](super::pump) can feed a stream from: something that is told of by a [`Watermark`].

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use grpcio::{RpcStatus, RpcStatusCode};

use super::convert::reply;
use super::status;
use crate::daemon::command::{CommandError, LogSource};
use crate::diag::{Level, limited};
use crate::job::JobId;
use crate::output::{LogCursor, LogQuery, OutputError, Seen, Watermark};
use crate::pb::joblet::DataChunk;

/// Kinds of streams; a job has news of each by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// What a job wrote.
    Output,
    /// What was measured of it.
    Samples,
}

/// A cursor into what a job leaves, while it grows or afterwards.
pub(super) trait Feed: Send + 'static {
    /// What goes to the client.
    type Message: Send + 'static;
    /// Which news it waits for.
    const KIND: Kind;

    /// Whose.
    fn id(&self) -> JobId;

    /// Notifiers of news.
    fn watermark(&self) -> &Arc<Watermark>;

    /// When it is to be asked again although there are no news.
    fn until(&self) -> Option<SystemTime> {
        None
    }

    /// What comes next. Blocks on the disk at worst.
    ///
    /// # Errors
    /// The stream's end, where it cannot be read.
    fn next(&mut self) -> Result<Fed<Self::Message>, RpcStatus>;
}

/// What a feed has.
pub(super) enum Fed<M> {
    /// The next message.
    Message(M),
    /// Nothing yet of what was read: it is to be asked again.
    Again,
    /// Nothing until there are news.
    Dry,
    /// Nothing any more.
    End,
}

/// The part of a job's output that a client wants.
pub(super) struct LogFeed {
    source: LogSource,
    view: LogCursor,
}

impl LogFeed {
    /// At its beginning.
    pub(super) fn new(source: LogSource, query: LogQuery) -> Self {
        let view = LogCursor::new(source.dir.clone(), query);
        LogFeed { source, view }
    }
}

impl Feed for LogFeed {
    type Message = DataChunk;
    const KIND: Kind = Kind::Output;

    fn id(&self) -> JobId {
        self.source.id
    }

    fn watermark(&self) -> &Arc<Watermark> {
        &self.source.watermark
    }

    fn until(&self) -> Option<SystemTime> {
        let after = self.view.until_ns()?.saturating_add(1);
        Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(after).unwrap_or(0)))
    }

    fn next(&mut self) -> Result<Fed<DataChunk>, RpcStatus> {
        // The end is looked at before the rows, so these are all.
        let (rows, ended) = self.source.watermark.look();
        match self.view.next(rows, ended, now_ns()) {
            Ok(Seen::Chunk(chunk)) => Ok(Fed::Message(reply::chunk(chunk))),
            Ok(Seen::Nothing) => Ok(Fed::Dry),
            Ok(Seen::Later) => Ok(Fed::Again),
            Ok(Seen::End) => Ok(Fed::End),
            Err(why) => Err(unreadable(self.source.id, &why)),
        }
    }
}

fn now_ns() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos() as i64)
}

/// The end of a stream whose spool cannot be read. One that was deleted meanwhile is no trouble of the node's.
fn unreadable(job: JobId, why: &OutputError) -> RpcStatus {
    if let OutputError::Read { source, .. } = why
        && source.kind() == std::io::ErrorKind::NotFound
    {
        return status::of_command(&CommandError::NotFound(job.to_string()));
    }
    limited!(Level::Error, "cannot read a job's output", jobId = job, error = why);
    status::new(RpcStatusCode::INTERNAL, &why.to_string())
}
