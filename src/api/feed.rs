//! What the [`pump`](super::pump) can feed a stream from: something that is told of by a [`Progress`].

use std::sync::Arc;

use grpcio::{RpcStatus, RpcStatusCode};

use super::convert::reply;
use super::status;
use crate::daemon::commands::{CommandError, LogSource};
use crate::diag::{Level, limited};
use crate::job::JobId;
use crate::output::{OutputError, Progress, SpoolReader};
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

    /// Tells of news.
    fn progress(&self) -> &Arc<Progress>;

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

/// A job's output from its first byte on.
pub(super) struct LogFeed {
    source: LogSource,
    /// Opened with the first row: before it the spool may not exist.
    reader: Option<SpoolReader>,
}

impl LogFeed {
    /// At the first row.
    pub(super) fn new(source: LogSource) -> Self {
        LogFeed { source, reader: None }
    }

    fn read(&mut self, rows: u64) -> Result<Option<DataChunk>, OutputError> {
        if rows == 0 {
            return Ok(None);
        }
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => self.reader.insert(SpoolReader::open(&self.source.dir)?),
        };
        Ok(reader.next(rows)?.map(reply::chunk))
    }
}

impl Feed for LogFeed {
    type Message = DataChunk;
    const KIND: Kind = Kind::Output;

    fn id(&self) -> JobId {
        self.source.id
    }

    fn progress(&self) -> &Arc<Progress> {
        &self.source.progress
    }

    fn next(&mut self) -> Result<Fed<DataChunk>, RpcStatus> {
        let (rows, ended) = self.source.progress.look();
        match self.read(rows) {
            Ok(Some(chunk)) => Ok(Fed::Message(chunk)),
            // The end was looked at before the rows, so these are all.
            Ok(None) if ended => Ok(Fed::End),
            Ok(None) => Ok(Fed::Dry),
            Err(why) => Err(unreadable(self.source.id, &why)),
        }
    }
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
