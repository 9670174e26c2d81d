//! What each command does: one file each, named like the command.
//!
//! A command reads its flags, asks the server, and gives the answer to [`render`](super::render); it decides
//! nothing that another command decides too. What can be wrong with flags and files is
//! found before the first byte goes to a server.

use std::time::Duration;

use jiff::Zoned;

use super::cli::{Action, Invocation, Values, time, value};
use super::connect;
use super::error::{Error, Result};
use super::out::Out;
use super::server::Server;
use super::terminal::one_line;
use crate::config::search::process_environment;

mod cancel;
pub(crate) mod complete;
mod delete;
mod delete_all;
mod list;
mod log;
pub(crate) mod metrics;
mod nodes;
mod resolve;
mod run;
mod status;
mod stop;
pub(crate) mod version;
mod wait;

/// How long a question about a job may take.
const QUERY: Duration = Duration::from_secs(10);
/// How long a deletion may take: it waits for the job's files.
const CHANGE: Duration = Duration::from_secs(60);

/// Runs a command and tells the exit code.
pub(crate) fn run(invocation: &Invocation, out: Out) -> Result<i32> {
    match invocation.command.action {
        Action::Run => return run::run(invocation, out),
        Action::Status => return status::run(invocation, out),
        Action::List => list::run(invocation, out)?,
        Action::Log => log::run(invocation, out)?,
        Action::Metrics => metrics::run(invocation, out)?,
        Action::Wait => return wait::run(invocation, out),
        Action::Cancel => cancel::run(invocation, out)?,
        Action::Stop => stop::run(invocation, out)?,
        Action::Delete => delete::run(invocation, out)?,
        Action::DeleteAll => delete_all::run(invocation, out)?,
        Action::Nodes => nodes::run(invocation, out)?,
        Action::Completion => complete::script(invocation, out)?,
        Action::Man => out.text(&super::cli::man())?,
        Action::Version => version::run(invocation, out)?,
        Action::Help => out.text(&super::cli::help(&invocation.operands)?)?,
    }
    Ok(0)
}

/// Opens the channel that flags, environment and configuration describe. It lives as long as the process:
/// nobody would see it closed, and taking it down means waiting for gRPC's threads.
fn connect(values: &Values, out: Out) -> Result<&'static Server> {
    let settings = connect::settings(values, &process_environment)?;
    for warning in &settings.warnings {
        out.note(&format!("warning: {}", one_line(warning)));
    }
    let server = Server::open(&settings)?;
    Ok(Box::leak(Box::new(server.suspecting(settings))))
}

/// `--since` and `--until` as ns since the epoch; 0 where one is not given.
fn range(values: &Values, now: &Zoned, out: Out) -> Result<(i64, i64)> {
    let moment = |flag| -> Result<i64> {
        let Some(text) = values.last(flag) else { return Ok(0) };
        let given = time::past(flag, &text, now)?;
        if let Some(note) = given.note {
            out.note(&format!("rnx: --{flag}: {note}"));
        }
        let beyond = |_| value::invalid(flag, &text, "it is beyond the times that a job can have");
        // 0 would be none; before 1970 there is nothing to find.
        i64::try_from(given.time.as_nanosecond().max(1)).map_err(beyond)
    };
    let (since_ns, until_ns) = (moment("since")?, moment("until")?);
    if until_ns != 0 && until_ns < since_ns {
        return Err(Error::usage("--until is before --since"));
    }
    Ok((since_ns, until_ns))
}
