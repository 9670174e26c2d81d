//! `rnx monitor status`

use super::super::cli::{Command, Flag, Invocation, Operands, Run};
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::{monitor as text, monitor_json};
use super::{QUERY, connect, monitor};
use crate::pb::joblet::EmptyRequest;

/// `rnx monitor status` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["monitor", "status"],
    alias: false,
    usage: "[flags]",
    operands: Operands::Nothing,
    flags: FLAGS,
    summary: "Print the state of the host",
    about: "Processors, memory, disks, interfaces, processes, and the cloud that the host is in. Shares and rates\n\
            are those of the last moments. With --json one object in the form that dashboards of nodes read.",
    examples: &[
        "rnx monitor status",
        "rnx monitor status --filter=cpu,memory",
        "rnx --json monitor status | jq .cpuInfo",
    ],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

static FLAGS: &[Flag] = &[monitor::FILTER, monitor::COMPACT];

/// Prints the host once.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let filter = monitor::filter(&invocation.values)?;
    let server = connect(&invocation.values, out)?;
    let status = server
        .ask_host(QUERY, |host, option| host.get_system_status_opt(&EmptyRequest::default(), option))?;
    let sample = text::metrics(&status);
    if out.json {
        out.value(&monitor_json::json(&text::only(sample, &filter)))
    } else if invocation.values.is("compact") {
        out.text(&text::line(&text::only(sample, &filter)))
    } else {
        out.text(&text::status(&status, &filter))
    }
}
