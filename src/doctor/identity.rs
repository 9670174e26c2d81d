//! Identity of jobs and rights of this process: namespaces, the ids of jobs, capabilities, Yama, the scheduler.

use super::{Finding, Host};
use crate::config::daemon::DaemonConfig;
use crate::job::ranges;
use crate::sandbox::create::limits_of_all_ids;
use crate::sandbox::identity::{check_range, make_whole_namespace};
use crate::sys::{clone::Idle, probe};

/// Without one of these no job can be started: name and number of linux/capability.h.
const NEEDED: [(&str, u32); 11] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_FOWNER", 3),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_CHROOT", 18),
    // The namespaces of a child that is not dumpable are opened through /proc; and descriptors of joblet-init.
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_MKNOD", 27),
];
/// Without these jobs run, but less well.
const BETTER: [(&str, u32, &str); 2] = [
    ("CAP_SYS_RESOURCE", 24, "limits cannot be raised above the daemon's own, nor oom scores lowered"),
    ("CAP_SYS_NICE", 23, "starts are slower under load"),
];

pub(super) fn checks(host: &Host, config: &DaemonConfig) -> Vec<Finding> {
    let mut found = vec![
        capabilities(host),
        namespaces(),
        namespace_limits(host, config),
        restrictions(host),
        ids(host, config),
    ];
    found.extend(container(config));
    found.extend([yama(host), scheduler()]);
    found
}

fn capabilities(host: &Host) -> Finding {
    const CHECK: &str = "process.capabilities";
    let status = host.text("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(mask) = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()) else {
        return Finding::fail(CHECK, "/proc/self/status has no CapEff", "mount -t proc proc /proc");
    };
    let has = |number: u32| mask >> number & 1 == 1;
    let shortage: Vec<_> = NEEDED.iter().filter(|(_, number)| !has(*number)).map(|(name, _)| *name).collect();
    if !shortage.is_empty() {
        let remedy = "start joblet as root; in a container or unit, add them to what it may have";
        return Finding::fail(CHECK, format!("missing: {}", shortage.join(" ")), remedy);
    }
    let weak: Vec<_> = BETTER.iter().filter(|(_, number, _)| !has(*number)).collect();
    if weak.is_empty() {
        return Finding::ok(CHECK, "all that are needed");
    }
    let seen: Vec<_> = weak.iter().map(|(name, _, effect)| format!("no {name}: {effect}")).collect();
    let names: Vec<_> = weak.iter().map(|(name, _, _)| *name).collect();
    let remedy =
        format!("add to the unit's CapabilityBoundingSet, or docker run --cap-add: {}", names.join(" "));
    Finding::warn(CHECK, seen.join("; "), remedy)
}

/// One process in all the kinds of namespaces that a job has, gone when this returns.
fn namespaces() -> Finding {
    const CHECK: &str = "namespaces.create";
    let kinds = [
        ("user", libc::CLONE_NEWUSER),
        ("pid", libc::CLONE_NEWPID),
        ("mount", libc::CLONE_NEWNS),
        ("ipc", libc::CLONE_NEWIPC),
        ("uts", libc::CLONE_NEWUTS),
        ("cgroup", libc::CLONE_NEWCGROUP),
        ("network", libc::CLONE_NEWNET),
    ];
    let all = kinds.iter().fold(0, |flags, (_, flag)| flags | *flag);
    let Err(why) = Idle::start(all as u64) else {
        return Finding::ok(CHECK, "user, pid, mount, ipc, uts, cgroup and network namespaces can be made");
    };
    let refused: Vec<_> =
        kinds.iter().filter(|(_, flag)| Idle::start(*flag as u64).is_err()).map(|(name, _)| *name).collect();
    let which = if refused.is_empty() { "all kinds together".to_owned() } else { refused.join(", ") };
    let remedy = "start joblet as root; see user.max_*_namespaces, and in a container its seccomp profile";
    Finding::fail(CHECK, format!("{which}: {why}"), remedy)
}

