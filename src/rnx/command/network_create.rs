//! `rnx network create`

use super::super::cli::flag::{Group, switch, value};
use super::super::cli::{Command, Flag, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::render::network;
use super::{CHANGE, NETWORK_MODES, connect};
use crate::pb::joblet::CreateNetworkReq;

/// `rnx network create` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["network", "create"],
    alias: false,
    usage: "<name> --cidr RANGE [--internal]",
    operands: Operands::One("name"),
    flags: FLAGS,
    summary: "Make a network whose jobs reach each other",
    about: "Its jobs reach each other and the outside; with --internal nothing but each other.\n\
            The node keeps it until it is removed. A job gets it with rnx job run --network.",
    examples: &[
        "rnx network create lab --cidr 10.50.0.0/16",
        "rnx network create inner --cidr 10.51.0.0/24 --internal",
    ],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

static FLAGS: &[Flag] = &[
    value(
        "cidr",
        "RANGE",
        Group::Contents,
        "Its addresses: an IPv4 range of 8 to 30 bits, such as 10.50.0.0/16",
    ),
    switch("internal", None, Group::Contents, "Its jobs reach each other and nothing else"),
];

/// Makes a network.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let name = invocation.operands.first().cloned().unwrap_or_default();
    if NETWORK_MODES.contains(&name.as_str()) {
        return Err(Error::usage(format!("cannot use reserved network name: {name}")));
    }
    let cidr = invocation.values.last("cidr").filter(|cidr| !cidr.is_empty());
    let cidr =
        cidr.ok_or_else(|| Error::usage("--cidr is missing: give a range such as --cidr 10.50.0.0/16"))?;
    let server = connect(&invocation.values, out)?;
    let internal = invocation.values.is("internal");
    let request = CreateNetworkReq { name, cidr, internal, ..Default::default() };
    let made =
        server.ask_networks(CHANGE, |networks, option| networks.create_network_opt(&request, option))?;
    if out.json { out.value(&network::created_json(&made)) } else { out.text(&network::created(&made)) }
}
