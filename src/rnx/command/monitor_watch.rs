//! `rnx monitor watch`

use super::super::cli::{Command, Flag, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::fit::cut;
use super::super::render::monitor as text;
use super::monitor;
use crate::pb::joblet::SystemMetricsRes;

/// `rnx monitor watch` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["monitor", "watch"],
    alias: false,
    usage: "[flags]",
    operands: Operands::Nothing,
    flags: FLAGS,
    summary: "Follow the state of the host",
    about: "On a terminal one picture that is drawn anew with each sample; q or Ctrl-C leaves. Elsewhere it prints\n\
            sample after sample, with --json an object a line.",
    examples: &[
        "rnx monitor watch --interval=2",
        "rnx monitor watch --compact",
        "rnx --json monitor watch --filter=cpu",
    ],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

static FLAGS: &[Flag] = &[monitor::FILTER, monitor::INTERVAL, monitor::COMPACT];

/// Prints the host until somebody ends it.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    monitor::follow(invocation, out, draw)
}

fn draw(sample: &SystemMetricsRes, filter: &[String], columns: usize) -> Vec<String> {
    text::blocks(sample, filter).trim_end().lines().map(|line| cut(line, columns)).collect()
}
