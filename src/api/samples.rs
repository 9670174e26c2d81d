//! A job's samples as a stream of messages.

use grpcio::{RpcStatus, RpcStatusCode};

use super::status;
use super::streams::JobSource;
use crate::daemon::command::{CommandError, SampleSource};
use crate::diag::{Level, limited};
use crate::job::JobId;
use crate::metrics::{MetricsError, SampleQuery, SampleStream};
use crate::pb::joblet::{JobMetricsEvent, JobMetricsSample};
use crate::persist::query as sample;

/// The samples of a job that a client wants, from the first one on. A range that ends before `now_ns` waits for none.
pub(super) fn stream(
    source: SampleSource,
    query: SampleQuery,
    now_ns: i64,
) -> JobSource<SampleStream, JobMetricsSample> {
    JobSource {
        job: source.id,
        source: open(source, query, now_ns),
        message: |job, sample| sample::message(job, &sample),
        failure: unreadable,
    }
}

/// All samples of a job in short, from the first one to its end.
pub(super) fn events(source: SampleSource, now_ns: i64) -> JobSource<SampleStream, JobMetricsEvent> {
    JobSource {
        job: source.id,
        source: open(source, SampleQuery::default(), now_ns),
        message: |job, sample| sample::event(job, &sample),
        failure: unreadable,
    }
}

fn open(source: SampleSource, query: SampleQuery, now_ns: i64) -> SampleStream {
    let stream = SampleStream::new(source.dir, source.history, source.watermark, query, now_ns);
    if source.is_known { stream } else { stream.must_exist() }
}

/// The end of a stream whose samples cannot be read. A job that nothing is known of is no failure of this node.
fn unreadable(job: JobId, why: &MetricsError) -> RpcStatus {
    if let MetricsError::Read { source, .. } = why
        && source.kind() == std::io::ErrorKind::NotFound
    {
        return status::of_command(&CommandError::NotFound(job.to_string()));
    }
    limited!(Level::Error, "cannot read a job's samples", jobId = job, error = why);
    status::new(RpcStatusCode::INTERNAL, &format!("failed to stream metrics: {why}"))
}

#[cfg(test)]
#[path = "samples_tests.rs"]
mod tests;