fn namespace_limits(host: &Host, config: &DaemonConfig) -> Finding {
    const CHECK: &str = "namespaces.limits";
    let jobs = i64::from(config.joblet.max_concurrent_jobs);
    let mut seen = Vec::new();
    let mut short: Option<(i64, &str)> = None;
    for kind in ["user", "pid", "mnt", "ipc", "uts", "cgroup", "net"] {
        // A kernel without the setting has no limit.
        let Some(limit) = host.number(&format!("/proc/sys/user/max_{kind}_namespaces")) else { continue };
        if limit <= jobs {
            seen.push(format!("user.max_{kind}_namespaces is {limit}"));
            short = Some(short.map_or((limit, kind), |least| least.min((limit, kind))));
        }
    }
    let Some((least, kind)) = short else {
        return Finding::ok(CHECK, format!("more than {jobs} of each kind (joblet.maxConcurrentJobs)"));
    };
    let remedy = format!("sysctl -w user.max_{kind}_namespaces={}", (jobs * 4).max(1024));
    let seen = format!("{}, for {jobs} jobs", seen.join(", "));
    if least == 0 { Finding::fail(CHECK, seen, remedy) } else { Finding::warn(CHECK, seen, remedy) }
}

/// Restrictions that distributions put on user namespaces of ordinary users. They do not concern those of root,
/// which another check tries.
fn restrictions(host: &Host) -> Finding {
    const CHECK: &str = "namespaces.restrictions";
    let settings = ["apparmor_restrict_unprivileged_userns", "unprivileged_userns_clone"];
    let seen: Vec<_> = settings
        .iter()
        .filter_map(|name| {
            Some(format!("kernel.{name} is {}", host.number(&format!("/proc/sys/kernel/{name}"))?))
        })
        .collect();
    if seen.is_empty() {
        return Finding::ok(CHECK, "none on user namespaces");
    }
    Finding::ok(CHECK, format!("{}, which binds unprivileged users only", seen.join(", ")))
}

fn ids(host: &Host, config: &DaemonConfig) -> Finding {
    const CHECK: &str = "ids.range";
    let (base, count) = (config.process.subid_base, config.process.subid_count);
    let files = ["/etc/passwd", "/etc/group", "/etc/subuid", "/etc/subgid"];
    let texts = files.map(|file| (file, host.text(file).unwrap_or_default()));
    match check_range(base - 1, count + 1, texts.each_ref().map(|(file, text)| (*file, text.as_str()))) {
        Ok(()) => {
            Finding::ok(CHECK, format!("{base} to {} belong to nobody", base.saturating_add(count) - 1))
        }
        Err(why) => Finding::fail(
            CHECK,
            why.to_string(),
            "set process.subidBase to an id behind every range of /etc/subuid, such as 1879048192",
        ),
    }
}

/// Makes the user namespace of a job of the profile `container`, gone when this returns.
fn container(config: &DaemonConfig) -> Option<Finding> {
    const CHECK: &str = "ids.container";
    let process = &config.process;
    let (first, number) = ranges(process.subid_base, process.subid_count, process.ids_per_job);
    if !process.allow_container_profile || number == 0 {
        return None;
    }
    // The last range: the first ones may be those of jobs.
    let last = first + (number - 1) * process.ids_per_job;
    let limits = limits_of_all_ids(config.joblet.default_pids_limit);
    Some(match make_whole_namespace(last, &limits) {
        Ok(_) => {
            Finding::ok(CHECK, format!("{number} ranges of {} ids, from {first} on", process.ids_per_job))
        }
        Err(why) => Finding::fail(
            CHECK,
            why.to_string(),
            "start joblet as root, in a user namespace that has these ids; or set process.allowContainerProfile: false",
        ),
    })
}

/// Yama's scope 3 forbids what `pidfd_getfd` needs, even to root (kernel: LSM/Yama.rst).
fn yama(host: &Host) -> Finding {
    const CHECK: &str = "kernel.yama";
    match host.number("/proc/sys/kernel/yama/ptrace_scope") {
        None => Finding::ok(CHECK, "no Yama"),
        Some(3) => Finding::warn(
            CHECK,
            "kernel.yama.ptrace_scope is 3: /proc/PID/fd is used where pidfd_getfd is refused",
            "set kernel.yama.ptrace_scope = 2 in /etc/sysctl.d, then reboot (3 cannot be taken back)",
        ),
        Some(scope) => Finding::ok(CHECK, format!("kernel.yama.ptrace_scope is {scope}")),
    }
}

