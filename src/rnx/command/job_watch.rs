//! `rnx job watch`

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::full_screen::{self, Signals};
use super::super::out::Out;
use super::super::{job_screen, resolve};
use super::connect;

/// `rnx job watch` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["job", "watch"],
    alias: false,
    usage: "<job-uuid>",
    operands: Operands::One("job-uuid"),
    flags: &[],
    summary: "Show status, curves and output of a job on one screen",
    about: "Until the job has ended, or q or Ctrl-C leaves; the job goes on. It needs a terminal. rnx job log and\n\
            rnx job metrics print the same into files and pipes.",
    examples: &["rnx job watch f47ac10b", "rnx job watch @last"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

/// Shows a job until it ends.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    if out.json || !full_screen::is_possible() {
        let text = "job watch needs a terminal";
        return Err(Error::usage(text).hint("rnx job log and rnx job metrics print into files and pipes"));
    }
    // Before the channel: gRPC's threads must inherit the mask.
    let signals = Signals::block()?;
    let server = connect(&invocation.values, out)?;
    let uuid = resolve::job(server, invocation)?;
    job_screen::show(server, &uuid, &signals, out)
}
