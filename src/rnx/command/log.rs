//! `rnx job log`

use super::super::cli::Invocation;
use super::super::error::Result;
use super::super::interrupt::Interrupt;
use super::super::out::Out;
use super::super::printer::{Printer, Streams};
use super::super::render::{json, text};
use super::{connect, which};

/// Prints what a job has written and follows it to its end.
pub(super) fn run(invocation: &Invocation, out: Out) -> Result<()> {
    // Before the channel: gRPC's threads must inherit the mask.
    let interrupt = Interrupt::watch();
    let server = connect(&invocation.values, out)?;
    let id = which::job(server, invocation)?;
    interrupt.about(&id);
    if out.json {
        return server.output(&id, |chunk| out.value_line(&json::chunk(chunk)));
    }
    out.note(&text::log_heading(&id));
    let mut printer = Printer::new(out, Streams::Merged, invocation.values.is("raw"));
    let ended = server.output(&id, |chunk| printer.chunk(chunk));
    printer.finish()?;
    ended
}
