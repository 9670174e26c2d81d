//! Every flag of rnx, once. Parser, help and the tests of both read these tables and nothing else, so a
//! flag that is shown is a flag that works.

use std::fmt;

/// What follows a flag on the command line.
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
    /// What the job finds inside its walls.
    Contents,
    /// Which jobs are meant.
    Selection,
    /// Which part of an output is meant.
    Part,
    /// What rnx does after the start.
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

/// One flag.
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

const fn switch(long: &'static str, short: Option<char>, group: Group, help: &'static str) -> Flag {
    Flag { long, short, kind: Kind::Switch, multi: false, env: None, help, group, hidden: false }
}

const fn value(long: &'static str, what: &'static str, group: Group, help: &'static str) -> Flag {
    Flag { long, short: None, kind: Kind::Value(what), multi: false, env: None, help, group, hidden: false }
}

const fn list(long: &'static str, short: Option<char>, what: &'static str, help: &'static str) -> Flag {
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
    global("node", "NAME", "RNX_NODE", "Node of the configuration (default \"default\")"),
    switch("json", None, Group::Global, "Print JSON on stdout, failures too"),
    global("server", "ADDR", "JOBLET_SERVER", "Server address, host:port (default \"localhost:50051\")"),
    global("cert", "FILE", "JOBLET_CERT_PATH", "Client certificate (default \"certs/client-cert.pem\")"),
    global("key", "FILE", "JOBLET_KEY_PATH", "Client private key (default \"certs/client-key.pem\")"),
    global("ca", "FILE", "JOBLET_CA_PATH", "CA certificate (default \"certs/ca-cert.pem\")"),
    switch("help", Some('h'), Group::Global, "Explain the command"),
];

/// Flags of `rnx` itself, before any command.
pub(crate) static ROOT: &[Flag] = &[switch("version", Some('v'), Group::Output, "Print the version of rnx")];

/// Flags of `rnx job run`.
pub(crate) static RUN: &[Flag] = &[
    value(
        "schedule",
        "TIME",
        Group::Start,
        "Start later: after a delay (45s, 30min, 2h30m, 1d) or at a time, here\n\
         (2025-08-03T15:00) or anywhere (2025-08-03T15:00:00Z)",
    ),
    value(
        "request-id",
        "ID",
        Group::Start,
        "Name this request: sent again, it gives the job that it has already\n\
         started instead of a second one",
    ),
    value(
        "max-cpu",
        "PERCENT",
        Group::Limits,
        "CPU in percent of one core, 100 = one core (default: server)",
    ),
    value("max-memory", "MB", Group::Limits, "Memory in MB, or with a unit: 512M, 2G (default: server)"),
    value("max-iobps", "BYTES", Group::Limits, "I/O in bytes a second, or with a unit: 4M (0 = unlimited)"),
    value("cpu-cores", "CORES", Group::Limits, "Cores the job may use: 3, 0-2, 0,2,4"),
    value("timeout", "TIME", Group::Limits, "Stop the job after this time: 30s, 5m, 1h30m (default: server)"),
    list("upload", None, "FILE", "Put this file into the job's /work, under its base name"),
    list(
        "upload-dir",
        None,
        "DIR",
        "Put what is below DIR into /work. Symlinks to files below DIR are sent\n\
         as files; other symlinks and special files are left out, with a warning",
    ),
    list("env", Some('e'), "K=V", "Environment variable; K alone takes the value from rnx's environment"),
    list(
        "secret-env",
        Some('s'),
        "K=V",
        "The same, shown as *** in every reply. Prefer K alone: K=V is\nvisible in ps",
    ),
    list(
        "secret-file",
        None,
        "K=FILE",
        "Secret variable read from FILE (- is stdin), less one final newline",
    ),
    value("workdir", "DIR", Group::Contents, "Working directory inside the job (default /work)"),
    Flag { hidden: true, ..value("work-dir", "DIR", Group::Contents, "Another spelling of --workdir") },
    value("network", "MODE", Group::Contents, "Network of the job (default: server)"),
    value("name", "NAME", Group::Contents, "A name for lists"),
    switch("wait", Some('w'), Group::Waiting, "Wait silently for the end and exit with the job's code"),
    switch("follow", Some('f'), Group::Waiting, "Print the job's output until its end, exit with its code"),
    switch("rm", None, Group::Waiting, "With --wait or --follow: delete the job after it succeeded"),
    switch("detach", Some('d'), Group::Waiting, "Return when the job has started (the default)"),
    switch("explain", None, Group::Waiting, "Print what a start would do, step by step, and start nothing"),
    switch("quiet", Some('q'), Group::Output, "Print only the id (with --follow: only the job's output)"),
    RAW,
];

