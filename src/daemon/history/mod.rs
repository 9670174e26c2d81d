//! The daemon's side of history: the process `persist`, and the way to it.
//!
//! ```text
//!   loop --Added, Ended, Delete--> thread history --SPOOL, ROWS, END_OF_JOB--> persist
//!     ^--Complete, Forgotten---------' |   ^--ACK---------------------------------'
//!                                      v
//!                                  thread release: takes what is durable out of the spools
//! ```
//!
//! One thread owns everything here: the child and its end ([`child`]), the connection, and what `persist` knows of
//! each job ([`told`]). It wakes when a job has news, and never for a job that is quiet. It reads no output: it opens the files of
//! a spool anew, for reading only, and hands the descriptors over.
//!
//! The loop waits for nothing here. While `persist` is away the spools fill up to their limits; when it is back, it
//! gets absolute numbers again, and goes on where it was. A job whose history is deleted meanwhile is remembered in the
//! job database, and `persist` hears of it first.
//!
//! Bounds: commands by the number of jobs that are kept, a few each; jobs that `persist` works on by `ipc.buffer_size`,
//! the others wait in order; releases by the number of those jobs.

mod child;
mod command;
mod deletions;
mod fetches;
mod gate;
mod release;
mod sockets;
mod spool_files;
mod told;
mod worker;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use log::Level;
use mio::{Poll, Waker};

use super::DaemonError;
use crate::config::daemon::DaemonConfig;
use crate::config::daemon::persist::StorageType;
use crate::diag;
use crate::job::JobId;
use crate::output::Collector;
use crate::sys::mailbox::{Mailbox, mailbox};

use command::Command;
pub(super) use command::{Added, Ended, HistoryEvent, WhenDeleted};
pub(super) use fetches::{Wanted, WhenFetched};
pub(super) use gate::wait_for_answer;
use sockets::Sockets;
use worker::{Parts, Worker};

/// Most commands that wait for the thread. Retention keeps far below: each job that is kept has a handful.
const COMMANDS: usize = 1 << 21;

/// The loop's end of the way to history.
pub(super) struct History {
    /// `None`: output is live only.
    commands: Option<Mailbox<Command>>,
    /// Whether a store beyond this host has what the local files lack.
    is_remote: bool,
}

impl History {
    /// No history is kept.
    pub(super) fn none() -> Self {
        History { commands: None, is_remote: false }
    }

    /// Starts the process and the threads. `wishes` are jobs whose history an earlier daemon was to delete.
    ///
    /// # Errors
    /// A socket, a thread or the program.
    pub(super) fn start(
        config: &DaemonConfig,
        path: &Path,
        wishes: Vec<JobId>,
        collector: Collector,
        report: impl Fn(HistoryEvent) + Send + Clone + 'static,
    ) -> Result<(Self, Vec<JoinHandle<()>>), DaemonError> {
        let failed = |doing| move |source| DaemonError::Loop { doing, source };
        let poll = Poll::new().map_err(failed("open an epoll instance"))?;
        let waker = Arc::new(Waker::new(poll.registry(), worker::WAKE).map_err(failed("make a waker"))?);
        let (commands, inbox) = mailbox(COMMANDS, waker);
        let (releases, release) = release::start(collector, report.clone())?;
        let sockets = Sockets::bind(config)?;
        let report = Box::new(report);
        let own = commands.clone();
        let parts = Parts { poll, inbox, own, sockets, releases, wishes, report };
        let worker = Worker::new(config, path, parts)?;
        let thread = std::thread::Builder::new().name("history".into()).spawn(move || worker.run());
        let thread = thread.map_err(|source| DaemonError::Thread { name: "history", source })?;
        let is_remote = config.persist.storage.kind != StorageType::Local;
        Ok((History { commands: Some(commands), is_remote }, vec![thread, release]))
    }

    /// Whether history is kept.
    pub(super) fn is_kept(&self) -> bool {
        self.commands.is_some()
    }

    /// Keeps the output of a job that runs.
    pub(super) fn add(&self, job: Added) {
        self.send(|| Command::Added(Box::new(job)));
    }

    /// Completes the history of a job that has ended.
    pub(super) fn end(&self, job: Ended) {
        self.send(|| Command::Ended(Box::new(job)));
    }

    /// The way for a thread that is to be done with its output first.
    pub(super) fn ender(&self) -> impl FnOnce(Ended) + Send + 'static {
        let other = History { commands: self.commands.clone(), is_remote: self.is_remote };
        move |job| other.end(job)
    }

    /// Deletes the history of jobs; `done` is called in any case, where no history is kept at once.
    pub(super) fn delete(&self, jobs: Vec<JobId>, done: WhenDeleted) {
        match &self.commands {
            None => done(true),
            Some(_) => self.send(|| Command::Delete(jobs, done)),
        }
    }

    /// Has a job that has ended in the local files, then calls back; at once where they are the history themselves.
    pub(super) fn fetch(&self, wanted: Wanted, done: WhenFetched) {
        if self.is_remote {
            self.send(|| Command::Fetch(wanted, done));
        } else {
            done(Ok(()));
        }
    }

    /// The way for a thread that deletes later.
    pub(super) fn deleter(&self) -> impl FnOnce(Vec<JobId>, WhenDeleted) + Send + 'static {
        let other = History { commands: self.commands.clone(), is_remote: self.is_remote };
        move |jobs, done| other.delete(jobs, done)
    }

    /// Ends the process and the thread. Jobs that go on are kept by the next daemon's process.
    pub(super) fn stop(&self) {
        self.send(|| Command::Stop);
    }

    fn send(&self, command: impl FnOnce() -> Command) {
        let Some(commands) = &self.commands else { return };
        if let Err(why) = commands.try_send(command()) {
            diag::limited!(Level::Error, "the history thread lags behind or is gone: a command is lost");
            match why.into_inner() {
                Command::Delete(_, done) => done(false),
                Command::Fetch(_, done) => done(Err("the history thread lags behind; try again".into())),
                Command::Added(_) | Command::Ended(_) | Command::Grown(_) | Command::Stop => {}
            }
        }
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "History(kept {})", self.is_kept())
    }
}
