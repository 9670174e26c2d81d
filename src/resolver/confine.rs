//! The calls that both processes keep: no file, no program, no other process. Each keeps the sockets that it was given.

use std::io;

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_keep_capabilities};

use super::MEMORY;
use crate::sandbox::filter::{self, ARCH_X86_64, Action, Policy, Row, Rule, Test};

const YES: Rule = Rule::Do(Action::Allow);
/// The family of a new socket is that of name servers.
const INTERNET: Rule = Rule::If {
    arg: 0,
    test: Test::Is(libc::AF_INET as u32),
    then: &YES,
    otherwise: &Rule::If {
        arg: 0,
        test: Test::Is(libc::AF_INET6 as u32),
        then: &YES,
        otherwise: &Rule::Do(Action::Errno(libc::EAFNOSUPPORT)),
    },
};

const fn allow(first: u32, names: &'static str) -> Row {
    Row { first, names, rule: YES, reason: "" }
}

const fn policy(rows: &'static [Row]) -> Policy {
    let (foreign, unknown) = (Action::KillProcess, Action::Errno(libc::EPERM));
    Policy { arch: ARCH_X86_64, foreign, unknown, rows }
}

/// Front: memory, its sockets, new ones to name servers.
const FRONT: Policy = policy(&[
    allow(0, "read write"),
    allow(3, "close"),
    allow(7, "poll"),
    allow(9, "mmap"),
    allow(11, "munmap brk rt_sigaction rt_sigprocmask rt_sigreturn ioctl"),
    allow(20, "writev"),
    allow(25, "mremap"),
    allow(28, "madvise"),
    Row { first: 41, names: "socket", rule: INTERNET, reason: "it speaks to name servers" },
    allow(42, "connect"),
    allow(44, "sendto recvfrom sendmsg recvmsg"),
    allow(49, "bind"),
    allow(51, "getsockname"),
    allow(54, "setsockopt getsockopt"),
    allow(60, "exit"),
    allow(72, "fcntl"),
    allow(131, "sigaltstack"),
    allow(202, "futex"),
    allow(228, "clock_gettime"),
    allow(231, "exit_group epoll_wait epoll_ctl"),
    allow(271, "ppoll"),
    allow(281, "epoll_pwait"),
    allow(288, "accept4"),
    allow(318, "getrandom"),
]);

/// Pin: memory, and the two sockets that it has.
const PIN: Policy = policy(&[
    allow(0, "read write"),
    allow(3, "close"),
    allow(7, "poll"),
    allow(9, "mmap"),
    allow(11, "munmap brk rt_sigaction rt_sigprocmask rt_sigreturn"),
    allow(25, "mremap"),
    allow(28, "madvise"),
    allow(44, "sendto recvfrom sendmsg recvmsg"),
    allow(60, "exit"),
    allow(131, "sigaltstack"),
    allow(202, "futex"),
    allow(228, "clock_gettime"),
    allow(231, "exit_group"),
    allow(271, "ppoll"),
]);

/// The process that is to be confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Reads what jobs ask.
    Front,
    /// Changes the router's sets.
    Pin,
}

/// Open files of pin: it has five.
const FILES_OF_PIN: u64 = 16;

/// Becomes this user, keeps one capability at most, and refuses all calls but those of the role from now on.
///
/// # Errors
/// The system's refusal.
pub(super) fn confine(role: Role, user: u32) -> io::Result<()> {
    let at_most = |limit: u64| Rlimit { current: Some(limit), maximum: Some(limit) };
    setrlimit(Resource::Core, at_most(0))?;
    setrlimit(Resource::Fsize, at_most(0))?;
    // Also where no controller counts the memory of a group.
    setrlimit(Resource::As, at_most(MEMORY))?;
    if role == Role::Pin {
        setrlimit(Resource::Nofile, at_most(FILES_OF_PIN))?;
    }
    set_keep_capabilities(role == Role::Pin)?;
    setgroups(&[])?;
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    let kept = match role {
        Role::Front => CapabilitySet::empty(),
        Role::Pin => CapabilitySet::NET_ADMIN,
    };
    let (effective, permitted, inheritable) = (kept, kept, CapabilitySet::empty());
    set_capabilities(None, CapabilitySets { effective, permitted, inheritable })?;
    rustix::thread::set_no_new_privs(true)?;
    let policy = if role == Role::Front { &FRONT } else { &PIN };
    crate::sys::seccomp::install(&filter::code(policy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_process_opens_files_or_starts_programs() {
        for policy in [&FRONT, &PIN] {
            let verdict = |call: i64, args| filter::verdict(policy, call as u32, ARCH_X86_64, &args);
            for call in [
                libc::SYS_open,
                libc::SYS_openat,
                libc::SYS_openat2,
                libc::SYS_execve,
                libc::SYS_execveat,
                libc::SYS_clone,
                libc::SYS_clone3,
                libc::SYS_fork,
                libc::SYS_ptrace,
                libc::SYS_kill,
                libc::SYS_setns,
                libc::SYS_unshare,
                libc::SYS_mprotect,
                libc::SYS_io_uring_setup,
            ] {
                assert_eq!(verdict(call, [0; 6]), Action::Errno(libc::EPERM), "{call}");
            }
            let netlink = [libc::AF_NETLINK as u64, 0, 0, 0, 0, 0];
            assert_ne!(verdict(libc::SYS_socket, netlink), Action::Allow);
            assert_eq!(verdict(libc::SYS_exit_group, [0; 6]), Action::Allow);
        }
    }

    #[test]
    fn rows_have_the_kernels_numbers() {
        for (number, name) in [
            (libc::SYS_getsockopt, "getsockopt"),
            (libc::SYS_epoll_ctl, "epoll_ctl"),
            (libc::SYS_accept4, "accept4"),
            (libc::SYS_recvmsg, "recvmsg"),
            (libc::SYS_ioctl, "ioctl"),
            (libc::SYS_ppoll, "ppoll"),
            (libc::SYS_getrandom, "getrandom"),
            (libc::SYS_epoll_pwait, "epoll_pwait"),
            (libc::SYS_futex, "futex"),
        ] {
            let row =
                FRONT.rows.iter().find(|row| (row.first..row.end()).contains(&(number as u32))).unwrap();
            let at = (number as u32 - row.first) as usize;
            assert_eq!(row.names.split(' ').nth(at), Some(name));
        }
    }
}
