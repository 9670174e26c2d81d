//! Operations on a pidfd that rustix lacks.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

/// `PIDFD_GET_MNT_NAMESPACE` and `PIDFD_GET_NET_NAMESPACE` of linux/pidfd.h (6.11): `_IO(0xFF, n)`.
const GET_MNT_NAMESPACE: usize = 0xFF03;
const GET_NET_NAMESPACE: usize = 0xFF04;

/// Kills a child of ours and waits for its end, which comes at once unless it hangs in the kernel.
pub fn kill_and_reap(pidfd: BorrowedFd<'_>) {
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
    let _ = waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED);
}

/// Kills a process, and waits so long at most until it is gone: of a PID 1, with all that it has.
///
/// # Errors
/// The kernel's refusal; or it is still there.
pub fn end(process: &OwnedFd, bound: Duration) -> io::Result<()> {
    let bound = Timespec::try_from(bound).map_err(io::Error::other)?;
    match pidfd_send_signal(process, Signal::KILL) {
        Err(Errno::SRCH) => return Ok(()),
        sent => sent?,
    }
    match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&bound))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

/// When a process started, in clock ticks since boot (proc_pid_stat(5), field 22); `None`: there is none.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold anything, parentheses too.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// A descriptor for a process, also of one that is no child of ours: pidfd_open(2). `start_time` identifies the process
/// beyond its number.
///
/// # Errors
/// There is no such process, or another one has the number.
pub fn open(pid: i32, start_time: u64) -> io::Result<OwnedFd> {
    let gone = || io::Error::from(rustix::io::Errno::SRCH);
    let number = rustix::process::Pid::from_raw(pid).ok_or_else(gone)?;
    let pidfd = rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty())?;
    // Looked at after the descriptor was opened: the number cannot pass on to another process in between unseen.
    if self::start_time(pid) == Some(start_time) { Ok(pidfd) } else { Err(gone()) }
}

/// A descriptor that another process has, shared with it: pidfd_getfd(2), and where Yama forbids that (scope 3), its
/// file, opened anew.
///
/// # Errors
/// It has none with this number, or the kernel lets us see none of its descriptors.
pub fn descriptor_of(pidfd: BorrowedFd<'_>, pid: i32, fd: i32) -> io::Result<OwnedFd> {
    rustix::process::pidfd_getfd(pidfd, fd, rustix::process::PidfdGetfdFlags::empty()).or_else(|why| {
        let path = format!("/proc/{pid}/fd/{fd}");
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::open(path, flags, rustix::fs::Mode::empty()).map_err(|_| io::Error::from(why))
    })
}

/// The same, but never opened anew: its position is the one that the other process has.
///
/// # Errors
/// It has none with this number, or the kernel does not let us share it.
pub fn shared_descriptor_of(pidfd: BorrowedFd<'_>, fd: i32) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_getfd(pidfd, fd, rustix::process::PidfdGetfdFlags::empty())?)
}

/// The mount namespace of a process. `pid` must still be its number: the process is our child, and nobody has
/// waited for it.
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