/// Flags of `rnx job status`.
pub(crate) static STATUS: &[Flag] = &[switch(
    "security",
    None,
    Group::Output,
    "Read back from the kernel what stands around the running job",
)];

/// Flags of `rnx job list`.
pub(crate) static LIST: &[Flag] = &[
    Flag {
        multi: true,
        ..value(
            "status",
            "STATUS",
            Group::Selection,
            "Only jobs in one of these: RUNNING,FAILED or one a flag",
        )
    },
    value("name", "NAME", Group::Selection, "Only jobs of this name"),
    value("limit", "N", Group::Selection, "At most N jobs, the oldest that fit"),
    Flag {
        short: Some('o'),
        ..value("output", "table|wide|json", Group::Output, "As a table, one with every column, or JSON")
    },
];

/// Flags of `rnx job log`.
pub(crate) static LOG: &[Flag] = &[
    value("stream", "stdout|stderr", Group::Part, "Only this stream"),
    value("filter", "TEXT", Group::Part, "Only lines with this text in them"),
    value(
        "since",
        "TIME",
        Group::Part,
        "Only what was written at this time or later: 10m (ago), 2025-08-03T15:00\n\
         (here), 2025-08-03T15:00:00Z",
    ),
    value("until", "TIME", Group::Part, "Only what was written at this time or before"),
    Flag {
        short: Some('n'),
        ..value("tail", "N|all", Group::Part, "Of what is there, only the last N lines; then what follows")
    },
    value("from-seq", "N", Group::Part, "Only from this sequence number on, as --json has them"),
    switch("no-follow", None, Group::Part, "End with what is there now"),
    switch("follow", Some('f'), Group::Part, "Follow the job to its end (the default)"),
    Flag { hidden: true, ..value("lines", "N|all", Group::Part, "Another spelling of --tail") },
    switch(
        "timestamps",
        Some('t'),
        Group::Output,
        "Print before each line when it was written; --json always has it",
    ),
    RAW,
];

/// Flags of `rnx job metrics`.
pub(crate) static METRICS: &[Flag] = &[
    value(
        "aggregate",
        "avg|min|max|sum",
        Group::Output,
        "One sample made of many: of all there are now, or see --interval",
    ),
    value(
        "interval",
        "TIME",
        Group::Output,
        "With --aggregate: one sample for each 1m, 1h, ... as it is over",
    ),
    value("since", "TIME", Group::Output, "From a time on (2025-08-03T15:00), or so long ago (10m, 2h30m)"),
    value("until", "TIME", Group::Output, "Up to a time; one that is past ends the command there"),
    switch("watch", None, Group::Output, "Show the job in the terminal until it ends or q is pressed"),
];

/// Flags of `rnx job wait`.
pub(crate) static WAIT: &[Flag] = &[
    switch("any", None, Group::Waiting, "Until the first of them has ended"),
    value("timeout", "TIME", Group::Waiting, "Give up after this time: 30s, 5m, 1h30m; the jobs go on"),
];

/// Flags of `rnx job delete-all`.
pub(crate) static DELETE_ALL: &[Flag] =
    &[switch("yes", Some('y'), Group::Output, "Do not ask, also not on a terminal")];

const RAW: Flag = switch(
    "raw",
    None,
    Group::Output,
    "Print the job's bytes to a terminal as they are. Without it escape\n\
     sequences other than colours are made visible there; pipes and files\n\
     always get the bytes as they are",
);
