//! rnx, the client: one command line in, one or two calls over mutual TLS, an answer for people or scripts.
//!
//! ```text
//!   argv --cli::parse--> Invocation --command::*--> server (one channel) --> pb messages
//!                                                                            |
//!                                stdout/stderr <--out, printer-- render (text, table, json)
//! ```
//!
//! * [`command`] has one file a command, with its description and its flags; [`cli`] makes parser, help,
//!   completion and manual page from these.
//! * [`connect`] gathers where to and as whom, [`certificate`] looks at our own certificate before it is
//!   shown, [`server`] is the channel and the meaning of its refusals.
//! * [`render`] is pure: messages to strings, held by golden files. [`terminal`] keeps what others wrote from
//!   commanding a person's terminal.
//! * A failure is an [`error::Error`]: one sentence, one code for `--json`, one exit code. The exit code of a
//!   job that was waited for is [`exit`]'s.
//!
//! Waiting for a job is reading its output to the end: the server ends the stream when the job has ended, so
//! there is nothing to poll. A workflow has no such stream: [`workflow_follow`] asks again and again, at a polite pace.
//! The room has no async runtime and nothing that only Linux has; it leaves by `_exit`, because gRPC's detached threads
//! and OpenSSL's exit handlers race at a normal return.

use std::ffi::OsString;
use std::io::Write;

use crate::sys::exit_now;

mod archive;
mod certificate;
mod cli;
mod command;
mod connect;
mod copy;
mod dashboard;
mod delivery;
mod environment;
mod error;
mod exit;
mod forward;
mod full_screen;
mod input;
mod interrupt;
mod job_screen;
mod out;
mod printer;
mod progress;
mod reconnect;
mod render;
mod resolve;
mod screen;
mod send;
mod server;
mod stdin;
mod terminal;
mod top;
mod upload;
mod wait_note;
mod wanted;
mod warned;
mod watch;
mod workflow_follow;

use cli::Parsed;
use error::Error;
use out::Out;

/// The whole program.
pub fn main() -> ! {
    panics_end_the_process();
    let code = run(std::env::args_os().skip(1).collect());
    // Everything was flushed where it was written; a reader that went away in between changes nothing now.
    let _ = std::io::stdout().flush();
    exit_now(code)
}

/// One command line to one exit code.
fn run(args: Vec<OsString>) -> i32 {
    let parsed = match cli::parse(args) {
        Ok(parsed) => parsed,
        Err(refused) => {
            let code = refused.command.and_then(|c| c.failure);
            return fail(Out::new(refused.json), &refused.error, code);
        }
    };
    match parsed {
        Parsed::Version => answer(Out::new(false), |out| out.text(&command::version::own())),
        Parsed::Complete(words) => answer(Out::new(false), |out| command::completion::answer(words, out)),
        Parsed::Help(words) => answer(Out::new(false), |out| out.text(&cli::help(&words)?)),
        Parsed::Invoke(invocation) => {
            let out = Out::new(invocation.values.is("json"));
            command::run(&invocation, out).unwrap_or_else(|e| fail(out, &e, invocation.command.failure))
        }
    }
}

fn answer(out: Out, say: impl FnOnce(Out) -> Result<(), Error>) -> i32 {
    say(out).map_or_else(|e| fail(out, &e, None), |()| 0)
}

fn fail(out: Out, error: &Error, code: Option<i32>) -> i32 {
    out.failure(error);
    error.exit_code(code)
}

/// A panic is our mistake; it ends the process at once, also when it is another thread's, with a number that
/// no job has.
fn panics_end_the_process() {
    std::panic::set_hook(Box::new(|info| {
        let _ = writeln!(std::io::stderr(), "rnx: internal error, please report it: {info}");
        exit_now(exit::FAILED)
    }));
}
