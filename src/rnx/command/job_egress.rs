//! `rnx job egress`

use serde::Serialize;

use super::super::cli::flag::list;
use super::super::cli::{Command, Flag, Invocation, Operands, Run, Values};
use super::super::error::Result;
use super::super::out::Out;
use super::super::resolve;
use super::super::terminal::one_line;
use super::{CHANGE, connect};
use crate::pb::joblet::ChangeEgressReq;

/// `rnx job egress` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["job", "egress"],
    alias: false,
    usage: "[flags] <job-uuid>",
    operands: Operands::One("job-uuid"),
    flags: FLAGS,
    summary: "Show or change what a running job may reach",
    about: "Without flags the egress list in force is printed, one entry a line. A change counts for new\n\
            connections at once; connections that are open go on. A list from which the last entry is\n\
            taken allows nothing. A job without a list gets one by --add, and reaches nothing else then.",
    examples: &[
        "rnx job egress f47ac10b",
        "rnx job egress --add example.org,10.1.0.0/16:5432 f47ac10b",
        "rnx job egress --add '!*' f47ac10b",
        "rnx job egress --remove preset:npm f47ac10b",
    ],
    statuses: &["RUNNING"],
    failure: None,
    run: Run::Plain(run),
};

static FLAGS: &[Flag] = &[
    list("add", None, "LIST", "Entries to add, separated by commas: names, addresses, preset:NAME, !denials"),
    list("remove", None, "LIST", "Entries to take out, as the list shows them"),
];

/// The entries of a flag that takes lists, in their order.
pub(super) fn entries(values: &Values, flag: &str) -> Vec<String> {
    let lists = values.all(flag);
    let entries = lists.iter().flat_map(|list| list.split(',')).map(|entry| entry.trim().to_owned());
    entries.collect()
}

/// The answer with `--json`.
#[derive(Serialize)]
struct Listed<'a> {
    uuid: &'a str,
    egress: &'a [String],
}

fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let values = &invocation.values;
    let (add, remove) = (entries(values, "add"), entries(values, "remove"));
    let server = connect(values, out)?;
    let uuid = resolve::job(server, invocation)?;
    let request = ChangeEgressReq { uuid, add, remove, ..Default::default() };
    let answer =
        server.ask_networks(CHANGE, |networks, option| networks.change_egress_opt(&request, option))?;
    if out.json {
        return out.value(&Listed { uuid: &answer.uuid, egress: &answer.egress });
    }
    if answer.egress.is_empty() {
        out.note("the job has no egress list: it reaches what its network reaches");
    }
    out.text(&answer.egress.iter().map(|entry| one_line(entry) + "\n").collect::<String>())
}
