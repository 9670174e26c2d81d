//! `rnx help`

use super::super::cli::{self, Command, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;

/// `rnx help` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["help"],
    alias: false,
    usage: "[command or topic]",
    operands: Operands::Words,
    flags: &[],
    summary: "Explain a command or a topic",
    about: "",
    examples: &["rnx help job run", "rnx help config"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

/// Prints the help for the words behind `help`.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    out.text(&cli::help(&invocation.operands)?)
}
