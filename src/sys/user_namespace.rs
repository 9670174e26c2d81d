//! A user namespace that a given user owns, made by root.
//!
//! The kernel counts what a process takes of its pools for users (inotify, message queues, timers, signals ...) for the
//! id in its namespace, and for the *owner* of that namespace in the one above (`struct ucounts`). The owner is the id
//! that made the namespace. So a process of ours becomes that id first; it keeps its capabilities, because some
//! hosts let nobody else make one.
//!
//! In a namespace of many ids each of them has a count of its own. The resource limits of the process that makes the
//! namespace bound the sum: the kernel keeps them and compares them with the owner's count (Linux 5.14).

use std::ffi::{CStr, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::pipe::{PipeFlags, pipe_with};

use super::clone::{Idle, pause_for_ever};
use super::raw::{errno, syscall};

/// `NS_GET_OWNER_UID` of linux/nsfs.h: `_IO(0xb7, 4)`.
const NS_GET_OWNER_UID: usize = 0xb704;

/// A setting of the new namespace: a file below `/proc`, and its value.
pub type Setting = (&'static CStr, &'static CStr);

/// A resource (`RLIMIT_*`) and its limit, soft and hard.
pub type Limit = (u32, u64);

/// The step that failed, and the kernel's answer.
pub type Refusal = (&'static str, io::Error);

/// The steps of the child, which reports the number of the one that failed.
const STEPS: [&str; 4] =
    ["become its owner", "create it", "limit its pools", "limit all of its ids together"];

/// The child's instructions, in memory that it shares with us until it has reported.
struct Order<'a> {
    parent: usize,
    report: usize,
    /// The root of procfs. The owner may have no way to it: `/` of some hosts is root's alone.
    proc: usize,
    id: u32,
    settings: &'static [Setting],
    limits: &'a [Limit],
}

/// The child's report: the step that failed, and its errno; 0 is success.
type Report = [i32; 2];

/// Starts a process that holds a new user namespace, owned by `id` (uid and gid), with these settings and with these limits
/// for all of its ids together. Its maps are still to be written. A setting that this kernel lacks is left out.
///
/// # Errors
/// The step that failed.
pub fn hold(id: u32, settings: &'static [Setting], limits: &[Limit]) -> Result<Idle, Refusal> {
    let starting = |why: rustix::io::Errno| ("start a process for it", why.into());
    let (heard, report) = pipe_with(PipeFlags::CLOEXEC).map_err(starting)?;
    let proc = File::open("/proc").map_err(|why| ("open /proc for it", why))?;
    let (reported, opened) = (report.as_raw_fd() as usize, proc.as_raw_fd() as usize);
    let parent = std::process::id() as usize;
    let mut order = Order { parent, report: reported, proc: opened, id, settings, limits };
    // SAFETY: `child` makes raw calls only and leaves `order` alone once it has reported or ended; we read until then.
    let idle = unsafe { Idle::run(0, child, (&raw mut order).cast()) };
    // Ours goes, so that the child's end is an end of file.
    drop(report);
    let idle = idle.map_err(|why| ("start a process for it", why))?;
    let mut bytes = [0; size_of::<Report>()];
    let got = rustix::io::retry_on_intr(|| rustix::io::read(&heard, &mut bytes));
    let (step, why) = bytes.split_at(size_of::<i32>());
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, i32::from_ne_bytes);
    match (got, number(why)) {
        (Ok(n), 0) if n == bytes.len() => Ok(idle),
        (Ok(n), why) if n == bytes.len() => {
            let step = STEPS.get(number(step) as usize).copied().unwrap_or_default();
            Err((step, io::Error::from_raw_os_error(why)))
        }
        (Ok(_), _) => Err(("hear of it", io::ErrorKind::UnexpectedEof.into())),
        (Err(why), _) => Err(("hear of it", why.into())),
    }
}

