//! The clock of several jobs, for `rnx job pause` and `rnx job resume`.

use super::super::cli::Invocation;
use super::super::error::Result;
use super::super::out::Out;
use super::super::render::clock;
use super::super::resolve;
use super::super::server::Server;
use super::{connect, several};
use crate::pb::joblet::JobClockRes;

/// Changes the clock of each job in turn by `change`, which takes a job's id, and prints each answer as `text` shows it.
pub(super) fn change(
    invocation: &Invocation,
    out: Out,
    change: impl Fn(&Server, &str) -> Result<JobClockRes>,
    text: fn(&JobClockRes) -> String,
) -> Result<i32> {
    let server = connect(&invocation.values, out)?;
    let print =
        |job: &JobClockRes| if out.json { out.value(&clock::json(job)) } else { out.text(&text(job)) };
    let value = |job: &JobClockRes| serde_json::to_value(clock::json(job));
    several::each(out, &resolve::jobs(server, invocation)?, |uuid| change(server, uuid), print, value)
}
