//! `joblet certs`: makes, shows and revokes certificates.

use super::usage::Usage;
use super::{Failure, print};
use crate::certs::{CertError, command};

/// Runs `joblet certs` with the arguments after that word.
pub(super) fn run(args: &[String]) -> Result<i32, Failure> {
    report(command::command(args))
}

/// Prints the result of a command about certificates; wrong arguments are a wrong command line.
pub(super) fn report(done: Result<String, CertError>) -> Result<i32, Failure> {
    match done {
        Ok(done) => print(&format!("{}\n", done.trim_end())),
        Err(why @ (CertError::ReadArguments { .. } | CertError::NameHost { .. })) => {
            Err(Usage(why.to_string()).into())
        }
        Err(why) => Err(why.into()),
    }
}
