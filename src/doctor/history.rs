//! History: the program that keeps it, the user that it runs as, the room that it has, and holes in the files that it has read.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::User;
use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, open, statvfs};

use super::{Finding, shown, storage};
use crate::config::daemon::DaemonConfig;
use crate::persist::{Answer, Probe, Pulse};

/// The user that keeps history.
const USER: &str = "joblet";
const PAGE: u64 = 4096;
/// How long the process may take for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Its numbers that are zero while all is well.
const TROUBLE: [&str; 5] =
    ["failures", "unknown_messages", "foreign_losses", "remote_lost_bytes", "remote_lost_samples"];

pub(super) fn checks(config: &DaemonConfig) -> Vec<Finding> {
    if !config.ipc.enabled {
        return vec![Finding::ok("history", "output is live only: ipc.enabled is false")];
    }
    let mut all = vec![program(), holes(config), user(config)];
    // CloudWatch has a tree here, too: the copies that readers want.
    all.extend(rooms(config));
    all
}

/// How the work of the process goes, where one runs.
pub(super) fn work(config: &DaemonConfig) -> Option<Finding> {
    const CHECK: &str = "history.work";
    let socket = &config.persist.server.grpc_socket;
    if !config.ipc.enabled || !socket.exists() {
        return None;
    }
    let (never, _open) = UnixStream::pair().ok()?;
    let finding = match Probe::new(socket).ping(PATIENCE, never) {
        Answer::Given(pulse) => told(CHECK, &pulse),
        Answer::None(why) => {
            Finding::warn(CHECK, format!("persist does not answer: {why}"), "journalctl -u joblet -n 50")
        }
        Answer::Interrupted => return None,
    };
    Some(finding)
}

fn told(check: &str, pulse: &Pulse) -> Finding {
    let mut figures: Vec<_> = pulse.figures.iter().filter(|(_, value)| **value > 0).collect();
    figures.sort();
    let figures: Vec<String> = figures.into_iter().map(|(name, value)| format!("{name} {value}")).collect();
    let seen = match figures.is_empty() {
        true => "persist has had nothing to do".to_owned(),
        false => figures.join(", "),
    };
    let remedy = "journalctl -u joblet | grep persist";
    match pulse.healthy {
        false => Finding::fail(check, format!("persist cannot store output; {seen}"), remedy),
        true if TROUBLE.iter().any(|name| pulse.figure(name) > 0) => Finding::warn(check, seen, remedy),
        true => Finding::ok(check, seen),
    }
}

fn program() -> Finding {
    const CHECK: &str = "history.program";
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join("persist")));
    let places = beside.into_iter().chain([PathBuf::from("/opt/joblet/bin/persist")]);
    match places.into_iter().find(|place| place.exists()) {
        Some(place) => Finding::ok(CHECK, shown(&place)),
        None => {
            let seen = "no program persist beside joblet, and ipc.enabled is true: the daemon cannot start";
            Finding::fail(CHECK, seen, "put persist beside joblet, or set ipc.enabled: false")
        }
    }
}

/// The directory itself, or the first one above it that exists.
fn existing(dir: &Path) -> &Path {
    dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"))
}

fn holes(config: &DaemonConfig) -> Finding {
    const CHECK: &str = "history.holes";
    let dir = existing(&config.data_dir);
    // A file without a name: nothing is left of the probe.
    let probe = || -> io::Result<()> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = open(dir, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, PAGE)?)
    };
    match probe() {
        Ok(()) => Finding::ok(CHECK, "spools let go of what history has"),
        Err(why) => Finding::warn(
            CHECK,
            format!("{} takes no holes ({why}): spools keep the output of running jobs", shown(dir)),
            "put dataDir on ext4, XFS or tmpfs, or raise joblet.jobSpoolLimit",
        ),
    }
}

/// The room of each file system that holds history, once each.
fn rooms(config: &DaemonConfig) -> Vec<Finding> {
    const CHECK: &str = "history.space";
    let local = &config.persist.storage.local;
    let trees = [
        (&local.logs.directory, "persist.storage.local.logs.directory"),
        (&local.metrics.directory, "persist.storage.local.metrics.directory"),
    ];
    let (mut all, mut seen) = (Vec::new(), Vec::new());
    for (dir, key) in trees {
        let dir = existing(dir);
        let Ok(device) = fs::metadata(dir).map(|meta| meta.dev()) else { continue };
        if seen.contains(&device) {
            continue;
        }
        seen.push(device);
        all.push(match statvfs(dir) {
            Ok(stat) => storage::room(CHECK, key, dir, &stat),
            Err(why) => Finding::warn(CHECK, why.to_string(), "see whether its disk is there"),
        });
    }
    all
}

fn user(config: &DaemonConfig) -> Finding {
    const CHECK: &str = "history.user";
    let Ok(Some(user)) = User::from_name(USER) else {
        let seen = "no user joblet: persist runs as root";
        return Finding::warn(CHECK, seen, "useradd --system --user-group --no-create-home joblet");
    };
    let passes = |dir: &&Path| {
        fs::metadata(dir).is_ok_and(|meta| {
            let bit = match meta {
                _ if meta.uid() == user.uid.as_raw() => 0o100,
                _ if meta.gid() == user.gid.as_raw() => 0o010,
                _ => 0o001,
            };
            meta.mode() & bit != 0
        })
    };
    let local = &config.persist.storage.local;
    let trees = [&local.logs.directory, &local.metrics.directory];
    let closed =
        trees.iter().flat_map(|tree| tree.ancestors().skip(1)).find(|dir| dir.exists() && !passes(dir));
    match closed {
        None => Finding::ok(CHECK, "persist runs as the user joblet"),
        Some(dir) => {
            let dir = shown(dir);
            let seen = format!("the user joblet cannot pass {dir}: persist runs as root");
            Finding::warn(CHECK, seen, format!("chmod o+x {dir}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn work_is_told_and_trouble_stands_out() {
        let pulse = |healthy, figures: &[(&str, u64)]| {
            let figures = figures.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
            told("history.work", &Pulse { healthy, figures })
        };
        let fine = pulse(true, &[("records", 7), ("failures", 0), ("bytes", 9)]);
        assert_eq!((fine.status, fine.seen.as_str()), (Status::Ok, "bytes 9, records 7"));
        assert_eq!(pulse(true, &[]).seen, "persist has had nothing to do");
        assert_eq!(pulse(true, &[("failures", 1)]).status, Status::Warn);
        assert_eq!(pulse(false, &[("failures", 1)]).status, Status::Fail);
    }

    #[test]
    fn trees_on_one_file_system_have_one_line_about_room() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = DaemonConfig::default();
        let local = &mut config.persist.storage.local;
        local.logs.directory = dir.path().join("logs");
        local.metrics.directory = dir.path().join("metrics");
        assert_eq!(rooms(&config).len(), 1);
        config.persist.storage.local.metrics.directory = "/proc/metrics".into();
        let found = rooms(&config);
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|finding| finding.check == "history.space"), "{found:?}");
    }

    #[test]
    fn probe_for_holes_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let config = DaemonConfig { data_dir: dir.path().join("not/there"), ..DaemonConfig::default() };
        assert_ne!(holes(&config).status, Status::Fail);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
