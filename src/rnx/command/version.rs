//! `rnx version` and `rnx --version`

use std::time::Duration;

use serde::Serialize;

use super::super::cli::{Command, Invocation, Operands, Run};
use super::super::error::{Error, Result};
use super::super::out::Out;
use super::super::terminal::one_line;
use super::super::{connect, server::Server};
use crate::config::search::process_environment;
use crate::pb::joblet::EmptyRequest;

/// `rnx version` as parser, help, completion and manual show it.
pub(super) static COMMAND: Command = Command {
    path: &["version"],
    alias: false,
    usage: "",
    operands: Operands::Nothing,
    flags: &[],
    summary: "Print the versions of rnx and of the server",
    about: "Without a client configuration rnx prints only its own version and asks no server.",
    examples: &["rnx version --json"],
    statuses: &[],
    failure: None,
    run: Run::Plain(run),
};

/// Longest wait for the server's version.
const DEADLINE: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize)]
struct Versions {
    rnx: Program,
    #[serde(skip_serializing_if = "Option::is_none")]
    joblet: Option<Program>,
}

#[derive(Debug, Serialize)]
struct Program {
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
}

/// rnx's own version, as `rnx --version` prints it.
pub(crate) fn own() -> String {
    format!("rnx {}\n", env!("CARGO_PKG_VERSION"))
}

/// Prints the version of rnx and, where a configuration names a server, that of the server.
fn run(invocation: &Invocation, out: Out) -> Result<()> {
    let server = match connect::settings(&invocation.values, &process_environment) {
        // There is no server to ask.
        Err(Error::Configure(_)) => None,
        Err(e) => return Err(e),
        Ok(settings) => Some(Server::open(&settings)?),
    };
    let theirs = server
        .as_ref()
        .map(|s| s.ask_host(DEADLINE, |host, o| host.get_system_status_opt(&EmptyRequest::default(), o)));
    let theirs = theirs.map(|answer| answer.map(|status| status.server_version.version.clone()));
    if out.json {
        let platform = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
        let rnx = Program { version: env!("CARGO_PKG_VERSION").into(), platform: Some(platform) };
        let joblet = theirs.and_then(Result::ok).map(|version| Program { version, platform: None });
        return out.value(&Versions { rnx, joblet });
    }
    out.text(&own())?;
    match theirs {
        Some(Ok(version)) => out.text(&format!("joblet {}\n", one_line(&version))),
        Some(Err(e)) => {
            out.note(&format!("the server's version is not known: {}", one_line(&e.to_string())));
            Ok(())
        }
        None => Ok(()),
    }
}
