//! History in CloudWatch: output in CloudWatch Logs, nine metrics in CloudWatch.
//!
//! A node has one log group, `<prefix>/<nodeId>/jobs`, and a job two streams in it, `<job>-stdout` and `<job>-stderr`. One
//! event is one row of the spool as JSON ([`event`]), so that readers get the exact bytes and drop what AWS stored twice.
//! Samples become one statistic set a minute and metric ([`datum`]).
//!
//! [`CloudStore`] makes a [`CloudJob`] for each job. Its calls block; they belong on worker threads, one job on one thread
//! at a time. Each puts up with eight failed requests, with jittered waits of up to 30 s, and returns an error then. A
//! local note says what was accepted ([`cursor`]); the caller keeps the rest in the spool and calls again. So an outage of
//! any length loses nothing. [`Stop`] ends each wait at once.
//!
//! Three things can change what is stored, and each is counted ([`RemoteFigures`]): an event whose time AWS would reject
//! carries a later one (the true one is in the message); bytes that AWS refuses for good leave a gap with their number;
//! samples of more than two weeks ago are dropped.
//!
//! # A part of the program, not of the library
//!
//! The async runtime may be in `persist` only. The library is in `joblet` and `rnx` too, and the compiler merges equal
//! functions of one library under any of their names, so theirs would have the runtime's names among their symbols. So
//! this directory is compiled into the root of the program that needs it, `#[path = ".../cloudwatch/mod.rs"] mod
//! cloudwatch;`, beside `use joblet::{config, diag, job, output, persist};`, by which its `crate::` paths lead into the
//! library. Its tests run in `tests/cloudwatch.rs`.
//!
//! # Layers
//!
//! Pure: [`event`], [`stamp`] (times that AWS accepts), [`batch`] (limits of a request), [`datum`], [`error`].
//! Then [`http`] (one client with a bound on every wait; the async runtime stays in that file), the sources of
//! [`credentials`] and [`region`], [`call`] (one signed request each), [`remote`] (attempts, the group), [`job`],
//! [`metrics`], [`fetch`]. Secrets are in signatures only: errors are scrubbed, and `diag` drops the debug lines of rusoto
//! and hyper, which hold signed headers.
//!
//! # Bounds
//!
//! A request has at most 1 MiB and takes at most 20 s; an answer has at most 16 MiB. A [`CloudJob`] holds nothing between
//! calls and about twice its rows during one. A fetch holds 48 bytes an event and at most four million events.

mod backoff;
mod batch;
mod call;
mod counters;
mod credentials;
mod cursor;
mod datum;
mod environment;
mod error;
mod event;
mod face;
mod fetch;
mod http;
mod instance;
mod job;
mod metrics;
mod pages;
mod profile;
mod region;
mod remote;
mod stamp;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::config::daemon::persist::CloudWatch;
use crate::diag::{Level, event as log_event};
use crate::job::JobId;
use crate::output::Stream;
use crate::output::spool::Row;
use crate::persist::remote::RemoteFigures;
use crate::persist::store::LocalStore;

pub use backoff::Stop;
pub use cursor::{Accepted, Reached};
pub use datum::{METRICS, Metric, Statistics};
pub use environment::Environment;
pub use error::{CloudError, Failure, Kind};
pub use face::open_remote;
pub use job::{CloudJob, CloudRow};
pub use metrics::MetricPoint;
pub use pages::Fetched;

use call::Aws;
use credentials::Chain;
use cursor::Cursor;
use http::Http;
use remote::{Attempts, Remote};

/// The directory of the notes below the state directory.
const NOTES: &str = "cloudwatch";

/// The history of all jobs of this node in CloudWatch. Clones share one connection and may be used from several threads.
#[derive(Debug, Clone)]
pub struct CloudStore {
    remote: Arc<Remote>,
}

