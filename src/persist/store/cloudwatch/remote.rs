//! The settings, the connection and the log group that all jobs of the node share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::daemon::persist::CloudWatch;
use crate::diag::{Level, limited};

use super::backoff::{self, Stop};
use super::call::Aws;
use super::error::{CloudError, Failure, Kind};
use super::stamp::Window;

/// Failed requests that one call of the store puts up with: about 25 s of waits.
const ATTEMPTS: u32 = 8;
/// The same where somebody waits for the answer: about 3 s.
const FEW: u32 = 6;

/// How long one call of the store goes on.
#[derive(Debug)]
pub(super) struct Attempts {
    left: u32,
    /// Failed requests in a row, those of earlier calls included.
    pub(super) failures: u32,
    /// Whether to wait for a person to put rights and credentials in order.
    patient: bool,
}

impl Attempts {
    /// For what must not be lost: after so many failures of earlier calls.
    pub(super) fn patient(failures: u32) -> Attempts {
        Attempts { left: ATTEMPTS, failures, patient: true }
    }

    /// For what somebody waits for.
    pub(super) fn few() -> Attempts {
        Attempts { left: FEW, failures: 0, patient: false }
    }
}

/// The node's place in CloudWatch.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) aws: Aws,
    pub(super) config: CloudWatch,
    /// The node's id.
    pub(super) node: String,
    /// The name of the node's log group.
    pub(super) group: String,
    /// The directory of the notes of what was accepted.
    pub(super) notes: PathBuf,
    /// Whether the group is known to exist.
    pub(super) has_group: AtomicBool,
}

impl Remote {
    /// The times that CloudWatch accepts now.
    pub(super) fn window(&self) -> Window {
        Window::at(self.aws.now_ms(), self.config.retention_days().map(i64::from))
    }

    /// Makes the group and a stream in it where they do not exist.
    pub(super) fn make_stream(&self, stream: &str, stop: &Stop) -> Result<(), Failure> {
        if !self.has_group.load(Ordering::Relaxed) {
            self.make_group(stop)?;
            self.has_group.store(true, Ordering::Relaxed);
        }
        there_already(self.aws.create_stream(stop, &self.group, stream))
    }

    fn make_group(&self, stop: &Stop) -> Result<(), Failure> {
        match there_already(self.aws.create_group(stop, &self.group)) {
            // An administrator may have made the group and keep that right; the stream will tell.
            Err(failure) if failure.code.starts_with("AccessDenied") => {
                limited!(
                    Level::Warn,
                    "AWS does not permit to make the log group",
                    group = self.group,
                    reason = failure
                );
            }
            other => other?,
        }
        let Some(days) = self.config.retention_days() else { return Ok(()) };
        match self.aws.put_retention(stop, &self.group, i64::from(days)) {
            Err(failure) if matches!(failure.kind, Kind::Denied | Kind::Invalid) => {
                limited!(
                    Level::Warn,
                    "cannot set the retention of the log group",
                    group = self.group,
                    days = days,
                    reason = failure
                );
                Ok(())
            }
            other => other,
        }
    }

    /// Waits before the next attempt, or fails where there is none.
    pub(super) fn pause(
        &self,
        action: &str,
        failure: Failure,
        attempts: &mut Attempts,
        stop: &Stop,
    ) -> Result<(), CloudError> {
        if failure.kind == Kind::Stopped {
            return Err(CloudError::Stopped);
        }
        attempts.failures = attempts.failures.saturating_add(1);
        attempts.left = attempts.left.saturating_sub(1);
        let hopeless = match failure.kind {
            Kind::Invalid | Kind::Exists => true,
            Kind::Denied | Kind::Missing => !attempts.patient,
            _ => false,
        };
        if attempts.left == 0 || hopeless {
            return Err(CloudError::Request { action: action.to_owned(), failure });
        }
        self.aws.counters.retries.add(1);
        limited!(
            Level::Warn,
            "a request to CloudWatch failed, the next one waits",
            action = action,
            reason = failure,
            failures = attempts.failures,
        );
        if stop.wait(backoff::delay(attempts.failures, backoff::random())) {
            return Err(CloudError::Stopped);
        }
        Ok(())
    }

    /// Sends one request until it succeeds or the attempts are used up.
    pub(super) fn insist<T>(
        &self,
        action: &str,
        attempts: &mut Attempts,
        stop: &Stop,
        mut request: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, CloudError> {
        loop {
            match request() {
                Ok(value) => {
                    attempts.failures = 0;
                    return Ok(value);
                }
                Err(failure) => self.pause(action, failure, attempts, stop)?,
            }
        }
    }

    /// Makes the next request ensure that the group exists.
    pub(super) fn forget_group(&self) {
        self.has_group.store(false, Ordering::Relaxed);
    }

    /// Most events of one request.
    pub(super) fn batch_size(&self) -> usize {
        usize::try_from(self.config.log_batch_size).unwrap_or(usize::MAX)
    }

    /// The dimensions of a job's metrics as pairs.
    pub(super) fn dimensions<'a>(&'a self, job: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let own = [("JobID", job), ("NodeID", self.node.as_str())];
        own.into_iter()
            .chain(self.config.metric_dimensions.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }
}

/// Success where the thing exists already.
fn there_already(result: Result<(), Failure>) -> Result<(), Failure> {
    match result {
        Err(failure) if failure.kind == Kind::Exists => Ok(()),
        other => other,
    }
}
