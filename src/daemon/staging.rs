//! Inputs of jobs that have to wait: a thread writes them to the staging directory, in sealed files.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use log::Level;

use super::DaemonError;
use super::jobs::Backlog;
use super::token::{Counter, Token};
use crate::config::daemon::{DaemonConfig, Uploads};
use crate::diag;
use crate::job::{JobId, JobSpec, env};
use crate::upload::{Claim, JobInputs, Stage, Store, StoreLimits, Stored, Upload};

/// The inputs of one job, to be written. The API bounds the bytes of all requests that are not answered.
#[derive(Debug)]
pub(super) struct StagingRequest {
    id: JobId,
    inputs: JobInputs,
    pending: Token,
}

/// The result of writing one job's inputs.
#[derive(Debug)]
pub(super) struct Staged {
    /// The job's identity.
    pub(super) id: JobId,
    /// Whether they are written, or why not.
    pub(super) result: Result<(), String>,
    /// Counted them among those under way.
    pub(super) pending: Token,
}

/// The loop's side of the staging directory.
#[derive(Debug)]
pub(super) struct Staging {
    stage: Stage,
    store: Arc<Store>,
    requests: Sender<StagingRequest>,
    pending: Counter,
    backlog: Backlog,
}

impl Staging {
    /// Sends inputs to the thread that reads `requests`, which is bounded by the jobs that may wait
    /// (`joblet.maxQueuedJobs`) and by their bytes.
    pub(super) fn new(
        stage: Stage,
        store: Arc<Store>,
        requests: Sender<StagingRequest>,
        backlog: Backlog,
    ) -> Self {
        Staging { stage, store, requests, pending: Counter::default(), backlog }
    }

    /// The bytes of jobs that have to wait.
    pub(super) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// Has the inputs of a job written.
    pub(super) fn put(&self, id: JobId, inputs: JobInputs) {
        let request = StagingRequest { id, inputs, pending: self.pending.token() };
        if self.requests.send(request).is_err() {
            diag::limited!(Level::Error, "the staging thread is gone");
        }
    }

    /// Takes uploads that came ahead, for one job.
    ///
    /// # Errors
    /// One of them cannot be taken.
    pub(super) fn take(&self, uploads: &[Arc<Stored>]) -> Result<Vec<Claim>, String> {
        self.store.take(uploads)
    }

    /// The uploads that a waiting job of an earlier daemon had taken.
    ///
    /// # Errors
    /// One of them is gone.
    pub(super) fn adopt(&self, spec: &JobSpec) -> Result<Vec<Claim>, String> {
        self.store.adopt(&spec.upload_handles)
    }

    /// The same for a workflow, by their handles.
    ///
    /// # Errors
    /// One of them is gone.
    pub(super) fn adopt_handles(&self, handles: &[String]) -> Result<Vec<Claim>, String> {
        self.store.adopt(handles)
    }

    /// Reads inputs back, before the loop turns.
    ///
    /// # Errors
    /// They are gone, or were changed.
    pub(super) fn read(&self, id: JobId) -> Result<JobInputs, String> {
        self.stage.take(&id.to_string()).map_err(|e| e.to_string())
    }

    /// Inputs whose outcome has not come yet.
    pub(super) fn pending(&self) -> usize {
        self.pending.count()
    }

    /// The file of a job's inputs, which may not exist.
    pub(super) fn path(&self, id: JobId) -> PathBuf {
        self.stage.path(&id.to_string())
    }

    /// The staging directory.
    pub(super) fn directory(&self) -> PathBuf {
        self.stage.directory().to_owned()
    }
}

/// The uploads that no job has used up, with those of an earlier daemon.
///
/// # Errors
/// The directory's.
pub(super) fn open_store(config: &DaemonConfig, dir: PathBuf) -> Result<Arc<Store>, DaemonError> {
    let Uploads { limit, client_limit, lifetime } = config.uploads;
    let limits = StoreLimits { total: limit, client: client_limit, lifetime };
    Store::open(dir.clone(), limits).map_err(|source| DaemonError::MakeDirectory { path: dir, source })
}

/// Starts the thread, which ends when the queue's senders are gone.
///
/// # Errors
/// No thread.
pub(super) fn start(
    stage: Stage,
    requests: Receiver<StagingRequest>,
    answer: impl Fn(Staged) + Send + 'static,
) -> Result<JoinHandle<()>, DaemonError> {
    let work = move || {
        for StagingRequest { id, inputs, pending } in requests {
            let result = stage.put(&id.to_string(), &inputs);
            let result = result.map_err(|e| format!("failed to create isolated environment: {e}"));
            answer(Staged { id, result, pending });
        }
    };
    let thread = std::thread::Builder::new().name("staging".into());
    thread.spawn(work).map_err(|source| DaemonError::Thread { name: "staging", source })
}

/// Takes out of a request what is not the job table's: files, and the values of secrets.
pub(super) fn unpack(spec: &mut JobSpec, uploads: Vec<Upload>) -> JobInputs {
    let names = spec.secrets.iter().map(|(name, _)| (name.clone(), Default::default())).collect();
    JobInputs {
        uploads,
        environment: spec.environment.clone(),
        secrets: std::mem::replace(&mut spec.secrets, names),
    }
}

/// Bytes of a request: its texts, and its inputs with their values.
pub(super) fn bytes(spec: &JobSpec, uploads: &[Upload]) -> u64 {
    let files: usize = uploads.iter().map(|upload| upload.path.len() + upload.content.len()).sum();
    let secrets: usize = spec.secrets.iter().map(|(name, value)| name.len() + value.expose().len()).sum();
    (spec.text_bytes() + files + secrets) as u64
}

/// Whether a job has inputs that its record does not hold.
pub(super) fn is_needed(spec: &JobSpec) -> bool {
    // Records of version 0.1 have the mask in place of the values of such variables.
    let hidden = |(name, value): &(String, String)| env::looks_secret(name) && value == env::MASK;
    spec.environment.iter().any(hidden) || !spec.secrets.is_empty() || !spec.upload_paths.is_empty()
}

/// The inputs of a job that needed no staging.
pub(super) fn of_record(spec: &JobSpec) -> JobInputs {
    JobInputs { environment: spec.environment.clone(), ..JobInputs::default() }
}
