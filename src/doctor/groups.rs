//! Groups: where cgroup v2 is, what kind of host this is, and each controller.

use std::os::unix::fs::MetadataExt;

use super::{Finding, Host, Status, shown};
use crate::cgroup::{CgroupError, Placement, Survey, Why, survey};
use crate::config::daemon::DaemonConfig;
use crate::job::Controller;

pub(super) const CONTROLLERS: [Controller; 5] =
    [Controller::Cpu, Controller::Memory, Controller::Io, Controller::Pids, Controller::Cpuset];

pub(super) fn checks(host: &Host, config: &DaemonConfig) -> Vec<Finding> {
    let mountinfo = host.text("/proc/self/mountinfo").unwrap_or_default();
    let mut all = vec![kind(host, &mountinfo), mount(host, &mountinfo)];
    let daemon = running(host, config);
    let looked = look(host, config, &mountinfo, daemon);
    match &looked {
        Ok(found) => {
            all.push(delegation(host, found, daemon));
            all.push(kill(found));
        }
        Err(why) => all.push(Finding::fail("cgroup.delegation", why.to_string(), MOUNT)),
    }
    let missing = looked.as_ref().map(|found| found.missing.as_slice()).map_err(ToString::to_string);
    for controller in CONTROLLERS {
        all.push(limit(config, controller, &missing).unless_best_effort(config));
    }
    all
}

const MOUNT: &str = "boot with systemd.unified_cgroup_hierarchy=1, or: mount -t cgroup2 none /sys/fs/cgroup";

/// The groups as the daemon would find them: from where it runs, if it does (a shell has a group of its own), else
/// from where we are.
fn look(
    host: &Host,
    config: &DaemonConfig,
    mountinfo: &str,
    daemon: Option<u32>,
) -> Result<Survey, CgroupError> {
    let its = daemon.and_then(|pid| host.text(&format!("/proc/{pid}/cgroup")));
    let placement = Placement {
        mountinfo,
        self_cgroup: &its.or_else(|| host.text("/proc/self/cgroup")).unwrap_or_default(),
        base_dir: config.cgroup.base_dir.as_deref(),
        name: "",
        wanted: config.cgroup.enable_controllers.iter().copied().collect(),
    };
    survey(&placement, daemon.unwrap_or_else(std::process::id))
}

/// The daemon that works on this dataDir: it holds a lock on `run`.
fn running(host: &Host, config: &DaemonConfig) -> Option<u32> {
    let run = std::fs::metadata(config.data_dir.join("run")).ok()?;
    let device = (rustix::fs::major(run.dev()), rustix::fs::minor(run.dev()));
    let daemon = holder(&host.text("/proc/locks")?, device, run.ino())?;
    (daemon != std::process::id() && host.path(&format!("/proc/{daemon}")).exists()).then_some(daemon)
}

/// The process that holds a whole-file lock, as proc_locks(5) writes it:
/// `1: FLOCK ADVISORY WRITE pid major:minor:inode start end`, the device in hexadecimal.
fn holder(locks: &str, (major, minor): (u32, u32), inode: u64) -> Option<u32> {
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    let holds = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [_, "FLOCK", _, _, pid, of, ..] if *of == file => pid.parse().ok(),
            _ => None,
        }
    };
    locks.lines().find_map(holds)
}

/// Bare or inside of something, which then also decides what is allowed here.
fn kind(host: &Host, mountinfo: &str) -> Finding {
    const CHECK: &str = "host.kind";
    let environment = host.text("/proc/1/environ").unwrap_or_default();
    let told = environment.split('\0').find_map(|entry| entry.strip_prefix("container=")).map(str::to_owned);
    // Machines made from the files of an image keep docker's mark, but not its root.
    let overlay = mountinfo.lines().any(|line| line.contains(" / / ") && line.contains(" - overlay "));
    let container = told
        .or_else(|| host.text("/run/systemd/container").map(|text| text.trim().to_owned()))
        .or_else(|| (overlay && host.path("/.dockerenv").exists()).then(|| "docker".to_owned()))
        .or_else(|| host.path("/run/.containerenv").exists().then(|| "podman".to_owned()));
    let systemd = host.path("/run/systemd/system").is_dir();
    match container {
        Some(name) => Finding::warn(
            CHECK,
            format!("a container ({name}): its own limits and rules come before joblet's"),
            "run joblet on the host, or give the container --privileged --cgroupns=private",
        ),
        None if systemd => Finding::ok(CHECK, "not in a container; systemd is in charge"),
        None => Finding::ok(CHECK, "not in a container; no systemd"),
    }
}

