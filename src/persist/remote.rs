//! The seam to a store that is not on this host.
//!
//! The program hands in how such a store is opened ([`OpenRemote`]), so that the library needs nothing of what it is made
//! of. The files of this host stay what readers read: they are a cache, whose old jobs go when it is full and come back
//! with a fetch.

use std::fmt;
use std::sync::Arc;

use super::store::LocalStore;
use crate::config::daemon::DaemonConfig;
use crate::job::JobId;
use crate::output::spool::Row;

/// Opens the store that the configuration names, or says in words why it cannot.
pub type OpenRemote = fn(&DaemonConfig) -> Result<Arc<dyn RemoteStore>, String>;

/// One row of output with its bytes; those of a gap are empty.
pub type RemoteRow = (Row, Vec<u8>);

/// A store of history beyond this host. Calls block for minutes at most, and end early after [`RemoteStore::stop`].
/// Failures are words for the log and for clients, without secrets.
pub trait RemoteStore: fmt::Debug + Send + Sync {
    /// The way of a job into the store.
    ///
    /// # Errors
    /// It cannot be opened.
    fn job(&self, id: JobId) -> Result<Box<dyn RemoteJob>, String>;

    /// Deletes what the store can delete of a job. May be repeated.
    ///
    /// # Errors
    /// It cannot be deleted now.
    fn delete(&self, id: JobId) -> Result<(), String>;

    /// Copies a job into the local store, its samples between two times (ns since the epoch). Returns whether the store
    /// has anything of it. May be repeated.
    ///
    /// # Errors
    /// The store cannot be reached, or a file cannot be written.
    fn fetch(&self, id: JobId, local: &LocalStore, times_ns: (i64, i64)) -> Result<bool, String>;

    /// Forgets what was noted here of jobs that are long over.
    ///
    /// # Errors
    /// The notes cannot be read.
    fn expire(&self, is_known: &dyn Fn(JobId) -> bool) -> Result<(), String>;

    /// Ends calls that are under way, and later ones at once.
    fn stop(&self);

    /// The numbers of this moment.
    fn figures(&self) -> RemoteFigures;
}

/// The work of a remote store in numbers; all count from the start of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoteFigures {
    /// Requests that were sent.
    pub requests: u64,
    /// Requests that failed and were sent again.
    pub retries: u64,
    /// Requests that were refused because there were too many.
    pub throttled: u64,
    /// Rows of output that were accepted.
    pub events: u64,
    /// Bytes of these as the store bills them.
    pub bytes: u64,
    /// Data of metrics that were accepted.
    pub data: u64,
    /// Rows that were rejected for their time and sent again.
    pub rejected: u64,
    /// Requests that were cut in two to find what the store refuses.
    pub split: u64,
    /// Bytes of output that were refused for good; their place holds a gap.
    pub lost_bytes: u64,
    /// Samples that were refused for good, or are too old.
    pub lost_samples: u64,
    /// Rows that carry another time than their bytes because the true one would have been rejected.
    pub times_adjusted: u64,
}

impl RemoteFigures {
    /// All numbers with their names.
    pub fn named(&self) -> [(&'static str, u64); 11] {
        [
            ("remote_requests", self.requests),
            ("remote_retries", self.retries),
            ("remote_throttled", self.throttled),
            ("remote_events", self.events),
            ("remote_bytes", self.bytes),
            ("remote_data", self.data),
            ("remote_rejected", self.rejected),
            ("remote_split", self.split),
            ("remote_lost_bytes", self.lost_bytes),
            ("remote_lost_samples", self.lost_samples),
            ("remote_times_adjusted", self.times_adjusted),
        ]
    }
}

/// The way of one job into a remote store.
pub trait RemoteJob: fmt::Debug + Send {
    /// The last sequence up to which all rows are accepted, and the number of samples that are.
    fn accepted(&self) -> (u64, u64);

    /// Sends rows in the order of their sequences. Those that are accepted already are skipped.
    ///
    /// # Errors
    /// Not all were accepted. The call may be repeated.
    fn put(&mut self, rows: &[RemoteRow]) -> Result<(), String>;

    /// Sends lines of samples, the first of which has the number `first`. The store may leave the last ones until
    /// `is_last`, and gets them again.
    ///
    /// # Errors
    /// As for [`RemoteJob::put`].
    fn put_samples(&mut self, first: u64, lines: &[Vec<u8>], is_last: bool) -> Result<(), String>;
}
