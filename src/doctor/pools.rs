//! Pools of the kernel that all processes of a host share: processes, open files, memory that may be promised, and
//! who is charged for the pools that each user has.

use std::os::fd::AsFd;

use super::{Finding, Host};
use crate::cgroup::{most_processes, share};
use crate::config::daemon::DaemonConfig;
use crate::job::User;
use crate::sandbox::identity::make_namespace;
use crate::sys::user_namespace::owner;

/// Memory of one open file in the kernel, about. Where more files fit into memory than `fs.file-max` allows, they run out
/// before the memory limits of jobs stop them.
const BYTES_OF_A_FILE: i64 = 256;

pub(super) fn checks(host: &Host, config: &DaemonConfig) -> Vec<Finding> {
    vec![owners(config), processes(config), files(host), orphans(host, config), promises(host)]
}

/// Makes a user namespace as for a job: the kernel charges its owner for what the job takes.
fn owners(config: &DaemonConfig) -> Finding {
    const CHECK: &str = "pools.owner";
    // The last id: the first ones may be those of jobs.
    let id = config.process.subid_base.saturating_add(config.process.subid_count).saturating_sub(1);
    let remedy = "start joblet as root; in a container, with a writable /proc/sys";
    match make_namespace(id, User::Root).map(|namespace| owner(namespace.as_fd())) {
        Ok(Ok(found)) if found == id => Finding::ok(CHECK, "each job is charged for what it takes"),
        Ok(Ok(found)) => {
            let seen = format!("a job's user namespace belongs to uid {found}, which all jobs then share");
            Finding::fail(CHECK, seen, remedy)
        }
        Ok(Err(why)) => Finding::fail(CHECK, format!("the owner of a user namespace: {why}"), remedy),
        Err(why) => Finding::fail(CHECK, why.to_string(), remedy),
    }
}

fn processes(config: &DaemonConfig) -> Finding {
    const CHECK: &str = "pools.processes";
    match most_processes() {
        Ok(most) => number_of_processes(CHECK, most, config.joblet.max_concurrent_jobs),
        Err(why) => Finding::fail(CHECK, why.to_string(), "mount -t proc proc /proc"),
    }
}

fn number_of_processes(check: &str, most: u32, jobs: u32) -> Finding {
    let each = share(most, jobs);
    if each.jobs < jobs {
        let seen = format!("{most} processes and threads for {jobs} jobs (joblet.maxConcurrentJobs)");
        return Finding::warn(check, seen, format!("sysctl -w kernel.pid_max={}", jobs.saturating_mul(64)));
    }
    Finding::ok(check, format!("{most} for all jobs, a quarter of the kernel's stays with the host"))
}

fn files(host: &Host) -> Finding {
    const CHECK: &str = "pools.files";
    let Some(most) = host.number("/proc/sys/fs/file-max") else {
        return Finding::warn(CHECK, "/proc/sys/fs/file-max is no number", "mount -t proc proc /proc");
    };
    let memory = host.text("/proc/meminfo").unwrap_or_default();
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: i64 = kib.and_then(|kib| kib.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
    if most < kib.saturating_mul(1024) / BYTES_OF_A_FILE {
        let seen = format!("fs.file-max is {most}: jobs can take all of them before their memory ends");
        return Finding::warn(CHECK, seen, "sysctl -w fs.file-max=9223372036854775807");
    }
    Finding::ok(CHECK, "open files end with the memory of the job that opens them")
}

/// Memory of a closed TCP connection with data that was not sent, at least.
const BYTES_OF_AN_ORPHAN: i64 = 4096;

/// The kernel resets connections of the whole host beyond `net.ipv4.tcp_max_orphans` when they are closed with data that
/// was not sent (ip-sysctl.rst).
fn orphans(host: &Host, config: &DaemonConfig) -> Finding {
    const CHECK: &str = "pools.orphans";
    let Some(most) = host.number("/proc/sys/net/ipv4/tcp_max_orphans") else {
        // Not in every network namespace.
        return Finding::ok(CHECK, "closed connections are not counted here");
    };
    let memory = i64::from(config.joblet.default_memory_limit) << 20;
    let needed = memory / BYTES_OF_AN_ORPHAN;
    if most < needed {
        let seen = format!(
            "net.ipv4.tcp_max_orphans is {most}: one job's memory (joblet.defaultMemoryLimit) has room for {needed} \
             closed connections with data, and then the host's are reset"
        );
        return Finding::warn(CHECK, seen, format!("sysctl -w net.ipv4.tcp_max_orphans={}", 4 * needed));
    }
    Finding::ok(CHECK, format!("{most} closed connections with data, more than one job has memory for"))
}

fn promises(host: &Host) -> Finding {
    const CHECK: &str = "pools.commit";
    if host.number("/proc/sys/vm/overcommit_memory") == Some(2) {
        let seen = "vm.overcommit_memory is 2: one job can reserve the memory of all without using it";
        return Finding::warn(CHECK, seen, "sysctl -w vm.overcommit_memory=0");
    }
    Finding::ok(CHECK, "memory is counted when it is used")
}

#[cfg(test)]
mod tests {
    use super::super::{Status, crafted};
    use super::*;

    #[test]
    fn pools_that_jobs_can_empty_are_named_with_the_command() {
        let memory = ("proc/meminfo", "MemTotal:       24683612 kB\nMemFree: 1 kB\n");
        let (_dir, small) = crafted(&[("proc/sys/fs/file-max", "2466174\n"), memory]);
        let found = files(&small);
        assert_eq!((found.status, found.check.as_str()), (Status::Warn, "pools.files"));
        let (_dir, large) = crafted(&[("proc/sys/fs/file-max", "9223372036854775807\n"), memory]);
        assert_eq!(files(&large).status, Status::Ok);
        let orphans_of = |most| {
            let (_dir, host) = crafted(&[("proc/sys/net/ipv4/tcp_max_orphans", most)]);
            orphans(&host, &DaemonConfig::default())
        };
        assert_eq!(orphans_of("131072\n").status, Status::Ok);
        let few = orphans_of("16384\n");
        let remedy = "sysctl -w net.ipv4.tcp_max_orphans=524288";
        assert_eq!((few.status, few.remedy.as_deref()), (Status::Warn, Some(remedy)));
        let (_dir, strict) = crafted(&[("proc/sys/vm/overcommit_memory", "2\n")]);
        assert_eq!(promises(&strict).status, Status::Warn);
        let (_dir, usual) = crafted(&[("proc/sys/vm/overcommit_memory", "0\n")]);
        assert_eq!(promises(&usual).status, Status::Ok);
        assert_eq!(number_of_processes("x", 24_576, 100).status, Status::Ok);
        let few = number_of_processes("x", 750, 100);
        assert_eq!(
            (few.status, few.remedy.as_deref()),
            (Status::Warn, Some("sysctl -w kernel.pid_max=6400"))
        );
    }
}
