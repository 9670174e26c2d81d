//! `joblet recover`: makes a new job database from a damaged one and what the jobs left.

use super::{Failure, flags, print};
use crate::config::daemon::DaemonConfig;
use crate::daemon::assemble;

/// Runs `joblet recover` with the arguments after that word.
pub(super) fn run(args: &[String]) -> Result<i32, Failure> {
    let about = "Usage: joblet recover [--config FILE]\n\nReads what can be read of the job database, rebuilds \
                 what cannot from what the jobs left beside their output and exit records, and writes a new one. \
                 The old one is kept aside, and so is the output of jobs that are lost. The daemon must not run.";
    let given = match flags::subcommand("recover", about, flags::with_config(), args)? {
        Ok(given) => given,
        Err(help) => return print(&help),
    };
    let loaded = DaemonConfig::load(flags::config(&given).as_deref())?;
    let salvaged = assemble::recover(&loaded.config)?;
    let lost = salvaged.lost.map_or_else(|| "an unknown number".to_owned(), |lost| lost.to_string());
    let spools = salvaged.spools.map_or_else(String::new, |(number, path)| {
        format!("; the output of {number} jobs without a record is in {}", path.display())
    });
    let (saved, rebuilt, aside) = (salvaged.saved, salvaged.rebuilt, salvaged.aside.display());
    print(&format!(
        "saved {saved} jobs, rebuilt {rebuilt}, lost {lost}; the damaged database is {aside}{spools}\n"
    ))
}
