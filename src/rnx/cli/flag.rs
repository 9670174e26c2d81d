//! The description of a flag, and the flags of every command. The other flags stand beside their commands. Parser,
//! help, completion and manual read these tables and nothing else, so a flag that is shown is a flag that works.

use std::fmt;

/// Whether a value follows a flag on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: the flag is there or it is not.
    Switch,
    /// One value; the word is its placeholder in help.
    Value(&'static str),
}

/// The heading below which help lists a flag, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// When a job starts.
    Start,
    /// Limits of the job.
    Limits,
    /// The contents of the job's sandbox.
    Contents,
    /// Which jobs are meant.
    Selection,
    /// Which part of an output is meant.
    Part,
    /// The behaviour of rnx after the start.
    Waiting,
    /// How an answer is printed.
    Output,
    /// Accepted by every command, before and after its name.
    Global,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Group::Start => "The start",
            Group::Limits => "Limits",
            Group::Contents => "What the job gets",
            Group::Selection => "Which jobs",
            Group::Part => "Which part",
            Group::Waiting => "After the start",
            Group::Output => "Output",
            Group::Global => "Global flags (before or after the command)",
        })
    }
}

/// The description of one flag.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Name without the dashes.
    pub(crate) long: &'static str,
    /// One letter, if it has one.
    pub(crate) short: Option<char>,
    /// Whether a value follows.
    pub(crate) kind: Kind,
    /// All values count; otherwise the last one wins, so that scripts can append overrides.
    pub(crate) multi: bool,
    /// The environment variable that stands in for an absent flag.
    pub(crate) env: Option<&'static str>,
    /// One or more lines for help.
    pub(crate) help: &'static str,
    /// Where help lists it.
    pub(crate) group: Group,
    /// Accepted but not listed: another spelling of a listed flag.
    pub(crate) hidden: bool,
}

pub(crate) const fn switch(
    long: &'static str,
    short: Option<char>,
    group: Group,
    help: &'static str,
) -> Flag {
    Flag { long, short, kind: Kind::Switch, multi: false, env: None, help, group, hidden: false }
}

pub(crate) const fn value(long: &'static str, what: &'static str, group: Group, help: &'static str) -> Flag {
    Flag { long, short: None, kind: Kind::Value(what), multi: false, env: None, help, group, hidden: false }
}

pub(crate) const fn list(
    long: &'static str,
    short: Option<char>,
    what: &'static str,
    help: &'static str,
) -> Flag {
    let group = Group::Contents;
    Flag { long, short, kind: Kind::Value(what), multi: true, env: None, help, group, hidden: false }
}

const fn global(long: &'static str, what: &'static str, env: &'static str, help: &'static str) -> Flag {
    let group = Group::Global;
    let kind = Kind::Value(what);
    Flag { long, short: None, kind, multi: false, env: Some(env), help, group, hidden: false }
}

/// Flags of every command.
pub(crate) static GLOBALS: &[Flag] = &[
    global("config", "FILE", "RNX_CONFIG", "Client configuration (rnx help config: where it is searched)"),
    global(
        "node",
        "NAME",
        "RNX_NODE",
        "Node of the configuration (default: the one marked or named so, or the only one)",
    ),
    switch("json", None, Group::Global, "Print JSON on stdout, failures too"),
    global("server", "ADDR", "JOBLET_SERVER", "Server address, host:port (default \"localhost:50051\")"),
    global("cert", "FILE", "JOBLET_CERT_PATH", "Client certificate (default \"certs/client-cert.pem\")"),
    global("key", "FILE", "JOBLET_KEY_PATH", "Client private key (default \"certs/client-key.pem\")"),
    global("ca", "FILE", "JOBLET_CA_PATH", "CA certificate (default \"certs/ca-cert.pem\")"),
    switch("help", Some('h'), Group::Global, "Explain the command"),
];

/// Flags of `rnx` itself, before any command.
pub(crate) static ROOT: &[Flag] = &[switch("version", Some('v'), Group::Output, "Print the version of rnx")];

/// `--raw` of the commands that print the output of a job.
pub(crate) const RAW: Flag = switch(
    "raw",
    None,
    Group::Output,
    "Print the job's bytes to a terminal as they are. Without it escape \
     sequences other than colours and erase-in-line are made visible there; \
     pipes and files always get the bytes as they are",
);