fn mount(host: &Host, mountinfo: &str) -> Finding {
    const CHECK: &str = "cgroup.mount";
    let of = |kind: &str| {
        let kind = format!(" - {kind} ");
        mountinfo.lines().filter(move |line| line.contains(&kind)).collect::<Vec<_>>()
    };
    let (v1, v2) = (of("cgroup"), of("cgroup2"));
    let at = v2.first().and_then(|line| line.split(' ').nth(4)).unwrap_or_default();
    // A v1 hierarchy that carries controllers takes them from v2; one that only names processes does not.
    let taken: Vec<&str> = v1
        .iter()
        .filter_map(|line| line.rsplit(' ').next())
        .flat_map(|options| options.split(','))
        .filter(|word| ["cpu", "memory", "blkio", "pids", "cpuset"].contains(word))
        .collect();
    match (v2.is_empty(), taken.is_empty()) {
        (true, _) if host.path("/sys/fs/cgroup").is_dir() => {
            Finding::fail(CHECK, "cgroup v2 is not mounted", MOUNT)
        }
        (true, _) => Finding::fail(CHECK, "this host has no /sys/fs/cgroup", "mount sysfs, then cgroup v2"),
        (false, true) => Finding::ok(CHECK, format!("cgroup v2 at {at}")),
        (false, false) => Finding::warn(
            CHECK,
            format!("a hybrid host: cgroup v2 at {at}, but version 1 holds {}", taken.join(" ")),
            "boot with systemd.unified_cgroup_hierarchy=1 and cgroup_no_v1=all",
        ),
    }
}

fn delegation(host: &Host, found: &Survey, daemon: Option<u32>) -> Finding {
    const CHECK: &str = "cgroup.delegation";
    let whose = daemon.map(|pid| format!(" (of the daemon that runs, pid {pid})")).unwrap_or_default();
    let own = shown(&found.own) + &whose;
    if let Some(why) = &found.refused {
        let remedy = "start joblet as a systemd service with Delegate=yes";
        return Finding::fail(CHECK, format!("no group can be made in {why}"), remedy);
    }
    if found.parent != found.own {
        return Finding::ok(CHECK, format!("cgroup.baseDir {}", shown(&found.parent)));
    }
    if found.is_root {
        return Finding::ok(CHECK, format!("{own}, the root of what is to be seen here"));
    }
    // systemd marks what it delegated (CGROUP_DELEGATION.md).
    let mut mark = [0; 8];
    let marked = rustix::fs::getxattr(&found.own, "user.delegate", &mut mark[..])
        .or_else(|_| rustix::fs::getxattr(&found.own, "trusted.delegate", &mut mark[..]))
        .is_ok_and(|length| length > 0 && mark[0] == b'1');
    if found.others > 0 {
        let asking = if host.path("/run/systemd/system").is_dir() {
            "; to ask as the service would: systemd-run --pipe -p Delegate=yes joblet doctor"
        } else {
            ""
        };
        return Finding::warn(
            CHECK,
            format!(
                "{} other processes live in {own}, which therefore passes no controller on",
                found.others
            ),
            format!(
                "set cgroup.baseDir to a group of its own, or start joblet with systemd/joblet.service{asking}"
            ),
        );
    }
    Finding::ok(CHECK, if marked { format!("{own}, delegated by systemd") } else { own })
}

fn kill(found: &Survey) -> Finding {
    const CHECK: &str = "cgroup.kill";
    match found.has_kill {
        Some(true) => Finding::ok(CHECK, "groups can be killed as a whole"),
        Some(false) => Finding::fail(
            CHECK,
            "groups have no cgroup.kill",
            "install a kernel of 5.15 or later: apt-get install linux-image-amd64, then reboot",
        ),
        None => Finding::ok(CHECK, "not asked: there is no group but the root to look at"),
    }
}

