//! `joblet --check-config`: prints the effective configuration on stdout and its warnings on stderr.

use std::io::Write;
use std::path::Path;

use super::{Failure, print};
use crate::api::access;
use crate::config::daemon::DaemonConfig;

/// Checks the configuration as the daemon would at its start, certificates included.
pub(super) fn run(path: Option<&Path>) -> Result<i32, Failure> {
    let loaded = DaemonConfig::load(path)?;
    for warning in &loaded.warnings {
        writeln!(std::io::stderr(), "warning: {warning}")?;
    }
    access::check(&loaded.config.security)?;
    print(&loaded.config.effective())
}
