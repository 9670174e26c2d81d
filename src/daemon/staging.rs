//! The stager: a thread that puts aside what jobs brought that have to wait.

use std::thread::JoinHandle;

use crossbeam_channel::Receiver;

use super::DaemonError;
use crate::job::{JobId, JobSpec, env};
use crate::upload::{JobInputs, Stage, Upload};

/// What one job brought.
#[derive(Debug)]
pub(super) struct Staging {
    /// Whose.
    pub(super) id: JobId,
    /// What. The API bounds the bytes of all requests that are not answered.
    pub(super) inputs: JobInputs,
}

/// Starts the thread. `staged` hears what became of each.
///
/// # Errors
/// No thread.
pub(super) fn start(
    stage: Stage,
    queue: Receiver<Staging>,
    staged: impl Fn(JobId, Result<(), String>) + Send + 'static,
) -> Result<JoinHandle<()>, DaemonError> {
    let work = move || {
        for Staging { id, inputs } in queue {
            let done = stage.put(&id.to_string(), &inputs);
            staged(id, done.map_err(|e| format!("failed to create isolated environment: {e}")));
        }
    };
    let thread = std::thread::Builder::new().name("stager".into());
    thread.spawn(work).map_err(|source| DaemonError::Thread { name: "stager", source })
}

/// Takes out of a request what is not the job table's: files, and the values of variables. What stays shows no secret.
pub(super) fn unpack(spec: &mut JobSpec, uploads: Vec<Upload>) -> JobInputs {
    let shown = spec.environment.iter();
    let shown = shown.map(|(name, value)| (name.clone(), env::shown(name, value).to_owned())).collect();
    let names = spec.secrets.iter().map(|(name, _)| (name.clone(), Default::default())).collect();
    JobInputs {
        uploads,
        environment: std::mem::replace(&mut spec.environment, shown),
        secrets: std::mem::replace(&mut spec.secrets, names),
    }
}

/// Whether a job brought what its record does not hold.
pub(super) fn is_needed(spec: &JobSpec) -> bool {
    let secret = spec.environment.iter().any(|(name, _)| env::looks_secret(name));
    secret || !spec.secrets.is_empty() || !spec.upload_paths.is_empty()
}

/// What a job brought that needed no staging.
pub(super) fn of_record(spec: &JobSpec) -> JobInputs {
    JobInputs { environment: spec.environment.clone(), ..JobInputs::default() }
}