fn limit(
    config: &DaemonConfig,
    controller: Controller,
    missing: &Result<&[(Controller, Why)], String>,
) -> Finding {
    let name = controller.name();
    let check = format!("cgroup.{name}");
    let why = match missing {
        Ok(missing) => missing.iter().find(|(of, _)| *of == controller).map(|(_, why)| why),
        Err(why) => return Finding::fail(check, format!("no {name} controller: {why}"), MOUNT),
    };
    let (what, then) = match controller {
        Controller::Cpu => ("processor time", "processor time cannot be limited"),
        Controller::Memory => ("memory", "memory cannot be limited"),
        Controller::Io => ("disk IO", "disk IO cannot be limited"),
        Controller::Pids => ("the number of processes", "RLIMIT_NPROC alone limits processes"),
        Controller::Cpuset => ("cores", "jobs cannot be kept on cores"),
    };
    match why {
        None => Finding::ok(check, format!("the {name} controller limits {what}")),
        Some(why @ Why::NotConfigured) => {
            // Limits of a controller that the configuration leaves out are refused job by job.
            let seen = format!("no {name} controller: {why}; {then}");
            Finding { status: Status::Warn, ..Finding::fail(check, seen, why.remedy()) }
        }
        Some(why) => {
            let mut remedy = why.remedy();
            if matches!(why, Why::Inhabited { .. }) && config.cgroup.base_dir.is_none() {
                remedy += ", or set cgroup.baseDir to a group of its own";
            }
            let seen = format!("no {name} controller: {why}; {then}");
            Finding::fail(check, seen, remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::crafted;
    use super::*;

    const HYBRID: &str = "\
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    #[test]
    fn hybrid_unified_and_bare_hosts_are_distinguished() {
        let (_dir, none) = crafted(&[("sys/fs/cgroup/x", "")]);
        let hybrid = mount(&none, HYBRID);
        assert_eq!(hybrid.status, Status::Warn);
        assert!(hybrid.seen.contains("hybrid") && hybrid.seen.ends_with("holds memory"), "{}", hybrid.seen);
        // systemd's own name=systemd hierarchy takes no controller away.
        let named: String = HYBRID.lines().skip(1).map(|line| format!("{line}\n")).collect();
        assert_eq!(mount(&none, &named).status, Status::Ok);
        assert_eq!(mount(&none, "").status, Status::Fail);
    }

    #[test]
    fn the_running_daemon_is_found_by_its_lock() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 fe:00:42 0 EOF\n2: FLOCK  ADVISORY  WRITE 8 fe:00:421 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 9 fe:00:42 0 EOF\n";
        assert_eq!(holder(locks, (254, 0), 42), Some(9));
        assert_eq!(holder(locks, (8, 0), 42), None);
        assert_eq!(holder("nonsense\n", (254, 0), 42), None);
    }

    #[test]
    fn containers_are_named() {
        for (files, word) in [
            (vec![("proc/1/environ", "PATH=/bin\0container=lxc\0")], "lxc"),
            (vec![(".dockerenv", "")], "docker"),
            (vec![("run/.containerenv", "")], "podman"),
            (vec![("run/systemd/container", "systemd-nspawn\n")], "systemd-nspawn"),
        ] {
            let (_dir, host) = crafted(&files);
            let finding = kind(&host, "27 1 0:40 / / rw - overlay overlay rw\n");
            assert_eq!(finding.status, Status::Warn);
            assert!(finding.seen.contains(word), "{}", finding.seen);
        }
        let (_dir, bare) = crafted(&[("run/systemd/system/x", ""), ("proc/1/environ", "TERM=linux\0")]);
        assert_eq!(kind(&bare, "").status, Status::Ok);
        let (_dir, machine) = crafted(&[(".dockerenv", "")]);
        assert_eq!(kind(&machine, "27 1 254:0 / / rw - ext4 /dev/vda rw\n").status, Status::Ok);
    }

    #[test]
    fn missing_controller_fails_in_strict_mode_and_warns_otherwise() {
        let mut config = DaemonConfig::default();
        let missing = [(Controller::Memory, Why::NotInKernel), (Controller::Io, Why::NotConfigured)];
        let ask = |config: &DaemonConfig, controller| {
            limit(config, controller, &Ok(&missing[..])).unless_best_effort(config)
        };
        let memory = ask(&config, Controller::Memory);
        assert_eq!((memory.check.as_str(), memory.status), ("cgroup.memory", Status::Fail));
        assert!(
            memory.seen.contains("memory controller") && memory.remedy.unwrap().contains("cgroup_no_v1=all")
        );
        assert_eq!(ask(&config, Controller::Io).status, Status::Warn, "left out on purpose");
        assert_eq!(ask(&config, Controller::Cpu).status, Status::Ok);
        config.cgroup.enforcement = crate::job::Enforcement::BestEffort;
        assert_eq!(ask(&config, Controller::Memory).status, Status::Warn);
    }
}