/// The id that owns a user namespace.
///
/// # Errors
/// It is no user namespace.
pub fn owner(namespace: BorrowedFd<'_>) -> io::Result<u32> {
    let mut id = 0u32;
    let args = [namespace.as_raw_fd() as usize, NS_GET_OWNER_UID, &raw mut id as usize, 0, 0, 0];
    // SAFETY: the request stores one `uid_t`, which outlives the call.
    errno(unsafe { syscall(libc::SYS_ioctl, args) }).map_err(io::Error::from_raw_os_error)?;
    Ok(id)
}

extern "C" fn child(order: *mut c_void) -> ! {
    // SAFETY: `hold` passes an Order that lives until our report is read or we end.
    let order = unsafe { &*order.cast::<Order<'_>>() };
    let (parent, report) = (order.parent, order.report);
    let said: Report = match prepare(order) {
        Ok(()) => [0, 0],
        Err((step, why)) => [step, why],
    };
    let args = [report, said.as_ptr() as usize, size_of::<Report>(), 0, 0, 0];
    if call(libc::SYS_write, args).is_err() || said[1] != 0 {
        super::exit_now(1)
    }
    pause_for_ever(parent as *mut c_void)
}

/// A call whose pointers lead to constants or to the caller's frame.
fn call(number: i64, args: [usize; 6]) -> Result<usize, i32> {
    // SAFETY: every caller passes plain numbers, or pointers to strings and structs that outlive the call, of the sizes
    // that the kernel expects for `number`.
    errno(unsafe { syscall(number, args) })
}

fn prepare(order: &Order<'_>) -> Result<(), (i32, i32)> {
    for (resource, limit) in order.limits {
        let both = [*limit, *limit]; // struct rlimit64 (prlimit(2))
        let args = [0, *resource as usize, both.as_ptr() as usize, 0, 0, 0];
        call(libc::SYS_prlimit64, args).map_err(|why| (3, why))?;
    }
    become_owner(order.id as usize, !order.limits.is_empty()).map_err(|why| (0, why))?;
    call(libc::SYS_unshare, [libc::CLONE_NEWUSER as usize, 0, 0, 0, 0, 0]).map_err(|why| (1, why))?;
    for (file, value) in order.settings {
        match set(order.proc, file, value) {
            Ok(()) | Err(libc::ENOENT) => {}
            Err(why) => return Err((2, why)),
        }
    }
    Ok(())
}

/// The effective ids, by which the kernel takes the owner; the effective capabilities go with them, and come back. With
/// `real` the real ones too: a namespace that the real uid 0 makes has no limit of processes.
fn become_owner(id: usize, real: bool) -> Result<(), i32> {
    let unchanged = usize::MAX;
    let first = if real { id } else { unchanged };
    call(libc::SYS_setresgid, [first, id, unchanged, 0, 0, 0])?;
    call(libc::SYS_setresuid, [first, id, unchanged, 0, 0, 0])?;
    let header = [0x2008_0522u32, 0]; // _LINUX_CAPABILITY_VERSION_3, ourselves (capset(2))
    let mut sets = [0u32; 6]; // effective, permitted, inheritable, twice
    call(libc::SYS_capget, [header.as_ptr() as usize, sets.as_mut_ptr() as usize, 0, 0, 0, 0])?;
    (sets[0], sets[3]) = (sets[1], sets[4]);
    call(libc::SYS_capset, [header.as_ptr() as usize, sets.as_ptr() as usize, 0, 0, 0, 0]).map(drop)
}

fn set(proc: usize, file: &CStr, value: &CStr) -> Result<(), i32> {
    let flags = (libc::O_WRONLY | libc::O_CLOEXEC) as usize;
    let fd = call(libc::SYS_openat, [proc, file.as_ptr() as usize, flags, 0, 0, 0])?;
    let written = call(libc::SYS_write, [fd, value.as_ptr() as usize, value.count_bytes(), 0, 0, 0]);
    call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
    written.map(drop)
}
