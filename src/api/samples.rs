//! A job's samples as a stream: what is stored, then what comes, as far as the range goes; or a fold of them.

use std::sync::Arc;

use grpcio::{RpcStatus, RpcStatusCode};

use super::convert::sample;
use super::feed::{Fed, Feed, Kind};
use super::status;
use crate::daemon::command::SampleSource;
use crate::diag::{Level, limited};
use crate::job::JobId;
use crate::metrics::{Fold, How, MetricsError, Sample, SeriesReader};
use crate::output::Watermark;
use crate::pb::joblet::JobMetricsSample;

/// Which samples are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// From this time on, ns since the epoch; 0 for all.
    pub(super) since_ns: i64,
    /// Up to this time.
    pub(super) until_ns: Option<i64>,
    /// Folded so.
    pub(super) how: Option<How>,
    /// Over so many seconds each; `None`: all that there are now become one.
    pub(super) interval_s: Option<u32>,
}

/// A cursor into a job's samples.
pub(super) struct SampleFeed {
    source: SampleSource,
    query: Query,
    fold: Option<Fold>,
    /// Whether it waits for samples that are not stored yet.
    follows: bool,
    /// Opened when there is something to read: a job that never ran has no file.
    reader: Option<SeriesReader>,
    over: bool,
}

impl SampleFeed {
    /// At the first sample. A range that ends before `now_ns` and a fold of everything wait for nothing.
    pub(super) fn new(source: SampleSource, query: Query, now_ns: i64) -> Self {
        let fold = query.how.map(|how| Fold::new(how, query.interval_s));
        let whole = query.how.is_some() && query.interval_s.is_none();
        let follows = !whole && query.until_ns.is_none_or(|until| until > now_ns);
        SampleFeed { source, query, fold, follows, reader: None, over: false }
    }

    fn read(&mut self, bytes: u64) -> Result<Option<Sample>, MetricsError> {
        if self.reader.is_none() && bytes > 0 {
            self.reader = SeriesReader::open(&self.source.dir)?;
        }
        self.reader.as_mut().map_or(Ok(None), |reader| reader.next(bytes))
    }

    fn told(&self, sample: &Sample) -> Fed<JobMetricsSample> {
        Fed::Message(sample::message(self.source.id, sample))
    }

    fn take(&mut self, sample: Sample) -> Fed<JobMetricsSample> {
        let folded = match &mut self.fold {
            _ if sample.time_ns < self.query.since_ns => None,
            _ if self.query.until_ns.is_some_and(|until| sample.time_ns > until) => {
                self.over = true;
                None
            }
            Some(fold) => fold.push(sample),
            None => Some(sample),
        };
        folded.map_or(Fed::Again, |sample| self.told(&sample))
    }
}

impl Feed for SampleFeed {
    type Message = JobMetricsSample;
    const KIND: Kind = Kind::Samples;

    fn id(&self) -> JobId {
        self.source.id
    }

    fn watermark(&self) -> &Arc<Watermark> {
        &self.source.watermark
    }

    fn next(&mut self) -> Result<Fed<JobMetricsSample>, RpcStatus> {
        if self.over {
            let last = self.fold.take().and_then(|mut fold| fold.finish());
            return Ok(last.map_or(Fed::End, |sample| self.told(&sample)));
        }
        let (bytes, ended) = self.source.watermark.look();
        // Of a job that has ended the whole file counts, also of one that ended in the life of an earlier daemon.
        match self.read(if ended { u64::MAX } else { bytes }) {
            Ok(Some(sample)) => Ok(self.take(sample)),
            Ok(None) if self.follows && !ended => Ok(Fed::Dry),
            Ok(None) => {
                self.over = true;
                Ok(Fed::Again)
            }
            Err(why) => {
                limited!(Level::Error, "cannot read a job's samples", jobId = self.source.id, error = why);
                let text = format!("failed to stream metrics: {why}");
                Err(status::new(RpcStatusCode::INTERNAL, &text))
            }
        }
    }
}

#[cfg(test)]
#[path = "samples_tests.rs"]
mod tests;
