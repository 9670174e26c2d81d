//! `rnx dashboard`

use std::net::{SocketAddr, TcpListener};

use super::super::cli::flag::{Group, value};
use super::super::cli::{Command, Flag, Invocation, Operands, Run, value as values};
use super::super::dashboard::{self, Access, Dashboard};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::connect_as;
use serde_json::json;

/// `rnx dashboard` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["dashboard"],
    alias: false,
    usage: "[flags]",
    operands: Operands::Nothing,
    flags: FLAGS,
    summary: "Serve the node as pages for a browser on this machine",
    about: "It prints an address with a token, for a browser on this machine; Ctrl-C ends it. The pages can do what the\n\
            certificate of rnx can: with that of a viewer they change nothing. Programs send the token as\n\
            Authorization: Bearer TOKEN; streams are Server-Sent Events (docs/dashboard.md).",
    examples: &["rnx dashboard", "rnx dashboard --listen 127.0.0.1:8080", "rnx --node=viewer dashboard"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

/// Where it listens by default.
const LISTEN: &str = "127.0.0.1:7070";

static FLAGS: &[Flag] = &[value(
    "listen",
    "ADDR",
    Group::Output,
    "Address and port on this machine (default 127.0.0.1:7070); port 0: any\nfree one",
)];

/// Serves the dashboard until somebody ends it.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let text = invocation.values.last("listen").unwrap_or_else(|| LISTEN.to_owned());
    let wanted = address(&text)?;
    let (server, role) = connect_as(&invocation.values, out)?;
    let failed = |why| {
        let text = format!("cannot serve the dashboard at {wanted}: {why}");
        Error::Configure(text.into()).hint("choose another address with --listen; port 0 is any free one")
    };
    let listener = TcpListener::bind(wanted).map_err(failed)?;
    let access = Access::new(listener.local_addr().map_err(failed)?)?;
    let first = access.first_address();
    if out.json {
        out.value_line(&json!({ "url": first, "node": server.address(), "role": role }))?;
    } else {
        out.text(&format!("{first}\n"))?;
        out.note(&format!(
            "rnx: this address shows {}, and lets in whoever has it; Ctrl-C ends it",
            server.address()
        ));
    }
    dashboard::serve(Dashboard::new(server, role, access), &listener)
}

/// An address that nobody else reaches: what is served has our rights on the node.
fn address(text: &str) -> Result<SocketAddr> {
    let address: SocketAddr = text.parse().map_err(|_| {
        values::invalid("listen", text, "give an address with a port, such as 127.0.0.1:7070")
    })?;
    if !address.ip().is_loopback() {
        let why = "other machines reach it, and it has your rights on the node; listen at 127.0.0.1 or [::1], and \
                   come from elsewhere by ssh -L";
        return Err(values::invalid("listen", text, why));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_machine_are_taken() {
        for good in ["127.0.0.1:7070", "127.8.0.1:0", "[::1]:80"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for wrong in
            ["0.0.0.0:7070", "[::]:7070", "192.168.0.1:7070", "7070", "localhost:7070", "", "127.0.0.1"]
        {
            assert_eq!(address(wrong).unwrap_err().exit_code(None), 2, "{wrong}");
        }
    }
}
