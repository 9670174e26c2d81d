//! The kernel: its version, and each system call that the isolation needs.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{MemfdFlags, Mode, fchmod, memfd_create};
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, fsopen};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use super::{Finding, Host};
use crate::cgroup::probe_device_program;
use crate::sys::{mount, probe};

const OLDEST: (u32, u32) = (5, 15);
const NEWER: &str = "install a kernel of 5.15 or later: apt-get install linux-image-amd64, then reboot";

pub(super) fn checks(host: &Host) -> Vec<Finding> {
    let mut all = vec![version(host)];
    // It may be any kind of file on this host, and opening it must not wait; the sandbox checks its kind later.
    let null = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/null") {
        Ok(null) => null,
        Err(why) => {
            let remedy = "mknod -m 666 /dev/null c 1 3";
            all.push(Finding::fail("kernel.devices", format!("/dev/null: {why}"), remedy));
            return all;
        }
    };
    all.push(call(
        "kernel.clone_into_cgroup",
        "clone3 puts a child into its group",
        probe::clone_into_cgroup(null.as_fd()),
    ));
    all.push(call(
        "kernel.mount_setattr",
        "mount_setattr makes trees of mounts read-only",
        // No attribute to change: a kernel that has the call answers with success.
        mount::set_attributes(null.as_fd(), c"", 0, false),
    ));
    all.push(call("kernel.seccomp", "seccomp filters answer with an errno", probe::seccomp_errno()));
    all.push(device_program());
    all.push(overlay());
    all.push(memfd(host));
    all.push(pidfd_files(&null));
    all.push(pidfd_namespaces());
    all
}

fn call(check: &str, seen: &str, answer: io::Result<()>) -> Finding {
    match answer {
        Ok(()) => Finding::ok(check, seen),
        Err(why) if why.raw_os_error() == Some(libc::EPERM) => Finding::fail(
            check,
            why.to_string(),
            "start joblet as root; in a container, give it CAP_SYS_ADMIN",
        ),
        Err(why) => Finding::fail(check, why.to_string(), NEWER),
    }
}

/// A second wall: without it the mount namespaces of jobs alone keep devices away, so it is no failure.
fn device_program() -> Finding {
    const CHECK: &str = "kernel.device_program";
    match probe_device_program() {
        Ok(()) => Finding::ok(CHECK, "a program of the kernel's decides which devices jobs may open"),
        Err(why) => Finding::warn(
            CHECK,
            format!("no program decides which devices jobs may open, their /dev alone does: bpf: {why}"),
            "start joblet as root with CAP_SYS_ADMIN, on a kernel with CONFIG_CGROUP_BPF",
        ),
    }
}

/// Asking for the file system loads its module.
fn overlay() -> Finding {
    const CHECK: &str = "kernel.overlay";
    match fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(_) => Finding::ok(CHECK, "overlayfs gives each job inodes of its own for the host's files"),
        Err(Errno::PERM) => Finding::fail(
            CHECK,
            "not permitted",
            "start joblet as root; in a container, give it CAP_SYS_ADMIN",
        ),
        Err(why) => Finding::fail(CHECK, why.to_string(), "modprobe overlay"),
    }
}

fn version(host: &Host) -> Finding {
    const CHECK: &str = "kernel.version";
    let text = host.text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = text.trim();
    match parse(release) {
        Some(version) if version >= OLDEST => Finding::ok(CHECK, format!("Linux {release}")),
        Some(_) => Finding::fail(CHECK, format!("Linux {release}, and joblet needs 5.15"), NEWER),
        None => Finding::warn(CHECK, format!("{release:?} is no version"), NEWER),
    }
}

/// "6.1.0-28-amd64": the first two numbers.
fn parse(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// joblet-init is executed from a memfd, which `vm.memfd_noexec` can forbid (Linux 6.3, proc_sys_vm(5)).
fn memfd(host: &Host) -> Finding {
    const CHECK: &str = "kernel.memfd_exec";
    let setting = match host.number("/proc/sys/vm/memfd_noexec") {
        Some(number) => format!("vm.memfd_noexec is {number}"),
        None => "no vm.memfd_noexec".to_owned(),
    };
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let executable = |flags| -> io::Result<()> {
        // A memfd that is sealed against execution refuses the mode.
        Ok(fchmod(memfd_create("joblet-doctor", flags)?, Mode::from_raw_mode(0o555))?)
    };
    match executable(flags | MemfdFlags::EXEC).or_else(|_| executable(flags)) {
        Ok(()) => Finding::ok(CHECK, format!("programs in memory can be executed; {setting}")),
        Err(why) => Finding::fail(CHECK, format!("{why}; {setting}"), "sysctl -w vm.memfd_noexec=1"),
    }
}

fn pidfd_files(null: &File) -> Finding {
    const CHECK: &str = "kernel.pidfd_getfd";
    let take = || {
        pidfd_getfd(pidfd_open(getpid(), PidfdFlags::empty())?, null.as_raw_fd(), PidfdGetfdFlags::empty())
    };
    match take() {
        Ok(_) => Finding::ok(CHECK, "descriptors of another process can be taken over"),
        Err(why) => Finding::warn(CHECK, format!("{why}: /proc/PID/fd is used instead"), NEWER),
    }
}

fn pidfd_namespaces() -> Finding {
    const CHECK: &str = "kernel.pidfd_namespaces";
    let asked = pidfd_open(getpid(), PidfdFlags::empty()).map_err(io::Error::from);
    match asked.and_then(|pidfd| probe::pidfd_namespaces(pidfd.as_fd())) {
        Ok(()) => Finding::ok(CHECK, "PIDFD_GET_* are there"),
        // Linux 6.11 and later; what older ones lack costs a path below /proc and nothing else.
        Err(why) => Finding::ok(CHECK, format!("no PIDFD_GET_* ({why}): /proc/PID/ns is used instead")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Status, crafted};
    use super::*;

    #[test]
    fn versions_before_the_oldest_fail() {
        for (release, status) in [
            ("5.14.21-150500-default\n", Status::Fail),
            ("4.19.0\n", Status::Fail),
            ("5.15.0-1-cloud-amd64\n", Status::Ok),
            ("6.1.0-28-amd64\n", Status::Ok),
            ("7.0-rc1\n", Status::Ok),
            ("", Status::Warn),
        ] {
            let (_dir, host) = crafted(&[("proc/sys/kernel/osrelease", release)]);
            assert_eq!(version(&host).status, status, "{release}");
        }
    }

    #[test]
    fn missing_system_call_is_distinguished_from_missing_privilege() {
        let shortage = call("x", "y", Err(io::Error::from_raw_os_error(libc::ENOSYS)));
        assert!(shortage.remedy.unwrap().contains("kernel"));
        let may_not = call("x", "y", Err(io::Error::from_raw_os_error(libc::EPERM)));
        assert!(may_not.remedy.unwrap().contains("root"));
    }
}
