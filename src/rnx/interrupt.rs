//! Ctrl-C while rnx follows a job or a workflow: rnx ends, what it follows does not.
//!
//! SIGINT is blocked in every thread (gRPC's inherit the mask) and one thread waits for it. The first one
//! gives SIGINT its default action back before anything is printed, so a second one ends the process even
//! when stderr is a pipe without a reader.

use std::fmt;
use std::fs;
use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::signal::{SigSet, Signal};

use super::render;
use super::terminal::one_line;
use crate::sys::exit_now;

/// The code that shells report for a program that Ctrl-C ended: 128+2.
pub(crate) const INTERRUPTED: i32 = 130;

/// Tells the waiting thread what it is about, once that is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt(Arc<Mutex<Option<Watched>>>);

enum Watched {
    Job(String),
    /// A job that had not started when the watch began: until then it is canceled, not stopped.
    Scheduled(String),
    Workflow(String),
    /// A command in a job. The first Ctrl-C is passed on to it by this function.
    Command(Box<dyn FnOnce() + Send>),
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Watched::Job(uuid) => write!(f, "Job({uuid})"),
            Watched::Scheduled(uuid) => write!(f, "Scheduled({uuid})"),
            Watched::Workflow(uuid) => write!(f, "Workflow({uuid})"),
            Watched::Command(_) => write!(f, "Command"),
        }
    }
}

impl Interrupt {
    /// From here on Ctrl-C prints how to come back and exits with 130, unless whoever started rnx has it ignored, as shells
    /// do for commands in the background of a script. Must run before the first thread of gRPC starts.
    pub(crate) fn watch() -> Self {
        let interrupt = Interrupt::default();
        if is_ignored() {
            return interrupt;
        }
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        let job = interrupt.0.clone();
        // Where the mask or the thread is refused, SIGINT keeps its default action: rnx ends without a word.
        if set.thread_block().is_ok() {
            let waiter = thread::Builder::new().name("interrupt".into()).spawn(move || {
                let came = set.wait();
                let restored = set.thread_unblock();
                if came.is_ok() && restored.is_ok() {
                    let watched = job.lock().unwrap_or_else(PoisonError::into_inner).take();
                    if let Some(Watched::Command(pass_on)) = watched {
                        pass_on();
                        // The one thread in which SIGINT is not blocked: the next one ends the process.
                        loop {
                            thread::park();
                        }
                    }
                    say(watched.as_ref());
                }
                exit_now(INTERRUPTED)
            });
            if waiter.is_err() {
                let _ = set.thread_unblock();
            }
        }
        interrupt
    }

    /// The job that is being followed.
    pub(crate) fn about(&self, uuid: &str) {
        self.set(Watched::Job(uuid.to_owned()));
    }

    /// The same of a job that waits for its time.
    pub(crate) fn about_scheduled(&self, uuid: &str) {
        self.set(Watched::Scheduled(uuid.to_owned()));
    }

    /// The same of a workflow.
    pub(crate) fn about_workflow(&self, uuid: &str) {
        self.set(Watched::Workflow(uuid.to_owned()));
    }

    /// A command in a job: the first Ctrl-C calls this function, and the second one ends rnx.
    pub(crate) fn about_command(&self, pass_on: impl FnOnce() + Send + 'static) {
        self.set(Watched::Command(Box::new(pass_on)));
    }

    fn set(&self, watched: Watched) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(watched);
    }
}

/// Whether SIGINT is ignored. A blocked signal would come all the same.
fn is_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (Signal::SIGINT as i32 - 1) & 1 == 1)
}

/// The sentence for a person who leaves a workflow that goes on.
pub(crate) fn leave_workflow(uuid: &str) -> String {
    let id = one_line(render::short(uuid));
    format!(
        "rnx: stopped following; the workflow goes on. \
         See it again: rnx workflow status --watch {id}   Cancel it: rnx workflow cancel {id}"
    )
}

fn say(job: Option<&Watched>) {
    let out = super::out::Out { json: false, colour: false };
    if io::stderr().is_terminal() {
        // The job's output stops in the middle, perhaps in the middle of a colour.
        let _ = super::out::bytes(&mut io::stderr(), b"\x1b[0m");
    }
    let (uuid, cancel) = match job {
        Some(Watched::Workflow(uuid)) => return out.note(&format!("\n{}", leave_workflow(uuid))),
        Some(Watched::Job(uuid)) => (uuid, ""),
        Some(Watched::Scheduled(uuid)) => (uuid, "   Before it starts: rnx job cancel "),
        Some(Watched::Command(_)) | None => {
            return out.note(
                "\nrnx: interrupted before the server answered; `rnx job list` shows whether a job was started",
            );
        }
    };
    let id = one_line(render::short(uuid));
    let cancel = if cancel.is_empty() { String::new() } else { format!("{cancel}{id}") };
    out.note(&format!(
        "\nrnx: stopped following; the job goes on. \
         See it again: rnx job log {id}   Stop it: rnx job stop {id}{cancel}"
    ));
}
