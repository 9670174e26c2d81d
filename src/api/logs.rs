//! A job's output as a stream of messages.

use grpcio::{RpcStatus, RpcStatusCode};

use super::convert::reply;
use super::status;
use super::streams::JobSource;
use crate::daemon::command::{CommandError, LogSource};
use crate::diag::{Level, limited};
use crate::job::JobId;
use crate::output::{LogQuery, LogStream, OutputError};
use crate::pb::joblet::DataChunk;

/// The part of a job's output that a client wants, from its beginning.
pub(super) fn stream(source: LogSource, query: LogQuery) -> JobSource<LogStream, DataChunk> {
    let stream = LogStream::new(source.dir, source.history, source.watermark, query);
    JobSource {
        job: source.id,
        source: if source.is_known { stream } else { stream.must_exist() },
        message: |_, item| reply::log_item(item),
        failure: unreadable,
    }
}

/// The end of a stream whose spool cannot be read. A spool that was deleted meanwhile is no failure of this node.
fn unreadable(job: JobId, why: &OutputError) -> RpcStatus {
    if let OutputError::Read { source, .. } = why
        && source.kind() == std::io::ErrorKind::NotFound
    {
        return status::of_command(&CommandError::NotFound(job.to_string()));
    }
    limited!(Level::Error, "cannot read a job's output", jobId = job, error = why);
    status::new(RpcStatusCode::INTERNAL, &why.to_string())
}
