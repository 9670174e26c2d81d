//! `joblet volume check`: checks and repairs images of volumes that nobody uses.

use super::usage::Usage;
use super::{Failure, flags, print};
use crate::config::daemon::DaemonConfig;
use crate::job::VolumeName;
use crate::volume::{Checked, check, images};

const ABOUT: &str = "Usage: joblet volume check NAME... [--config FILE]
       joblet volume check --all [--config FILE]

Checks the images of volumes with e2fsck, and repairs what needs no decision. A volume that a job or the daemon \
has is not touched: end its jobs and stop the daemon first. Exit code 1: an image is damaged still, is in use, or could \
not be checked.";

/// Runs `joblet volume` with the arguments after that word.
pub(super) fn run(args: &[String]) -> Result<i32, Failure> {
    let (word, rest) = args.split_first().map_or(("", args), |(word, rest)| (word.as_str(), rest));
    match word {
        "check" => {}
        "--help" | "-h" => return print(&flags::with_config().usage(ABOUT)),
        "" => return Err(Usage("volume: say what to do: check".to_owned()).into()),
        _ => return Err(Usage(format!("volume: unknown command \"{}\"", word.escape_debug())).into()),
    }
    let mut options = flags::with_config();
    options.optflag("", "all", "check every image below dataDir/volumes").optflag(
        "h",
        "help",
        "print this and exit",
    );
    let given = options.parse(rest).map_err(|e| Usage(format!("volume check: {e}")))?;
    if given.opt_present("help") {
        return print(&options.usage(ABOUT));
    }
    if given.free.is_empty() != given.opt_present("all") {
        return Err(Usage("volume check: give names of volumes, or --all".to_owned()).into());
    }
    let names =
        given.free.iter().map(|name| name.parse().map_err(|why: crate::job::InvalidField| Usage(why.0)));
    let mut names: Vec<VolumeName> = names.collect::<Result<_, _>>()?;
    let loaded = DaemonConfig::load(flags::config(&given).as_deref())?;
    let dir = loaded.config.data_dir.join("volumes");
    if given.opt_present("all") {
        names = images(&dir).map_err(|why| format!("cannot read {}: {why}", dir.display()))?;
    }
    let mut all_well = true;
    for name in names {
        let said = match check(&dir, &name) {
            Ok(Checked::Clean) => "nothing is wrong".to_owned(),
            Ok(Checked::Repaired) => "it was damaged, and is repaired".to_owned(),
            Ok(Checked::Damaged(said)) => {
                all_well = false;
                let image = dir.join(format!("{name}.img"));
                format!("it is damaged: {said}; e2fsck -f {} asks for each decision", image.display())
            }
            Err(why) => {
                all_well = false;
                why.to_string()
            }
        };
        print(&format!("{name}: {said}\n"))?;
    }
    Ok(i32::from(!all_well))
}