fn scheduler() -> Finding {
    const CHECK: &str = "process.round_robin";
    // On a thread that ends with the question: the answer changes its own class only.
    match std::thread::spawn(probe::round_robin).join() {
        Ok(Ok(())) => Finding::ok(CHECK, "SCHED_RR is allowed"),
        Ok(Err(why)) => Finding::warn(
            CHECK,
            format!("SCHED_RR is refused ({why}): starts are slower under load"),
            "give joblet CAP_SYS_NICE or LimitRTPRIO=1, and its group a real-time budget (cpu.rt_runtime_us)",
        ),
        Err(_) => Finding::warn(CHECK, "cannot be asked", "report this"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Status, crafted};
    use super::*;

    #[test]
    fn missing_capability_of_the_sandbox_fails_and_others_warn() {
        for (mask, status, word) in [
            ("000001ffffffffff", Status::Ok, "all"),
            ("000001fffeffffff", Status::Warn, "CAP_SYS_RESOURCE"),
            ("000001ffffdfffff", Status::Fail, "CAP_SYS_ADMIN"),
            ("000001fffff7ffff", Status::Fail, "CAP_SYS_PTRACE"),
            ("0000000000000000", Status::Fail, "CAP_SETUID"),
            ("", Status::Fail, "CapEff"),
        ] {
            let (_dir, host) = crafted(&[("proc/self/status", &format!("Name:\tx\nCapEff:\t{mask}\n"))]);
            let finding = capabilities(&host);
            assert_eq!(finding.status, status, "{mask}: {}", finding.seen);
            assert!(finding.seen.contains(word), "{}", finding.seen);
        }
    }

    #[test]
    fn too_few_namespaces_are_reported_with_the_sysctl_command() {
        let config = DaemonConfig::default();
        let with = |limit| crafted(&[("proc/sys/user/max_net_namespaces", limit)]);
        let (_dir, none) = with("0\n");
        let finding = namespace_limits(&none, &config);
        assert_eq!(finding.status, Status::Fail);
        assert_eq!(finding.remedy.unwrap(), "sysctl -w user.max_net_namespaces=1024");
        let (_dir, few) = with("100\n");
        assert_eq!(namespace_limits(&few, &config).status, Status::Warn);
        let (_dir, many) = with("96343\n");
        assert_eq!(namespace_limits(&many, &config).status, Status::Ok);
    }

    #[test]
    fn a_range_of_ids_that_overlaps_a_user_is_named() {
        let config = DaemonConfig::default();
        let (_dir, free) =
            crafted(&[("etc/passwd", "root:x:0:0::/:/bin/sh\n"), ("etc/subuid", "a:100000:65536\n")]);
        assert_eq!(ids(&free, &config).status, Status::Ok);
        for (file, line) in [
            ("etc/passwd", "eve:x:1879048200:1::/:/bin/sh\n"),
            ("etc/subuid", "eve:1879000000:65536\n"),
            ("etc/subgid", "eve:1879113000:10000\n"),
        ] {
            let (_dir, taken) = crafted(&[(file, line)]);
            let finding = ids(&taken, &config);
            assert_eq!(finding.status, Status::Fail, "{file}");
            assert!(finding.seen.contains("eve") && finding.seen.contains(file), "{}", finding.seen);
        }
    }

    #[test]
    fn security_module_settings_are_reported() {
        let (_dir, strict) = crafted(&[
            ("proc/sys/kernel/yama/ptrace_scope", "3\n"),
            ("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n"),
        ]);
        assert_eq!(yama(&strict).status, Status::Warn);
        assert!(restrictions(&strict).seen.contains("apparmor_restrict_unprivileged_userns is 1"));
        let (_dir, usual) = crafted(&[("proc/sys/kernel/yama/ptrace_scope", "1\n")]);
        assert_eq!(yama(&usual).status, Status::Ok);
    }
}
