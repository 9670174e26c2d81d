//! A command: its description, written once beside its code, and the flags and operands of one command line.

use getopts::Matches;

use super::super::error::Result;
use super::super::out::Out;
use super::flag::{Flag, GLOBALS};

/// The words that a command takes beside its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operands {
    /// No word at all.
    Nothing,
    /// One word with this name.
    One(&'static str),
    /// Two words with these names.
    Two(&'static str, &'static str),
    /// One word or more, each of this name.
    Many(&'static str),
    /// Any number of words.
    Words,
    /// The job's own command line: from the first word on nothing belongs to rnx.
    JobCommand,
    /// A job, and behind it a command line of its own, of which nothing belongs to rnx.
    JobAndCommand,
}

/// How a command runs, and where its exit code comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Run {
    /// Exit code 0 unless it fails.
    Plain(fn(&Invocation, Out) -> Result<()>),
    /// The command returns its exit code, such as that of a job.
    WithCode(fn(&Invocation, Out) -> Result<i32>),
}

/// The description of one command.
#[derive(Debug)]
pub(crate) struct Command {
    /// Its words: `["job", "run"]`.
    pub(crate) path: &'static [&'static str],
    /// Whether its last word alone works too (`rnx run`), as in the first versions.
    pub(crate) alias: bool,
    /// Operands as help shows them.
    pub(crate) usage: &'static str,
    /// Operands as the parser takes them.
    pub(crate) operands: Operands,
    /// Its own flags; [`GLOBALS`] come on top.
    pub(crate) flags: &'static [Flag],
    /// One line for the list of commands.
    pub(crate) summary: &'static str,
    /// Paragraphs below the summary.
    pub(crate) about: &'static str,
    /// Example command lines.
    pub(crate) examples: &'static [&'static str],
    /// The statuses of the jobs that completion offers as operands; empty means every status.
    pub(crate) statuses: &'static [&'static str],
    /// The exit code of every failure; `None`: each kind of failure has its own.
    pub(crate) failure: Option<i32>,
    /// The code of the command.
    pub(crate) run: Run,
}

impl Command {
    /// The words with spaces: `job run`.
    pub(crate) fn name(&self) -> String {
        self.path.join(" ")
    }

    /// Its own flags, then the global ones.
    pub(crate) fn all_flags(&self) -> impl Iterator<Item = &'static Flag> + use<> {
        self.flags.iter().chain(GLOBALS.iter())
    }
}

/// A command with everything it was given.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// The command that was named.
    pub(crate) command: &'static Command,
    /// The flags that were given.
    pub(crate) values: Values,
    /// Its operands; for `job run` the job's command line.
    pub(crate) operands: Vec<String>,
}

/// The flags of one command line.
#[derive(Debug)]
pub(crate) struct Values(pub(super) Matches);

impl Values {
    /// Whether a switch was given.
    pub(crate) fn is(&self, long: &str) -> bool {
        self.0.opt_present(long)
    }

    /// The last value of a flag.
    pub(crate) fn last(&self, long: &str) -> Option<String> {
        self.0.opt_strs(long).pop()
    }

    /// Every value of a flag, in order.
    pub(crate) fn all(&self, long: &str) -> Vec<String> {
        self.0.opt_strs(long)
    }

    /// The values of several flags in the order of the command line, each with its flag.
    pub(crate) fn in_order<'a>(&self, longs: &[&'a str]) -> Vec<(&'a str, String)> {
        let mut found: Vec<_> = longs
            .iter()
            .flat_map(|l| self.0.opt_strs_pos(l).into_iter().map(move |(at, v)| (at, *l, v)))
            .collect();
        found.sort_by_key(|(at, _, _)| *at);
        found.into_iter().map(|(_, l, v)| (l, v)).collect()
    }
}
