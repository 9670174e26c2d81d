//! Pausing jobs: a thread writes `cgroup.freeze`, and looks until the kernel is done.
//!
//! The kernel stops each process at its next chance, which a process in an uninterruptible sleep may put off. The call is
//! answered when the group stands still, or after [`PATIENCE`] without that; the wish stays in force. Nothing of it is
//! waited for on the loop.
//!
//! Bounds: requests wait in a queue of [`QUEUE`], beyond which they are refused; a job has one that is looked after, because a
//! later one about it answers the earlier one.

use std::fmt;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::DaemonError;
use super::command::{Answer, CommandError, PauseState};
use crate::cgroup::JobCgroup;
use crate::job::{JobClock, JobId};

/// Requests that may wait.
const QUEUE: usize = 256;
/// Longest time that a caller waits for processes to stop.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time between two looks. The kernel reports changes of `cgroup.events` once in 10 ms at most, so a look costs less.
const AGAIN: Duration = Duration::from_millis(1);

/// A caller that waits.
pub(super) struct Waiting {
    /// The clock of the job as it is now.
    pub(super) clock: JobClock,
    /// The way back.
    pub(super) answer: Answer<PauseState>,
}

impl Waiting {
    fn tell(self, id: JobId, result: Result<bool, &str>) {
        let Waiting { clock, answer } = self;
        let told = result
            .map(|frozen| PauseState { id, frozen, clock })
            .map_err(|why| CommandError::WrongState(format!("cannot pause or resume job {id}: {why}")));
        let _ = answer.send(told);
    }
}

/// A request that the kernel refused.
#[derive(Debug)]
pub(super) struct Frozen {
    /// The job that it is about.
    pub(super) id: JobId,
    /// Whether it was to be paused.
    pub(super) wanted: bool,
    /// The reason of the refusal.
    pub(super) refused: String,
}

struct Request {
    id: JobId,
    group: JobCgroup,
    frozen: bool,
    waiting: Option<Waiting>,
    until: Instant,
}

/// The loop's side.
pub(super) struct Freezer(Sender<Request>);

impl fmt::Debug for Freezer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Freezer({} wait)", self.0.len())
    }
}

impl Freezer {
    /// Starts the thread, which ends when this value is gone.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn start(
        refused: impl Fn(Frozen) + Send + 'static,
    ) -> Result<(Freezer, JoinHandle<()>), DaemonError> {
        let (requests, queue) = bounded(QUEUE);
        let thread = std::thread::Builder::new().name("freezer".into());
        let thread = thread.spawn(move || serve(&queue, &refused));
        let thread = thread.map_err(|source| DaemonError::Thread { name: "freezer", source })?;
        Ok((Freezer(requests), thread))
    }

    /// Whether a further request would be refused.
    pub(super) fn is_full(&self) -> bool {
        self.0.is_full()
    }

    /// Has a job paused, or has it go on. Beyond the queue the caller is refused.
    pub(super) fn set(&self, id: JobId, group: JobCgroup, frozen: bool, waiting: Option<Waiting>) {
        let request = Request { id, group, frozen, waiting, until: Instant::now() + PATIENCE };
        if let Err(why) = self.0.try_send(request)
            && let Some(waiting) = why.into_inner().waiting
        {
            waiting.tell(id, Err("too many jobs are being paused or resumed; try again"));
        }
    }
}

fn serve(queue: &Receiver<Request>, refused: &impl Fn(Frozen)) {
    let mut looked_after: Vec<Request> = Vec::new();
    loop {
        let next = if looked_after.is_empty() {
            queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            queue.recv_timeout(AGAIN)
        };
        match next {
            Ok(request) => {
                // Its wish is no longer in force.
                for earlier in looked_after.extract_if(.., |earlier| earlier.id == request.id) {
                    earlier
                        .waiting
                        .into_iter()
                        .for_each(|waiting| waiting.tell(request.id, Ok(!earlier.frozen)));
                }
                match request.group.freeze(request.frozen) {
                    Ok(()) => looked_after.push(request),
                    Err(why) => refuse(request, &why.to_string(), refused),
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        for done in looked_after.extract_if(.., |request| is_done(request)) {
            // A group that is gone stands still no more.
            let frozen = done.group.is_frozen().unwrap_or(false);
            done.waiting.into_iter().for_each(|waiting| waiting.tell(done.id, Ok(frozen)));
        }
    }
}

fn refuse(request: Request, why: &str, refused: &impl Fn(Frozen)) {
    let Request { id, frozen, waiting, .. } = request;
    waiting.into_iter().for_each(|waiting| waiting.tell(id, Err(why)));
    refused(Frozen { id, wanted: frozen, refused: why.to_owned() });
}

/// Whether the kernel is done, or the caller has waited long enough.
fn is_done(request: &Request) -> bool {
    request.group.is_frozen().is_ok_and(|frozen| frozen == request.frozen) || Instant::now() >= request.until
}
