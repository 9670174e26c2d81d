//! The samples of a complete job that another store keeps.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::series::parse;
use super::{MetricsError, Sample};
use crate::job::JobId;

/// The lines of a job's `metrics.jsonl` that another store keeps, by their number.
pub trait SampleHistory: fmt::Debug + Send {
    /// The number of lines that are there.
    ///
    /// # Errors
    /// The file that could not be read.
    fn lines(&mut self) -> Result<u64, MetricsError>;

    /// The line with this number, from 1, without its line break. `None`: it is not there (files removed by hand, damage),
    /// and the reader goes on with the next one.
    ///
    /// # Errors
    /// The file that could not be read.
    fn line(&mut self, number: u64) -> Result<Option<Vec<u8>>, MetricsError>;
}

/// Opens the samples of a job; `None`: the store has none.
pub type OpenSamples =
    Arc<dyn Fn(JobId) -> Result<Option<Box<dyn SampleHistory>>, MetricsError> + Send + Sync>;

/// Lines that are tried in one step of a reader where lines are missing.
const STEP: u64 = 256;

/// The samples of one job in the other store.
#[derive(Clone)]
pub struct JobSamples {
    /// The id of the job.
    pub id: JobId,
    /// Opens its samples.
    pub open: OpenSamples,
}

impl fmt::Debug for JobSamples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobSamples({})", self.id)
    }
}

/// A cursor into the samples of a complete job.
#[derive(Debug)]
pub(super) struct StoredReader {
    samples: Box<dyn SampleHistory>,
    next: u64,
    lines: u64,
}

/// The result of one step.
#[derive(Debug)]
pub(super) enum Step {
    /// The next sample.
    Sample(Box<Sample>),
    /// Lines are missing here; there may be more behind them.
    Missing,
    /// There are no more.
    End,
}

impl StoredReader {
    /// Opens the samples of a job; `None` where the store has nothing of it.
    pub(super) fn open(job: &JobSamples) -> Result<Option<StoredReader>, MetricsError> {
        let Some(mut samples) = (job.open)(job.id)? else { return Ok(None) };
        let lines = samples.lines()?;
        Ok(Some(StoredReader { samples, next: 1, lines }))
    }

    /// The next sample.
    pub(super) fn step(&mut self) -> Result<Step, MetricsError> {
        for _ in 0..STEP {
            if self.next > self.lines {
                return Ok(Step::End);
            }
            let line = self.samples.line(self.next)?;
            self.next += 1;
            if let Some(line) = line {
                return parse(&line, Path::new("the history")).map(|sample| Step::Sample(Box::new(sample)));
            }
        }
        Ok(Step::Missing)
    }
}
