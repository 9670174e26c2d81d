//! `rnx top`

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::super::cli::flag::{Group, switch, value};
use super::super::cli::{Command, Flag, Invocation, Operands, Run, Values, value};
use super::super::error::Result;
use super::super::full_screen::{self, Picture, Signals};
use super::super::out::Out;
use super::super::render::top::{Order, Top, Update};
use super::super::top;
use super::connect;

/// `rnx top` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["top"],
    alias: false,
    usage: "[flags]",
    operands: Operands::Nothing,
    flags: FLAGS,
    summary: "Follow the running jobs that use most",
    about: "On a terminal one picture: c, m, i, n and t sort by processor, memory, disk, network and time, / shows\n\
            only jobs with a text in their id, name or command (Enter ends the text, Escape removes it), q or\n\
            Ctrl-C leaves. Elsewhere, and with --batch, it prints one table, or as many as --count says; with\n\
            --json an array a line.",
    examples: &["rnx top", "rnx top --sort memory", "rnx top --batch --count 10 --interval 5"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

static FLAGS: &[Flag] = &[
    value(
        "sort",
        "cpu|memory|io|network|time",
        Group::Output,
        "What those that come first use most of (default cpu)",
    ),
    value("filter", "TEXT", Group::Selection, "Only jobs with this text in their id, name or command"),
    value("interval", "SECONDS", Group::Output, "Seconds from one list of jobs to the next (default 2)"),
    switch("batch", Some('b'), Group::Output, "Print tables, also on a terminal"),
    Flag {
        short: Some('n'),
        ..value("count", "N", Group::Output, "Print so many tables, and end (default 1)")
    },
];

/// The longest wait for samples of all jobs before the first table.
const FIRST: Duration = Duration::from_secs(3);
/// The longest interval, seconds.
const LONGEST: u64 = 3600;

/// Shows the jobs until somebody ends it, or prints tables.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let values = &invocation.values;
    let word = values.last("sort").unwrap_or_else(|| "cpu".to_owned());
    let wrong = || value::invalid("sort", &word, "it is cpu, memory, io, network or time");
    let mut view = Top::new(Order::of(&word).ok_or_else(wrong)?, values.last("filter").unwrap_or_default());
    let interval = Duration::from_secs(number(values, "interval", LONGEST)?.unwrap_or(2));
    let count = number(values, "count", u64::MAX)?;
    if out.json || values.is("batch") || count.is_some() || !full_screen::is_possible() {
        let server = connect(values, out)?;
        let updates = top::follow(server, interval)?;
        return print(&updates, &mut view, interval, count.unwrap_or(1), out);
    }
    // It reads Ctrl-C as a key, and other signals by itself. Before the channel: gRPC's threads must inherit the mask.
    let signals = Signals::block()?;
    let server = connect(values, out)?;
    let updates = top::follow(server, interval)?;
    full_screen::show(&updates, &signals, &mut view).map(drop)
}

/// Prints tables, the first one when every job has been measured.
fn print(
    updates: &Receiver<Result<Update>>,
    view: &mut Top,
    interval: Duration,
    count: u64,
    out: Out,
) -> Result<()> {
    let mut listed = false;
    let mut until = Instant::now() + FIRST;
    for table in 0..count {
        loop {
            if table == 0 && listed && view.is_complete() {
                break;
            }
            match updates.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(update) => {
                    let update = update?;
                    listed |= matches!(update, Update::Jobs(..));
                    view.add(update);
                }
                // A server that takes long for its first list is waited for: the call has a deadline of its own.
                Err(RecvTimeoutError::Timeout) if listed => break,
                Err(RecvTimeoutError::Timeout) => until = Instant::now() + FIRST,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
        until = Instant::now() + interval;
        if out.json {
            out.value_line(&view.json())?;
        } else {
            let between = if table > 0 { "\n" } else { "" };
            let now = jiff::Timestamp::now().to_string();
            out.text(&format!("{between}{}\n{}", view.sums(), view.table(&now)))?;
        }
    }
    Ok(())
}

/// A whole number from 1 on.
fn number(values: &Values, flag: &str, most: u64) -> Result<Option<u64>> {
    let Some(text) = values.last(flag) else { return Ok(None) };
    match text.strip_suffix('s').filter(|_| flag == "interval").unwrap_or(&text).parse::<u64>() {
        Ok(n) if (1..=most).contains(&n) => Ok(Some(n)),
        _ if most == u64::MAX => Err(value::invalid(flag, &text, "it is a whole number from 1 on")),
        _ => Err(value::invalid(flag, &text, &format!("it is a number of seconds, 1 to {most}"))),
    }
}
