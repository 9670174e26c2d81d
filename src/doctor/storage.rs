//! dataDir, the quotas of /work, and open files.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfs, StatVfsMountFlags, fstatvfs};
use rustix::process::{Resource, getrlimit};

use super::{Finding, Status, others_can_write, shown};
use crate::config::daemon::{DaemonConfig, WorkBackend};
use crate::sys::quota;

/// Below these a job's output and exit record are at risk, or soon will be.
const FULL: u64 = 16 << 20;
const LOW: u64 = 1 << 30;
const LOW_INODES: u64 = 1000;
/// Descriptors of a job at its start, and of everything else.
const FILES_OF_A_JOB: u64 = 16;
const FILES: u64 = 512;

pub(super) fn checks(config: &DaemonConfig) -> Vec<Finding> {
    let existing = existing(&config.data_dir);
    let mut all = vec![permissions(&config.data_dir, &existing)];
    match File::open(&existing) {
        Ok(dir) => {
            all.push(match fstatvfs(&dir) {
                Ok(stat) => room("data_dir.space", "dataDir", &existing, &stat),
                Err(why) => Finding::warn("data_dir.space", why.to_string(), "see whether its disk is there"),
            });
            all.push(work(config, &existing, quota::is_enforced(dir.as_fd())));
        }
        Err(why) => {
            let remedy = format!("ls -ld {}", shown(&existing));
            all.push(Finding::fail("data_dir.space", format!("{}: {why}", shown(&existing)), remedy));
        }
    }
    all.push(audit(config));
    all.push(open_files(config, getrlimit(Resource::Nofile).maximum));
    all
}

/// The directory, or the nearest one above it that is there.
fn existing(dir: &Path) -> PathBuf {
    dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// Room for the audit trail. Where it is full, changes are refused, or are not recorded.
fn audit(config: &DaemonConfig) -> Finding {
    const CHECK: &str = "audit.space";
    if !config.audit.enabled {
        return Finding::ok(CHECK, "no audit trail is kept: audit.enabled is false");
    }
    let place = config.audit.place(&config.data_dir);
    let dir = existing(&place);
    match File::open(&dir).and_then(|dir| Ok(fstatvfs(&dir)?)) {
        // A daemon without it is worse than one whose changes are refused.
        Ok(stat) => match room(CHECK, "audit.directory", &dir, &stat) {
            found if found.status == Status::Fail => Finding { status: Status::Warn, ..found },
            found => found,
        },
        Err(why) => {
            Finding::warn(CHECK, format!("{}: {why}", shown(&dir)), format!("ls -ld {}", shown(&dir)))
        }
    }
}

fn permissions(dir: &Path, existing: &Path) -> Finding {
    const CHECK: &str = "data_dir.permissions";
    let path = shown(existing);
    let meta = match fs::metadata(existing) {
        Ok(meta) => meta,
        Err(why) => return Finding::fail(CHECK, format!("{path}: {why}"), format!("ls -ld {path}")),
    };
    let (mode, uid) = (meta.mode() & 0o7777, meta.uid());
    if !meta.is_dir() {
        return Finding::fail(
            CHECK,
            format!("{path} is no directory"),
            format!("rm {path}, or change dataDir"),
        );
    }
    if others_can_write(mode) {
        let seen = format!("{path} has mode {mode:04o}: others can put files in the daemon's way");
        return Finding::fail(CHECK, seen, format!("chmod go-w {path}"));
    }
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        let seen = format!("{path} belongs to uid {uid}, who can replace what is in it");
        return Finding::fail(CHECK, seen, format!("chown root: {path}"));
    }
    if existing == dir {
        Finding::ok(CHECK, format!("{path}, mode {mode:04o}"))
    } else {
        Finding::ok(CHECK, format!("{} is made at the start, below {path}", shown(dir)))
    }
}

/// Whether a file system has room for the directory that `key` of the configuration names.
pub(super) fn room(check: &str, key: &str, dir: &Path, stat: &StatVfs) -> Finding {
    let path = shown(dir);
    let remedy = format!("make room, or move {key}: df -h {path}; du -xsh {path}/*");
    if stat.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Finding::fail(
            check,
            format!("{path} is mounted read-only"),
            format!("mount -o remount,rw {path}"),
        );
    }
    // Some file systems in memory (ramfs) have no size, and some on disk (btrfs) no number of files.
    let (bytes, inodes) = (stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_favail);
    let (sized, counted) = (stat.f_blocks > 0, stat.f_files > 0);
    let seen = format!("{} MiB and {inodes} files free at {path}", bytes >> 20);
    if (sized && bytes < FULL) || (counted && inodes == 0) {
        Finding::fail(check, seen, remedy)
    } else if (sized && bytes < LOW) || (counted && inodes < LOW_INODES) {
        Finding::warn(check, seen, remedy)
    } else {
        Finding::ok(check, seen)
    }
}

