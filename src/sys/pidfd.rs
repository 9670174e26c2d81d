//! What a pidfd tells beyond rustix.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

/// `PIDFD_GET_MNT_NAMESPACE` and `PIDFD_GET_NET_NAMESPACE` of linux/pidfd.h (6.11): `_IO(0xFF, n)`.
const GET_MNT_NAMESPACE: usize = 0xFF03;
const GET_NET_NAMESPACE: usize = 0xFF04;

/// Kills a child of ours and waits for its end, which comes at once unless it hangs in the kernel.
pub fn kill_and_reap(pidfd: BorrowedFd<'_>) {
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
    let _ = waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED);
}

/// The mount namespace of a process. `pid` is its number, which must be its own still: it is our child, and not
/// waited for.
pub fn mount_namespace(pidfd: BorrowedFd<'_>, pid: i32) -> io::Result<OwnedFd> {
    namespace(pidfd, GET_MNT_NAMESPACE, pid, "mnt")
}

/// The network namespace of a process; see [`mount_namespace`].
pub fn network_namespace(pidfd: BorrowedFd<'_>, pid: i32) -> io::Result<OwnedFd> {
    namespace(pidfd, GET_NET_NAMESPACE, pid, "net")
}

fn namespace(pidfd: BorrowedFd<'_>, request: usize, pid: i32, name: &str) -> io::Result<OwnedFd> {
    let args = [pidfd.as_raw_fd() as usize, request, 0, 0, 0, 0];
    // SAFETY: these requests take no argument and touch no memory of ours.
    let result = unsafe { super::raw::syscall(libc::SYS_ioctl, args) };
    match super::raw::errno(result) {
        // SAFETY: the kernel has just made this descriptor (CLOEXEC) for us.
        Ok(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
        // Kernels before 6.11.
        Err(libc::ENOTTY | libc::EINVAL) => File::open(format!("/proc/{pid}/ns/{name}")).map(OwnedFd::from),
        Err(why) => Err(io::Error::from_raw_os_error(why)),
    }
}