impl CloudStore {
    /// Opens the store with settings that were checked ([`CloudWatch::check`]): finds the region (up to two seconds where only the instance knows it), and
    /// makes the directory of its notes below `state`. Nothing is sent to CloudWatch.
    ///
    /// # Errors
    /// The directory of the notes or the client cannot be made.
    pub fn open(
        config: CloudWatch,
        node: &str,
        state: &Path,
        environment: &Environment,
    ) -> Result<CloudStore, CloudError> {
        let notes = state.join(NOTES);
        cursor::make_directory(&notes)?;
        let http = Http::new().map_err(CloudError::Client)?;
        let (region, source) = region::find(&config.region, environment, &http);
        let endpoint = match config.endpoint.as_str() {
            "" => environment.get("AWS_ENDPOINT_URL").unwrap_or_default(),
            own => own,
        };
        log_event!(
            Level::Info,
            "history goes to CloudWatch",
            region = region,
            source = source,
            group = config.group(node)
        );
        let aws = Aws::new(http.clone(), Chain::new(http, environment.clone()), &region, endpoint);
        let (group, has_group) = (config.group(node), AtomicBool::new(false));
        let remote = Remote { aws, config, node: node.to_owned(), group, notes, has_group };
        Ok(CloudStore { remote: Arc::new(remote) })
    }

    /// Looks for credentials now; the name of their source. Requests look by themselves.
    ///
    /// # Errors
    /// No source has any; the text says which was tried.
    pub fn credentials(&self) -> Result<&'static str, CloudError> {
        let found = self.remote.aws.credentials();
        found.map(|found| found.source).map_err(|failure| CloudError::Credentials(failure.message))
    }

    /// The way of one job into CloudWatch; how far it came is read from its note.
    ///
    /// # Errors
    /// The note cannot be read or made.
    pub fn job(&self, id: JobId) -> Result<CloudJob, CloudError> {
        Ok(CloudJob::new(self.remote.clone(), id, Cursor::open(&self.remote.notes, id)?))
    }

    /// Deletes both log streams of a job and its note. CloudWatch deletes no metrics; they end after 15 months.
    ///
    /// # Errors
    /// AWS does not permit it, or did not answer. The call may be repeated.
    pub fn delete(&self, id: JobId, stop: &Stop) -> Result<(), CloudError> {
        let remote = &self.remote;
        for stream in [Stream::Stdout, Stream::Stderr] {
            let name = job::stream_name(id, stream);
            let delete = || match remote.aws.delete_stream(stop, &remote.group, &name) {
                Err(failure) if failure.kind == Kind::Missing => Ok(()),
                other => other,
            };
            remote.insist(&format!("delete the log stream {name}"), &mut Attempts::few(), stop, delete)?;
        }
        cursor::remove(&remote.notes, id)
    }

    /// Reads all output of a job and hands its rows over in the order of their sequences. Offsets count the bytes that are
    /// there, and gaps stand for what is lost. Slow by AWS's limits: a few pages of 1 MiB a second for the whole account.
    /// A job without streams has no rows.
    ///
    /// # Errors
    /// AWS did not answer or has more events than one fetch holds, the disk of the state directory is full, or `take`
    /// returned an error.
    pub fn fetch<E: From<CloudError>>(
        &self,
        id: JobId,
        stop: &Stop,
        take: impl FnMut(Row, &[u8]) -> Result<(), E>,
    ) -> Result<Fetched, E> {
        self.remote.fetch(id, stop, take)
    }

    /// Reads all output of a job into a local store, where it is read as any local history. Repeated for a job that goes
    /// on, it adds what is new.
    ///
    /// # Errors
    /// As for [`CloudStore::fetch`], or a local file cannot be written.
    pub fn fetch_into(&self, id: JobId, local: &LocalStore, stop: &Stop) -> Result<Fetched, CloudError> {
        self.remote.fetch_into(id, local, stop)
    }

    /// Reads all nine metrics of a job between two times (s since the epoch), oldest first.
    ///
    /// # Errors
    /// AWS does not permit it, or did not answer.
    pub fn metrics(
        &self,
        id: JobId,
        from_s: i64,
        to_s: i64,
        stop: &Stop,
    ) -> Result<Vec<MetricPoint>, CloudError> {
        self.remote.read_metrics(id, from_s, to_s, stop)
    }

    /// Removes notes that nobody has written for 30 days and whose job is not known; the number of removed ones, at most
    /// 100 a call.
    ///
    /// # Errors
    /// The directory of the notes cannot be read.
    pub fn expire_step(&self, known: &dyn Fn(JobId) -> bool) -> Result<usize, CloudError> {
        cursor::expire(&self.remote.notes, known)
    }

    /// The numbers of this moment.
    pub fn figures(&self) -> RemoteFigures {
        self.remote.aws.counters.figures()
    }
}
