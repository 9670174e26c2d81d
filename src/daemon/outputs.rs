//! Files that jobs of workflows leave for others: the loop's side, and the threads that take them out of /work.
//!
//! A job that has ended is not over for the loop before its files are kept, so that a job that gets them finds them, and
//! /work is there as long as it is read. Two threads do it: one workflow with large files does not keep all others
//! waiting.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use log::Level;

use super::DaemonError;
use super::token::{Counter, Token};
use crate::diag;
use crate::job::{JobId, Part, WorkflowId};
use crate::upload::outputs;

/// Threads that take files.
pub(super) const THREADS: usize = 2;

/// Files to be taken.
#[derive(Debug)]
pub(super) struct Collect {
    id: JobId,
    work: OwnedFd,
    paths: Vec<String>,
    into: PathBuf,
    room: Arc<AtomicU64>,
    pending: Token,
}

/// The files of a job are kept, or cannot be.
#[derive(Debug)]
pub(super) struct Collected {
    /// The job's identity.
    pub(super) id: JobId,
    /// Their bytes, and those of an earlier attempt.
    pub(super) taken: outputs::Collected,
    /// Counted them among those under way.
    pub(super) pending: Token,
}

/// The loop's side. At most one collection of each running job is under way.
#[derive(Debug)]
pub(super) struct Outputs {
    dir: PathBuf,
    requests: Sender<Collect>,
    pending: Counter,
}

impl Outputs {
    /// Keeps files below `dir`, through the threads that read `requests`.
    pub(super) fn new(dir: PathBuf, requests: Sender<Collect>) -> Outputs {
        Outputs { dir, requests, pending: Counter::default() }
    }

    /// The directory with one for each workflow.
    pub(super) fn directory(&self) -> &Path {
        &self.dir
    }

    /// The directory of a workflow's files.
    pub(super) fn of(&self, workflow: WorkflowId) -> PathBuf {
        self.dir.join(workflow.to_string())
    }

    /// The directory of the files of one element, whatever its attempt: a later one replaces them.
    pub(super) fn of_element(&self, workflow: WorkflowId, node: usize, element: usize) -> PathBuf {
        self.of(workflow).join(format!("{node}-{element}"))
    }

    /// Has files taken out of a job's /work, as many bytes as there is room for.
    pub(super) fn collect(
        &self,
        id: JobId,
        part: &Part,
        work: OwnedFd,
        paths: Vec<String>,
        room: Arc<AtomicU64>,
    ) {
        let into = self.of_element(part.workflow, part.node as usize, part.element as usize);
        let request = Collect { id, work, paths, into, room, pending: self.pending.token() };
        if self.requests.send(request).is_err() {
            diag::limited!(Level::Error, "the threads of outputs are gone");
        }
    }

    /// Collections whose end the loop has not heard of.
    pub(super) fn pending(&self) -> usize {
        self.pending.count()
    }
}

/// Starts one of the threads, which ends when the queue's senders are gone.
///
/// # Errors
/// No thread.
pub(super) fn start(
    requests: Receiver<Collect>,
    answer: impl Fn(Collected) + Send + 'static,
) -> Result<JoinHandle<()>, DaemonError> {
    let work = move || {
        for Collect { id, work, paths, into, room, pending } in requests {
            let taken = outputs::collect(work.as_fd(), &paths, &into, &room);
            if let Err(why) = &taken.result {
                diag::event!(Level::Warn, "outputs of a job are not kept", jobId = id, error = why);
            }
            drop(work);
            answer(Collected { id, taken, pending });
        }
    };
    let thread = std::thread::Builder::new().name("outputs".into());
    thread.spawn(work).map_err(|source| DaemonError::Thread { name: "outputs", source })
}
