//! Spawner threads: from an accepted request to a payload behind its walls.
//!
//! A start touches the disk (spool, exit file), the cgroup file system and the uploads, and may wait for a clone; so it
//! does not happen on the loop. *Creating* a sandbox needs nothing of the job but its id, and takes most of the time;
//! *starting* a job in one configures it for the job and has joblet-init execute the payload. A thread of its own
//! creates sandboxes ahead of jobs for the pool; the others take one job at a time from a bounded queue, create a
//! sandbox for it where none was ready, start it, and answer with [`StartResult`]. Jobs with many
//! files or bytes have a queue of their own, in which clients take turns, and a thread.

mod create;
mod payload;
mod start;
mod turns;
mod user;

use std::sync::{Arc, Once};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use log::Level;

use super::DaemonError;
use super::provision::{Node, StartError};
use super::token::{Counter, Token};
use crate::diag;
use crate::exporter::Counts;
use crate::input::Inputs;
use crate::job::ClientId;
use crate::output::Collector;
use crate::sys::thread::schedule_first as schedule;
use crate::upload::Stage;

pub(super) use create::{CreateError, CreateRequest, WarmSandbox};
pub(super) use payload::{environment, exec_request};
pub(super) use start::{HeldWork, InputSource, JobSandbox, StartRequest, StartResult, Started};

/// The state that all spawner threads share.
#[derive(Debug)]
pub(super) struct Spawner {
    /// The part of the node that all jobs share.
    pub(super) node: Arc<Node>,
    /// Takes the output pipes of created sandboxes.
    pub(super) collector: Collector,
    /// Moves the standard inputs of payloads.
    pub(super) inputs: Inputs,
    /// Holds the inputs of jobs that had to wait.
    pub(super) stage: Stage,
    /// Counts the parts of starts.
    pub(super) counts: Counts,
}

impl Spawner {
    /// Starts a thread that starts jobs until the queue's senders are gone. A thread that comes `first` is real-time: it may do
    /// nothing whose length a client decides.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn start_thread(
        self: &Arc<Self>,
        requests: impl IntoIterator<Item = StartRequest> + Send + 'static,
        first: bool,
        answer: impl Fn(StartResult) + Send + 'static,
    ) -> Result<JoinHandle<()>, DaemonError> {
        let spawner = self.clone();
        let work = move || {
            if first {
                schedule_first();
            }
            let mut context = spawner.node.sandbox.adopt_thread();
            for request in requests {
                answer(spawner.start(&mut context, request));
            }
        };
        let thread = std::thread::Builder::new().name("spawner".into());
        thread.spawn(work).map_err(|source| DaemonError::Thread { name: "spawner", source })
    }

    /// Starts the thread that creates sandboxes ahead of jobs, until the queue's senders are gone.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn start_pool_thread(
        self: &Arc<Self>,
        requests: Receiver<(Box<CreateRequest>, Token)>,
        answer: impl Fn(Result<WarmSandbox, Box<CreateError>>, Token) + Send + 'static,
    ) -> Result<JoinHandle<()>, DaemonError> {
        let spawner = self.clone();
        let work = move || {
            let mut context = spawner.node.sandbox.adopt_thread();
            for (request, under_way) in requests {
                answer(spawner.create_ahead(&mut context, request), under_way);
            }
        };
        let thread = std::thread::Builder::new().name("pool".into());
        thread.spawn(work).map_err(|source| DaemonError::Thread { name: "pool", source })
    }
}

/// Large starts, by turns of their clients.
pub(super) type LargeStarts = turns::Receiver<ClientId, StartRequest>;

/// The loop's side: hands jobs to the threads and counts those that are under way.
#[derive(Debug)]
pub(super) struct Starts {
    requests: Sender<StartRequest>,
    /// Starts with many files or bytes: copying them takes as long as their client likes, and holds up no other start.
    large: turns::Sender<ClientId, StartRequest>,
    under_way: Counter,
    // Whether it was logged that a joblet-init cannot be spared by the out-of-memory killer.
    unspared: bool,
}

impl Starts {
    /// The queues of ordinary and of large starts, each as long as `jobs` may run at one time.
    pub(super) fn new(jobs: usize) -> (Self, Receiver<StartRequest>, LargeStarts) {
        let (requests, ordinary_queue) = bounded(jobs);
        let (large, large_queue) = turns::queue(jobs);
        (
            Starts { requests, large, under_way: Counter::default(), unspared: false },
            ordinary_queue,
            large_queue,
        )
    }

    /// A start that counts as under way until its token goes.
    pub(super) fn token(&self) -> Token {
        self.under_way.token()
    }

    /// Hands a job to a thread.
    ///
    /// # Errors
    /// No thread takes it; its sandbox is handed back.
    pub(super) fn hand_over(&self, request: StartRequest) -> Result<(), JobSandbox> {
        let handed_over = if request.is_large() {
            self.large.send(request.spec.client, request)
        } else {
            self.requests.try_send(request).map_err(TrySendError::into_inner)
        };
        handed_over.map_err(|back| back.sandbox)
    }

    /// Whether this is the first joblet-init that cannot be spared by the out-of-memory killer. The host refuses it for all.
    pub(super) fn is_first_unspared(&mut self) -> bool {
        !std::mem::replace(&mut self.unspared, true)
    }

    /// Whether any job is being started.
    pub(super) fn are_under_way(&self) -> bool {
        self.under_way.count() > 0
    }
}

/// Lets the calling thread run before ordinary load, which is what a node that runs jobs is full of: a start passes
/// through several threads, and each would wait its turn. A child that it clones is scheduled ordinarily. A tuning: logged once
/// where the host refuses it.
pub(super) fn schedule_first() {
    if let Err(why) = schedule() {
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            diag::event!(
                Level::Warn,
                "starts of jobs wait their turn when the host is busy: SCHED_RR is refused",
                error = why,
                remedy = "give the daemon CAP_SYS_NICE"
            );
        });
    }
}
