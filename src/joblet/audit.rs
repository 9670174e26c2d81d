//! `joblet audit verify`: checks the chain of an audit trail.

use std::path::PathBuf;

use super::usage::Usage;
use super::{Failure, flags, print};
use crate::audit::{Hash, Report, verify};
use crate::config::daemon::DaemonConfig;

const ABOUT: &str = "Usage: joblet audit verify [DIR] [--config FILE] [--contains HASH]

Reads every line of the audit trail in DIR, or in the directory of the configuration, and checks that none was changed, \
removed, added or swapped, and that no file is gone. The daemon may run. The last line that it prints has the hash of the \
trail's end: kept elsewhere and given to --contains, it finds lines that were cut from the end. Exit code 1: something is \
wrong, and the message says in which file and line.";

/// Runs `joblet audit` with the arguments after that word.
pub(super) fn run(args: &[String]) -> Result<i32, Failure> {
    let (word, rest) = args.split_first().map_or(("", args), |(word, rest)| (word.as_str(), rest));
    let mut options = flags::with_config();
    options.optopt("", "contains", "fail unless a line has this hash", "HASH").optflag(
        "h",
        "help",
        "print this and exit",
    );
    match word {
        "verify" => {}
        "--help" | "-h" => return print(&options.usage(ABOUT)),
        "" => return Err(Usage("audit: say what to do: verify".to_owned()).into()),
        _ => return Err(Usage(format!("audit: unknown command \"{}\"", word.escape_debug())).into()),
    }
    let given = options.parse(rest).map_err(|e| Usage(format!("audit verify: {e}")))?;
    if given.opt_present("help") {
        return print(&options.usage(ABOUT));
    }
    let wanted = match given.opt_str("contains") {
        None => None,
        Some(text) => Some(Hash::parse(&text).ok_or_else(|| {
            Usage(format!("audit verify: --contains {}: 64 digits are a hash", text.escape_debug()))
        })?),
    };
    let dir = match given.free.as_slice() {
        [] => {
            let config = DaemonConfig::load(flags::config(&given).as_deref())?.config;
            config.audit.place(&config.data_dir)
        }
        [dir] => PathBuf::from(dir),
        [_, more, ..] => {
            let text = format!("audit verify: \"{}\" is not expected", more.escape_debug());
            return Err(Usage(text).into());
        }
    };
    print(&text(&verify(&dir, wanted)?))
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "{} lines in {} files, from {} to {}: nothing was changed, removed or swapped\n",
        report.lines, report.files, report.times.0, report.times.1
    );
    if report.first != "audit-000001.jsonl" {
        text += &format!("begins with {}: the files before were removed by audit.keep\n", report.first);
    }
    for torn in &report.torn {
        text += &format!("an incomplete end, as a kill or a power cut leaves it: {torn}\n");
    }
    if report.lost > 0 {
        text += &format!("{} lines are missing because they could not be written\n", report.lost);
    }
    text + &format!("last {}\n", report.last)
}
