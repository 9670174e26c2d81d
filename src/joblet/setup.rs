//! `joblet setup`: makes certificates and configuration files.

use super::{Failure, certs};
use crate::certs::setup;

/// Runs `joblet setup` with the arguments after that word.
pub(super) fn run(args: &[String]) -> Result<i32, Failure> {
    certs::report(setup::command(args))
}
