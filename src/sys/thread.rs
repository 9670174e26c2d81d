//! Changes to one thread alone: its namespaces, and the scheduling of it or of a child.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// Gives the calling thread an own root, working directory and umask (`CLONE_FS`), which setns(2) into a
/// mount namespace demands.
pub fn unshare_fs() -> io::Result<()> {
    // SAFETY: CLONE_FS changes the calling thread's fs_struct only; no Rust object refers to it.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }.map_err(io::Error::from)
}

/// Moves the calling thread into a fresh copy of its mount namespace (and an own fs_struct).
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: the flags touch the calling thread's namespaces and fs_struct only, no descriptor.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }.map_err(io::Error::from)
}

/// Joins a mount namespace; the thread must have its own fs_struct ([`unshare_fs`]).
pub fn join_mounts(namespace: BorrowedFd<'_>) -> io::Result<()> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount)).map_err(io::Error::from)
}

/// Joins a network namespace.
pub fn join_network(namespace: BorrowedFd<'_>) -> io::Result<()> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network)).map_err(io::Error::from)
}

/// Puts the calling thread under SCHED_RR at the lowest priority: it runs before every thread that is scheduled
/// ordinarily (sched(7)). Its children are scheduled ordinarily again. Such a thread must not spin for others, see
/// [`super::mailbox`].
///
/// # Errors
/// No CAP_SYS_NICE, or a kernel that has given the thread's group no real-time share (CONFIG_RT_GROUP_SCHED).
pub fn schedule_first() -> io::Result<()> {
    set_policy(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, 1)
}

/// Like [`schedule_first`] for another thread of this process, until that calls [`schedule_ordinarily`]: for a while it
/// works for a thread that waits.
///
/// # Errors
/// As [`schedule_first`]; or the thread is gone.
pub fn schedule_first_also(thread: i32) -> io::Result<()> {
    set_policy(thread, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, 1)
}

/// Undoes [`schedule_first`].
///
/// # Errors
/// None that sched(7) knows for a thread's own way back.
pub fn schedule_ordinarily() -> io::Result<()> {
    set_policy(0, libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, 0)
}

/// Puts a process under SCHED_RR, a step above [`schedule_first`]; its children too.
///
/// # Errors
/// As [`schedule_first`].
pub fn schedule_above(pid: i32) -> io::Result<()> {
    set_policy(pid, libc::SCHED_RR, 2)
}

fn set_policy(pid: i32, policy: i32, priority: i32) -> io::Result<()> {
    // `priority` is the whole of struct sched_param.
    let args = [pid as usize, policy as usize, &raw const priority as usize, 0, 0, 0];
    // SAFETY: `priority` lives until the call returns.
    let result = unsafe { super::raw::syscall(libc::SYS_sched_setscheduler, args) };
    super::raw::errno(result).map(drop).map_err(io::Error::from_raw_os_error)
}
