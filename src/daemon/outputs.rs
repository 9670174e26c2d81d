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
use crate::upload::outputs::{self, Input};
use crate::workflow::Workflow;

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

/// The files of other jobs that a job gets. The loop hands the whole over; the thread that copies the files names them, of
/// each element of each job before it.
#[derive(Debug)]
pub(super) struct Inputs {
    plan: Arc<Workflow>,
    node: usize,
    /// The directory of the workflow's files.
    dir: PathBuf,
}

impl Inputs {
    /// Those of one job of a file, from the directory of its workflow; `None`: it gets none.
    fn new(plan: &Arc<Workflow>, node: usize, dir: PathBuf) -> Option<Inputs> {
        let gets_some = plan.jobs.get(node).is_some_and(|job| !job.inputs.is_empty());
        gets_some.then(|| Inputs { plan: plan.clone(), node, dir })
    }

    /// The files of each element, in the order of the file. Not for the loop: there may be as many as a workflow has
    /// elements.
    pub(super) fn iter(&self) -> impl Iterator<Item = Input<'_>> {
        let inputs = self.plan.jobs.get(self.node).into_iter().flat_map(|job| &job.inputs);
        inputs.flat_map(move |(node, wanted)| {
            let before = &self.plan.jobs[*node];
            (0..before.elements()).map(move |element| Input {
                job: &before.name,
                from: element_directory(&self.dir, *node, element),
                wanted,
                // Elements leave files of the same names.
                below: before.index(element).map(|n| format!("{}/{n}", before.name)).unwrap_or_default(),
            })
        })
    }
}

/// The directory of the files of one element, whatever its attempt: a later one replaces them.
fn element_directory(workflow: &Path, node: usize, element: usize) -> PathBuf {
    workflow.join(format!("{node}-{element}"))
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

    /// The files of other jobs that a job of a workflow with this file gets; `None`: it gets none.
    pub(super) fn inputs_of(&self, plan: &Arc<Workflow>, part: &Part) -> Option<Inputs> {
        Inputs::new(plan, part.node as usize, self.of(part.workflow))
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
        let into = element_directory(&self.of(part.workflow), part.node as usize, part.element as usize);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::parse;

    /// The loop made an entry for each of the elements, with all paths, at each start.
    #[test]
    fn inputs_are_named_by_whoever_copies_them() {
        let text = "jobs:\n  many: {command: x, array: 0-9999, outputs: [a, b]}\n  \
                    one: {command: y, outputs: [c]}\n  \
                    last: {command: z, requires: [many, one], inputs: {many: [a, b], one: [c]}}\n";
        let plan = Arc::new(parse(text).unwrap());
        let dir = PathBuf::from("/outputs/w");
        assert!(Inputs::new(&plan, 0, dir.clone()).is_none() && Inputs::new(&plan, 9, dir.clone()).is_none());
        let inputs = Inputs::new(&plan, 2, dir).unwrap();
        assert_eq!(Arc::strong_count(&plan), 2, "what is handed over is the file itself");
        let named: Vec<Input<'_>> = inputs.iter().collect();
        assert_eq!(named.len(), 10_001);
        assert!(named[..10_000].iter().all(|input| std::ptr::eq(input.wanted, named[0].wanted)), "no copies");
        assert_eq!((named[7].job, named[7].below.as_str()), ("many", "many/7"));
        assert_eq!(named[7].from, Path::new("/outputs/w/0-7"));
        let last = &named[10_000];
        assert_eq!((last.job, last.below.as_str(), last.wanted), ("one", "", &["c".to_owned()][..]));
        assert_eq!(last.from, Path::new("/outputs/w/1-0"));
    }
}
