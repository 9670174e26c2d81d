//! `rnx man`

use super::super::cli::{self, Command, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;

/// `rnx man` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["man"],
    alias: false,
    usage: "",
    operands: Operands::Nothing,
    flags: &[],
    summary: "Print the manual page, for man",
    about: "  to read it     rnx man | man -l -\n  to install it  rnx man > /usr/local/share/man/man1/rnx.1",
    examples: &["rnx man | man -l -"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

/// Prints the manual page.
fn run(_: &Invocation, out: Out) -> Result<()> {
    out.text(&cli::man())
}
