//! Runtimes: the room below their directory, and whether jobs of the profile `container`, and those that write their root, can have
//! the files of an image with their owners. Overlayfs, which every root is made of, is one of the checks of the kernel.

use std::path::{Path, PathBuf};

use super::storage::room;
use super::volumes::mapped_ids;
use super::{Finding, shown};
use crate::config::daemon::DaemonConfig;

pub(super) fn checks(config: &DaemonConfig) -> Vec<Finding> {
    let dir = directory(config);
    let existing = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let remedy = "move runtime.base_path to an ext4, XFS or btrfs, on Linux 5.19 or newer; until then no job writes its root";
    vec![space(existing), mapped_ids("runtimes.mapped_ids", existing, remedy)]
}

/// The directory of all runtimes, as the configuration says.
fn directory(config: &DaemonConfig) -> PathBuf {
    let base = &config.runtime.base_path;
    if base.as_os_str().is_empty() { config.data_dir.join("runtimes") } else { base.clone() }
}

fn space(dir: &Path) -> Finding {
    const CHECK: &str = "runtimes.space";
    match rustix::fs::statvfs(dir) {
        Ok(stat) => room(CHECK, "runtime.base_path", dir, &stat),
        Err(why) => Finding::warn(CHECK, format!("{}: {why}", shown(dir)), "see whether its disk is there"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_are_below_data_dir_unless_configured() {
        let mut config = DaemonConfig { data_dir: "/var/lib/x".into(), ..DaemonConfig::default() };
        assert_eq!(directory(&config), Path::new("/var/lib/x/runtimes"));
        config.runtime.base_path = "/srv/runtimes".into();
        assert_eq!(directory(&config), Path::new("/srv/runtimes"));
        let names = |config: &DaemonConfig| -> Vec<String> {
            checks(config).into_iter().map(|finding| finding.check).collect()
        };
        assert_eq!(names(&config), ["runtimes.space", "runtimes.mapped_ids"]);
    }
}
