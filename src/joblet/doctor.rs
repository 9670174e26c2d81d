//! `joblet doctor`: prints the checks of this host.

use std::io::IsTerminal;

use super::{Failure, flags, print};
use crate::doctor;

/// Runs `joblet doctor` with the arguments after that word; exit code 1 where a check fails.
pub(super) fn run(args: &[String]) -> Result<i32, Failure> {
    let mut options = flags::with_config();
    options.optflag("", "json", "print an array of {check, status, seen, remedy}");
    let about = "Usage: joblet doctor [--config FILE] [--json]\n\nChecks whether this host is fit for the \
                 configuration, and changes nothing. Exit code 1: something fails.";
    let given = match flags::subcommand("doctor", about, options, args)? {
        Ok(given) => given,
        Err(help) => return print(&help),
    };
    let findings = doctor::command(flags::config(&given).as_deref());
    print(&if given.opt_present("json") {
        doctor::json(&findings)
    } else {
        doctor::text(&findings, std::io::stdout().is_terminal())
    })?;
    Ok(i32::from(findings.iter().any(|finding| finding.status == doctor::Status::Fail)))
}
