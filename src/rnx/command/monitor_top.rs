//! `rnx monitor top`

use super::super::cli::{Command, Flag, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::monitor as text;
use super::monitor;

/// `rnx monitor top` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["monitor", "top"],
    alias: false,
    usage: "[flags]",
    operands: Operands::Nothing,
    flags: FLAGS,
    summary: "Follow the processes of the host that use most",
    about: "Processor, memory and swap as bars, and the ten processes with most processor time, jobs' included.\n\
            On a terminal one picture; q or Ctrl-C leaves. Elsewhere it prints sample after sample.",
    examples: &["rnx monitor top", "rnx monitor top --interval=1", "rnx monitor top --compact"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

static FLAGS: &[Flag] = &[monitor::FILTER, monitor::INTERVAL, monitor::COMPACT];

/// Shows the processes until somebody ends it.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    monitor::follow(invocation, out, |sample, _, columns| text::top(sample, columns))
}
