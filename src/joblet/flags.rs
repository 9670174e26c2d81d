//! The flags of `joblet`, of the daemon itself and of the subcommands that read its configuration.

use std::path::PathBuf;

use getopts::{Fail, Matches, Options};

use super::usage::Usage;

const ABOUT: &str = "joblet: runs isolated, limited, measured Linux jobs on this host

Usage:
  joblet [--foreground] [--config FILE]    run the daemon (it never leaves the foreground)
  joblet --check-config [--config FILE]    check the configuration and print what is in force
  joblet doctor [--config FILE] [--json]   check this host; every failing line says how to mend it (exit code 1)
  joblet gpus                              print the GPUs of this host as JSON
  joblet recover [--config FILE]           make a new job database from a damaged one and what the jobs left; the old one is kept aside
  joblet volume check NAME...|--all [--config FILE]
                                           check images of volumes that nobody uses, and repair them
  joblet audit verify [DIR] [--config FILE] [--contains HASH]
                                           check that nobody has changed the audit trail
  joblet setup --dir DIR [--host NAME]... [--port N] [--enforcement strict|best-effort] [--force]
                                           make certificates and configuration files below DIR
  joblet certs init|issue|show|revoke      one more client, a look, a revocation: see joblet certs --help";

/// The task of a command line without a subcommand. The path is that of `--config`.
pub(super) enum Action {
    /// Print this text: help or the version.
    Print(String),
    /// Check the configuration and print the effective one.
    CheckConfig(Option<PathBuf>),
    /// Run the daemon.
    Serve(Option<PathBuf>),
}

/// Reads a command line that has no subcommand.
pub(super) fn parse(args: &[String]) -> Result<Action, Usage> {
    let mut options = Options::new();
    options
        .optflag("", "foreground", "run in the foreground, as always; for service files")
        .optopt(
            "",
            "config",
            "configuration file (default: $JOBLET_CONFIG_PATH, then the usual places)",
            "FILE",
        )
        .optflag("", "check-config", "check the configuration, print it with defaults filled in, and exit")
        .optflag("", "version", "print the version and exit")
        .optflag("h", "help", "print this and exit");
    let given = options.parse(args).map_err(|e| match e {
        Fail::UnrecognizedOption(name) => Usage(format!("unknown flag: --{name}")),
        other => Usage(other.to_string()),
    })?;
    if let Some(word) = given.free.first() {
        return Err(Usage(format!("unknown command \"{}\"", word.escape_debug())));
    }
    if given.opt_present("help") {
        return Ok(Action::Print(options.usage(ABOUT)));
    }
    if given.opt_present("version") {
        return Ok(Action::Print(format!("joblet {}\n", env!("CARGO_PKG_VERSION"))));
    }
    Ok(if given.opt_present("check-config") {
        Action::CheckConfig(config(&given))
    } else {
        Action::Serve(config(&given))
    })
}

/// Reads the flags of a subcommand that reads the daemon's configuration: `--config`, `--help` and `options`.
/// The inner error is the help, with `about` above the flags.
pub(super) fn subcommand(
    name: &str,
    about: &str,
    mut options: Options,
    args: &[String],
) -> Result<Result<Matches, String>, Usage> {
    options.optflag("h", "help", "print this and exit");
    let given = options.parse(args).map_err(|e| Usage(format!("{name}: {e}")))?;
    if let Some(word) = given.free.first() {
        return Err(Usage(format!("{name}: \"{}\" is not expected", word.escape_debug())));
    }
    Ok(if given.opt_present("help") { Err(options.usage(about)) } else { Ok(given) })
}

/// Options that know `--config`, the first flag of each such subcommand.
pub(super) fn with_config() -> Options {
    let mut options = Options::new();
    options.optopt("", "config", "the daemon's configuration file (default: as the daemon finds it)", "FILE");
    options
}

/// The path that `--config` names.
pub(super) fn config(given: &Matches) -> Option<PathBuf> {
    given.opt_str("config").map(PathBuf::from)
}
