//! A job's samples as a stream: the stored ones, then those that come, as far as the range goes; or a fold of them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::history::{Step, StoredReader};
use super::{Fold, How, JobSamples, MetricsError, Sample, SeriesReader};
use crate::stream::{Next, Source, Watermark};

/// The samples that a reader wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SampleQuery {
    /// The earliest time of a sample, ns since the epoch; 0 for all.
    pub since_ns: i64,
    /// The latest time of a sample, ns since the epoch.
    pub until_ns: Option<i64>,
    /// Most samples, or folds of them; the stream ends with the last one.
    pub limit: Option<u32>,
    /// How samples are folded into one; `None` for samples as they are.
    pub how: Option<How>,
    /// Seconds that each fold covers; `None` folds all samples that are stored at first into one.
    pub interval_s: Option<u32>,
}

/// A cursor into the place that has a job's samples.
#[derive(Debug)]
enum Reader {
    /// The file in the spool.
    Spool(Box<SeriesReader>),
    /// Another store, which keeps those of a complete job.
    Stored(StoredReader),
}

/// A cursor into a job's samples with the watermark that moves it on. The watermark counts bytes of whole lines.
pub struct SampleStream {
    dir: PathBuf,
    history: Option<JobSamples>,
    watermark: Arc<Watermark>,
    query: SampleQuery,
    fold: Option<Fold>,
    /// Whether it waits for samples that are not stored yet.
    follows: bool,
    /// Opened when there is something to read: a job that never ran has no file.
    reader: Option<Reader>,
    /// Whether it is an error when nothing is known of the job.
    must_exist: bool,
    /// The number of samples that the reader may still get.
    left: u32,
    over: bool,
}

impl SampleStream {
    /// The wanted samples of the spool in `dir`, or of the history, which has those of a complete job. A range that ends before `now_ns` and a fold of all samples wait for
    /// no further ones.
    pub fn new(
        dir: PathBuf,
        history: Option<JobSamples>,
        watermark: Arc<Watermark>,
        query: SampleQuery,
        now_ns: i64,
    ) -> Self {
        let fold = query.how.map(|how| Fold::new(how, query.interval_s));
        let whole = query.how.is_some() && query.interval_s.is_none();
        let follows = !whole && query.until_ns.is_none_or(|until| until > now_ns);
        SampleStream {
            dir,
            history,
            watermark,
            query,
            fold,
            follows,
            reader: None,
            must_exist: false,
            left: query.limit.unwrap_or(u32::MAX),
            over: false,
        }
    }

    /// Makes it an error when neither the spool nor the history knows the job.
    pub fn must_exist(mut self) -> Self {
        self.must_exist = true;
        self
    }

    fn open(&self) -> Result<Option<Reader>, MetricsError> {
        if let Some(reader) = SeriesReader::open(&self.dir)? {
            return Ok(Some(Reader::Spool(Box::new(reader))));
        }
        let stored = self.history.as_ref().map_or(Ok(None), StoredReader::open)?;
        if stored.is_none() && self.must_exist {
            let source = io::ErrorKind::NotFound.into();
            return Err(MetricsError::Read { path: self.dir.clone(), source });
        }
        Ok(stored.map(Reader::Stored))
    }

    fn read(&mut self, bytes: u64) -> Result<Step, MetricsError> {
        if self.reader.is_none() && bytes > 0 {
            self.reader = self.open()?;
        }
        match &mut self.reader {
            None => Ok(Step::End),
            Some(Reader::Spool(spool)) => {
                Ok(spool.next(bytes)?.map_or(Step::End, |sample| Step::Sample(Box::new(sample))))
            }
            Some(Reader::Stored(stored)) => stored.step(),
        }
    }

    /// The next sample or fold, whatever the limit.
    fn advance(&mut self) -> Result<Next<Sample>, MetricsError> {
        if self.over {
            let last = self.fold.take().and_then(|mut fold| fold.finish());
            return Ok(last.map_or(Next::End, Next::Item));
        }
        let (bytes, ended) = self.watermark.look();
        // Once the samples have ended the whole file counts, also that of a job which an earlier daemon finished: its
        // watermark has ended without a byte.
        match self.read(if ended { u64::MAX } else { bytes })? {
            Step::Sample(sample) => Ok(self.take(*sample)),
            Step::Missing => Ok(Next::Yield),
            Step::End if self.follows && !ended => Ok(Next::Pending),
            Step::End => {
                self.over = true;
                Ok(Next::Yield)
            }
        }
    }

    fn take(&mut self, sample: Sample) -> Next<Sample> {
        let folded = match &mut self.fold {
            _ if sample.time_ns < self.query.since_ns => None,
            _ if self.query.until_ns.is_some_and(|until| sample.time_ns > until) => {
                self.over = true;
                None
            }
            Some(fold) => fold.push(sample),
            None => Some(sample),
        };
        folded.map_or(Next::Yield, Next::Item)
    }
}

impl Source for SampleStream {
    type Item = Sample;
    type Error = MetricsError;

    fn watermark(&self) -> &Arc<Watermark> {
        &self.watermark
    }

    fn next(&mut self) -> Result<Next<Sample>, MetricsError> {
        if self.left == 0 {
            return Ok(Next::End);
        }
        let next = self.advance()?;
        // Without a limit the count is not used up by any file that exists.
        self.left -= u32::from(matches!(next, Next::Item(_)));
        Ok(next)
    }
}
