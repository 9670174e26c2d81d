//! The threads that move all jobs' output from the pipes into their spools. One of them collects ([`Collection`]), the
//! others stand by or are in a late call on a pipe ([`Handoff`]).

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use log::Level;
use mio::{Poll, Waker};

use super::collection::{Collection, Command, WAKE};
use super::handoff::{Handoff, LATE, Progress, THREADS, TOO_LATE};
use super::job_output::{CollectorEvent, JobOutput, Notify};
use super::pipe_call::waits;
use super::totals::{Counters, Totals};
use super::{OutputError, SpoolLimits};
use crate::diag;
use crate::job::JobId;
use crate::sys::mailbox::{Mailbox, SendError, mailbox};

/// Most commands that wait for the thread. Admission keeps far below: an `Add`, a `GiveUp` and two `Returned` for each
/// live job, and a `Released` for each commit of the history.
const COMMANDS: usize = 1 << 20;
/// How long the daemon's end waits for the threads.
const END_WAIT: Duration = Duration::from_secs(1);

/// The handle of the collector's threads.
#[derive(Clone)]
pub struct Collector(Arc<Crew>);

/// Everything that the threads share.
struct Crew {
    commands: Mailbox<Command>,
    handoff: Handoff<Box<Collection>>,
    notify: Notify,
    totals: Arc<Counters>,
    /// The number of threads.
    threads: AtomicUsize,
}

impl Collector {
    /// Starts the threads, which report events through `notify`; `notify` must not block.
    ///
    /// # Errors
    /// No epoll instance, no /dev/null or no thread.
    pub fn start(
        limits: SpoolLimits,
        notify: impl Fn(JobId, CollectorEvent) + Send + Sync + 'static,
    ) -> Result<Collector, OutputError> {
        let poll = Poll::new().map_err(OutputError::Collector)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE).map_err(OutputError::Collector)?);
        let null = OpenOptions::new().write(true).open("/dev/null").map_err(OutputError::Collector)?;
        let (commands, inbox) = mailbox(COMMANDS, waker);
        let notify: Notify = Arc::new(notify);
        let totals = Arc::<Counters>::default();
        let collection = Box::new(Collection::new(poll, inbox, limits, totals.clone(), null, notify.clone()));
        let crew = Arc::new(Crew {
            commands,
            handoff: Handoff::new(LATE, TOO_LATE, waits),
            notify,
            totals,
            threads: AtomicUsize::new(0),
        });
        let first = crew.clone();
        crew.spawn("output", move || first.collect(collection)).map_err(OutputError::Collector)?;
        crew.spawn_standby().map_err(OutputError::Collector)?;
        Ok(Collector(crew))
    }

    /// Hands a job's pipes over to the thread that collects.
    pub fn add(&self, job: JobOutput) {
        self.send(Command::Add(Box::new(job)));
    }

    /// Stops waiting for a job's pipes to end and reports its output as complete.
    pub fn give_up(&self, id: JobId) {
        self.send(Command::GiveUp(id));
    }

    /// Reports, once, when everything is in the spool that is in the job's pipes now ([`CollectorEvent::OutputEmpty`]), or
    /// that its output is complete.
    pub fn report_empty(&self, id: JobId) {
        self.send(Command::ReportEmpty(id));
    }

    /// Counts so many bytes of a job's spool no longer, which are released ([`Header::bytes`]). A job that waits for
    /// their room goes on.
    ///
    /// [`Header::bytes`]: super::Header::bytes
    pub fn released(&self, id: JobId, bytes: u64) {
        self.send(Command::Released(id, bytes));
    }

    /// Whether a call on a pipe is late. Its thread would keep the daemon's process from its end.
    pub fn is_held(&self) -> bool {
        !self.0.handoff.late().is_empty()
    }

    /// Output of all jobs together.
    pub fn totals(&self) -> Totals {
        self.0.totals.read()
    }

    /// Ends the threads, and returns the jobs whose pipes still keep one from its end.
    pub fn stop(&self) -> Vec<JobId> {
        self.send(Command::Stop);
        self.0.handoff.wait_for_end(END_WAIT)
    }

    fn send(&self, command: Command) {
        // The threads close their inbox only after Stop, when no command matters any more.
        if let Err(SendError::Full(_)) = self.0.commands.try_send(command) {
            diag::limited!(
                Level::Error,
                "the output collector lags behind: a command is lost",
                limit = COMMANDS
            );
        }
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Collector({} threads)", self.0.threads.load(Ordering::Relaxed))
    }
}

impl Crew {
    fn spawn(self: &Arc<Self>, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let crew = self.clone();
        self.threads.fetch_add(1, Ordering::Relaxed);
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            run();
            crew.threads.fetch_sub(1, Ordering::Relaxed);
        });
        if thread.is_err() {
            self.threads.fetch_sub(1, Ordering::Relaxed);
        }
        thread.map(drop)
    }

    fn spawn_standby(self: &Arc<Self>) -> io::Result<()> {
        let crew = self.clone();
        self.spawn("output-standby", move || crew.stand_by())
    }

    /// Collects until it is stopped, or until a late call has lost the state to another thread.
    fn collect(&self, mut collection: Box<Collection>) {
        let progress = Progress::of_this_thread();
        while let Some(call) = collection.next_call() {
            let job = call.job();
            let make = |progress: &Progress| call.make(progress);
            match self.handoff.call(collection, job, &progress, make) {
                (Some(back), done) => {
                    collection = back;
                    collection.take_back(done);
                }
                (None, done) => {
                    // Fails only where nothing is collected any more.
                    let _ = self.commands.send(Command::Returned(Box::new(done)));
                    (self.notify)(job, CollectorEvent::PipeFree);
                    return;
                }
            }
        }
        self.handoff.stop();
    }

    fn stand_by(self: Arc<Self>) {
        let replace = || {
            let started = match self.threads.load(Ordering::Relaxed) {
                threads if threads < THREADS => self.spawn_standby(),
                _ => Err(io::Error::other("too many calls are late")),
            };
            if let Err(why) = &started {
                diag::limited!(Level::Error, "cannot start another output thread", error = why);
            }
            started.is_ok()
        };
        let report = |job| {
            diag::limited!(Level::Warn, "a job keeps the lock of its output pipe, ending it", jobId = job);
            (self.notify)(job, CollectorEvent::PipeHeld);
        };
        if let Some((job, collection)) = self.handoff.stand_by(replace, report) {
            diag::limited!(Level::Warn, "a call on a job's output pipe is late, others go on", jobId = job);
            self.collect(collection);
        }
    }
}

#[cfg(test)]
#[path = "collector_tests.rs"]
mod tests;
