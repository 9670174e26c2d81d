//! Ctrl-C while rnx follows a job: rnx ends, the job does not.
//!
//! SIGINT is blocked in every thread (gRPC's inherit the mask) and one thread waits for it. The first one
//! gives SIGINT its default action back before anything is printed, so a second one ends the process even
//! when stderr is a pipe without a reader.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::signal::{SigSet, Signal};

use super::render;
use super::terminal::one_line;
use crate::sys::exit_now;

/// The code that shells report for a program that Ctrl-C ended: 128+2.
const INTERRUPTED: i32 = 130;

/// Tells the waiting thread which job it is about, once that is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt(Arc<Mutex<Option<Watched>>>);

#[derive(Debug)]
struct Watched {
    uuid: String,
    /// It had not started when the watch began: until then it is canceled, not stopped.
    scheduled: bool,
}

impl Interrupt {
    /// From here on Ctrl-C prints how to come back and exits with 130. Must run before the first thread of
    /// gRPC starts.
    pub(crate) fn watch() -> Self {
        let interrupt = Interrupt::default();
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        let job = interrupt.0.clone();
        // Where the mask or the thread is refused, SIGINT keeps its default action: rnx ends without a word.
        if set.thread_block().is_ok() {
            let waiter = thread::Builder::new().name("interrupt".into()).spawn(move || {
                let came = set.wait();
                let restored = set.thread_unblock();
                if came.is_ok() && restored.is_ok() {
                    say(job.lock().unwrap_or_else(PoisonError::into_inner).as_ref());
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
        self.set(uuid, false);
    }

    /// The same of a job that waits for its time.
    pub(crate) fn about_scheduled(&self, uuid: &str) {
        self.set(uuid, true);
    }

    fn set(&self, uuid: &str, scheduled: bool) {
        let watched = Watched { uuid: uuid.to_string(), scheduled };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(watched);
    }
}

fn say(job: Option<&Watched>) {
    let out = super::out::Out { json: false, colour: false };
    if io::stderr().is_terminal() {
        // The job's output stops in the middle, perhaps in the middle of a colour.
        let _ = super::out::bytes(&mut io::stderr(), b"\x1b[0m");
    }
    match job {
        Some(Watched { uuid, scheduled }) => {
            let id = one_line(render::short(uuid));
            let cancel =
                if *scheduled { format!("   Before it starts: rnx job cancel {id}") } else { String::new() };
            out.note(&format!(
                "\nrnx: stopped following; the job goes on. \
                 See it again: rnx job log {id}   Stop it: rnx job stop {id}{cancel}"
            ));
        }
        None => out.note(
            "\nrnx: interrupted before the server answered; `rnx job list` shows whether a job was started",
        ),
    }
}
