//! Probes of the kernel that change nothing: does it know a call, may this process make it.
//!
//! A probe makes the call with an argument that the kernel must refuse once it has recognised the call, so the errno
//! distinguishes a kernel that lacks it (ENOSYS, E2BIG, ENOTTY) from one that has it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::raw;

/// `struct clone_args` up to `cgroup` (clone3(2)), as eleven words.
const CLONE_ARGS_WORDS: usize = 11;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// `PIDFD_GET_MNT_NAMESPACE` of linux/pidfd.h: `_IO(0xFF, 3)`, Linux 6.11.
const PIDFD_GET_MNT_NAMESPACE: usize = 0xff03;

/// Whether `clone3` can put a child into a cgroup (Linux 5.7). No child is made: `/dev/null` is no cgroup, so
/// the kernel answers EBADF after it has parsed the arguments.
///
/// # Errors
/// ENOSYS, E2BIG, EINVAL: it cannot.
pub fn clone_into_cgroup(not_a_cgroup: BorrowedFd<'_>) -> io::Result<()> {
    let mut args = [0u64; CLONE_ARGS_WORDS];
    args[0] = CLONE_INTO_CGROUP;
    args[4] = libc::SIGCHLD as u64;
    args[10] = not_a_cgroup.as_raw_fd() as u64;
    // SAFETY: `args` is a whole `struct clone_args` and outlives the call. Without CLONE_VM a child, were one
    // made against all expectation, has memory of its own, and leaves at once.
    let result =
        unsafe { raw::syscall(libc::SYS_clone3, [args.as_ptr() as usize, size_of_val(&args), 0, 0, 0, 0]) };
    match raw::errno(result) {
        Ok(0) => super::exit_now(0),
        Ok(_) | Err(libc::EBADF) => Ok(()),
        Err(errno) => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Whether a pidfd gives the namespaces of its process (`PIDFD_GET_*`, Linux 6.11).
///
/// # Errors
/// ENOTTY, EINVAL: it does not.
pub fn pidfd_namespaces(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the request takes no pointer; it answers with a new descriptor.
    let result = unsafe {
        raw::syscall(libc::SYS_ioctl, [pidfd.as_raw_fd() as usize, PIDFD_GET_MNT_NAMESPACE, 0, 0, 0, 0])
    };
    let fd = raw::errno(result).map_err(io::Error::from_raw_os_error)?;
    // SAFETY: the kernel made this descriptor just now, and nobody else knows its number.
    unsafe { raw::syscall(libc::SYS_close, [fd, 0, 0, 0, 0, 0]) };
    Ok(())
}

/// Whether seccomp filters can answer with an errno (seccomp(2), `SECCOMP_GET_ACTION_AVAIL`).
///
/// # Errors
/// ENOSYS, EINVAL, EOPNOTSUPP: they cannot.
pub fn seccomp_errno() -> io::Result<()> {
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    let args = [libc::SECCOMP_GET_ACTION_AVAIL as usize, 0, &raw const action as usize, 0, 0, 0];
    // SAFETY: the operation reads one 32-bit word, which outlives the call.
    let result = unsafe { raw::syscall(libc::SYS_seccomp, args) };
    raw::errno(result).map(drop).map_err(io::Error::from_raw_os_error)
}

/// Whether the calling thread may run under `SCHED_RR`; it does so afterwards, so call this from a thread that ends.
///
/// # Errors
/// EPERM: neither CAP_SYS_NICE nor RLIMIT_RTPRIO, or the cgroup has no real-time budget (sched(7)).
pub fn round_robin() -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: 1 };
    let args = [0, libc::SCHED_RR as usize, &raw const parameter as usize, 0, 0, 0];
    // SAFETY: the call reads one `struct sched_param`; thread 0 is the caller.
    let result = unsafe { raw::syscall(libc::SYS_sched_setscheduler, args) };
    raw::errno(result).map(drop).map_err(io::Error::from_raw_os_error)
}

/// Whether something keeps the clock right (adjtimex(2), nothing is adjusted).
///
/// # Errors
/// The kernel's refusal, such as a seccomp policy around us.
pub fn clock_is_synchronised() -> io::Result<bool> {
    // `struct timex` is 208 bytes; `modes` at 0 is zero (read only), `status` is at 40.
    let mut timex = [0u64; 32];
    // SAFETY: the kernel fills one `struct timex`, which fits into the array.
    let result = unsafe { raw::syscall(libc::SYS_adjtimex, [timex.as_mut_ptr() as usize, 0, 0, 0, 0, 0]) };
    raw::errno(result).map_err(io::Error::from_raw_os_error)?;
    Ok(timex[5] as u32 & libc::STA_UNSYNC as u32 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn kernel_probes_leave_no_child_and_no_descriptor() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let pidfd =
            rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())
                .unwrap();
        clone_into_cgroup(null.as_fd()).unwrap();
        seccomp_errno().unwrap();
        clock_is_synchronised().unwrap();
        // 6.11 or newer has it, and elsewhere the answer is an errno of its own.
        if let Err(why) = pidfd_namespaces(pidfd.as_fd()) {
            assert!(matches!(why.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL)), "{why}");
        }
        assert_eq!(size_of::<libc::timex>(), 208);
        assert_eq!(std::mem::offset_of!(libc::timex, status), 40);
        // The answer of a kernel that does not know a request, seen here by a descriptor that is no pidfd.
        assert!(pidfd_namespaces(null.as_fd()).is_err());
    }
}