fn work(config: &DaemonConfig, dir: &Path, enforced: std::io::Result<bool>) -> Finding {
    const CHECK: &str = "work.quota";
    let wanted = config.filesystem.work_backend;
    if wanted == WorkBackend::Tmpfs {
        return Finding::ok(CHECK, "not needed: filesystem.workBackend is tmpfs");
    }
    let why = match enforced {
        Ok(true) => {
            return Finding::ok(CHECK, format!("{} enforces project quotas: /work is on disk", shown(dir)));
        }
        Ok(false) => "counts project quotas but does not enforce them".to_owned(),
        Err(why) => format!("has no project quotas ({why})"),
    };
    let remedy = "mount the file system of dataDir with prjquota (an ext4 unmounted: tune2fs -O quota,project \
                DEVICE before), or set filesystem.workBackend: tmpfs";
    let seen = format!("{} {why}", shown(dir));
    match wanted {
        WorkBackend::Disk => Finding::fail(CHECK, seen, remedy),
        _ => Finding::warn(CHECK, format!("{seen}: /work is memory and counts as the job's"), remedy),
    }
}

fn open_files(config: &DaemonConfig, limit: Option<u64>) -> Finding {
    const CHECK: &str = "process.open_files";
    let needed = u64::from(config.joblet.max_concurrent_jobs) * FILES_OF_A_JOB + FILES;
    match limit {
        None => Finding::ok(CHECK, "no limit of open files"),
        Some(limit) if limit >= needed => Finding::ok(CHECK, format!("up to {limit} open files")),
        Some(limit) => Finding::warn(
            CHECK,
            format!("{limit} open files, and joblet.maxConcurrentJobs may need {needed}"),
            format!("LimitNOFILE={needed} in the unit, or ulimit -n {needed} before the start"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn directory_writable_by_others_fails_with_the_chmod_command() {
        let dir = tempfile::tempdir().unwrap();
        let with = |mode| {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            permissions(dir.path(), dir.path())
        };
        assert_eq!(with(0o700).status, Status::Ok);
        assert_eq!(with(0o1777).status, Status::Ok, "with the sticky bit nothing of ours can be replaced");
        let open = with(0o777);
        assert_eq!(open.status, Status::Fail);
        assert_eq!(open.remedy.unwrap(), format!("chmod go-w {}", dir.path().display()));
        let below = dir.path().join("a/b");
        with(0o755);
        assert_eq!(existing(&below), dir.path());
        assert!(permissions(&below, &existing(&below)).seen.contains("is made at the start"));
    }

    #[test]
    fn little_room_warns_and_none_fails() {
        let stat = |blocks: u64, free: u64, inodes: u64, flags| StatVfs {
            f_bsize: 4096,
            f_frsize: 4096,
            f_blocks: blocks,
            f_bfree: free,
            f_bavail: free,
            f_files: 1 << 20,
            f_ffree: inodes,
            f_favail: inodes,
            f_fsid: 0,
            f_flag: flags,
            f_namemax: 255,
        };
        let ask = |blocks, free, inodes, flags| {
            room("x", "dataDir", Path::new("/x"), &stat(blocks, free, inodes, flags)).status
        };
        let none = StatVfsMountFlags::empty();
        assert_eq!(ask(1 << 30, 1 << 20, 1 << 19, none), Status::Ok);
        assert_eq!(ask(1 << 30, 1 << 17, 1 << 19, none), Status::Warn);
        assert_eq!(ask(1 << 30, 100, 1 << 19, none), Status::Fail);
        assert_eq!(ask(1 << 30, 1 << 20, 10, none), Status::Warn);
        assert_eq!(ask(1 << 30, 1 << 20, 0, none), Status::Fail);
        assert_eq!(ask(0, 0, 1 << 19, none), Status::Ok, "a ramfs has no size");
        assert_eq!(ask(1 << 30, 1 << 20, 1 << 19, StatVfsMountFlags::RDONLY), Status::Fail);
    }

    #[test]
    fn quotas_matter_as_the_configuration_says() {
        let mut config = DaemonConfig::default();
        let absent = || Err(io::Error::from_raw_os_error(libc::ENOSYS));
        let ask = |config: &DaemonConfig, enforced| work(config, Path::new("/x"), enforced).status;
        assert_eq!(ask(&config, absent()), Status::Warn);
        assert_eq!(ask(&config, Ok(true)), Status::Ok);
        config.filesystem.work_backend = WorkBackend::Disk;
        assert_eq!(ask(&config, Ok(false)), Status::Fail);
        config.filesystem.work_backend = WorkBackend::Tmpfs;
        assert_eq!(ask(&config, absent()), Status::Ok);
    }

    #[test]
    fn open_files_must_do_for_all_jobs() {
        let config = DaemonConfig::default();
        assert_eq!(open_files(&config, Some(1024)).status, Status::Warn);
        assert_eq!(open_files(&config, Some(524_288)).status, Status::Ok);
        assert_eq!(open_files(&config, None).status, Status::Ok);
    }
}
