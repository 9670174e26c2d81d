//! The system calls that joblet-init makes (x86_64 numbers and layouts).

use crate::init_abi::order::{MOST, Order};
use crate::raw::{errno, syscall};

const READ: i64 = 0;
const POLL: i64 = 7;
const RECVMSG: i64 = 47;
const DUP3: i64 = 292;
const CLOSE_RANGE: i64 = 436;
const RT_SIGPROCMASK: i64 = 14;
const PWRITE64: i64 = 18;
const NANOSLEEP: i64 = 35;
const GETPID: i64 = 39;
const WAIT4: i64 = 61;
const MMAP: i64 = 9;
const MUNMAP: i64 = 11;
const KILL: i64 = 62;
const FCNTL: i64 = 72;
const GETCWD: i64 = 79;
const CHDIR: i64 = 80;
const GETRUSAGE: i64 = 98;
const SETSID: i64 = 112;
const SETGROUPS: i64 = 116;
const SETRESUID: i64 = 117;
const SETRESGID: i64 = 119;
const RT_SIGTIMEDWAIT: i64 = 128;
const STATFS: i64 = 137;
const SCHED_SETSCHEDULER: i64 = 144;
const SCHED_GETSCHEDULER: i64 = 145;
const PRCTL: i64 = 157;
const CLOCK_GETTIME: i64 = 228;
const EXIT_GROUP: i64 = 231;
const OPEN: i64 = 2;
const CLOSE: i64 = 3;
const WRITE: i64 = 1;
const EINTR: i32 = 4;

/// A call whose pointers, if any, refer to locals of the caller that outlive it.
fn call(number: i64, args: [usize; 6]) -> Result<usize, i32> {
    // SAFETY: the functions below pass numbers, or pointers to their own locals of the layout that the
    // kernel documents for the call.
    errno(unsafe { syscall(number, args) })
}

pub fn exit(code: i32) -> ! {
    loop {
        let _ = call(EXIT_GROUP, [code as usize, 0, 0, 0, 0, 0]);
    }
}

pub fn getpid() -> i32 {
    call(GETPID, [0; 6]).map_or(0, |pid| pid as i32)
}

/// PR_SET_DUMPABLE 0: no ptrace, no core, /proc/1 of this process closed to the job.
pub fn not_dumpable() {
    let _ = call(PRCTL, [4, 0, 0, 0, 0, 0]);
}

/// The name in `ps`; the kernel's own would be that of the memory file.
pub fn take_name() {
    let _ = call(PRCTL, [15, c"joblet-init".as_ptr() as usize, 0, 0, 0, 0]); // PR_SET_NAME
}

/// Takes these ids, and the groups at that address, four bytes each.
pub fn become_user(uid: u32, gid: u32, groups: usize, group_count: usize) -> Result<(), i32> {
    let (uid, gid) = (uid as usize, gid as usize);
    call(SETGROUPS, [group_count, groups, 0, 0, 0, 0])?;
    call(SETRESGID, [gid, gid, gid, 0, 0, 0])?;
    call(SETRESUID, [uid, uid, uid, 0, 0, 0]).map(drop)
}

pub fn block_all_signals() {
    set_mask(u64::MAX);
}

pub fn unblock_all_signals() {
    set_mask(0);
}

fn set_mask(mask: u64) {
    const SIG_SETMASK: usize = 2;
    let _ = call(RT_SIGPROCMASK, [SIG_SETMASK, &raw const mask as usize, 0, 8, 0, 0]);
}

/// A signal that was taken.
pub struct Taken {
    pub signal: i32,
    /// Sent by kill(2) or pidfd_send_signal(2) from outside of the job.
    pub from_outside: bool,
}

/// Waits for any blocked signal, at most `timeout_ns`; signal 0 when the time is over or nothing useful came.
pub fn wait_signal(timeout_ns: Option<i64>) -> Taken {
    let all = u64::MAX;
    let ns = timeout_ns.unwrap_or(0);
    let time = [ns / 1_000_000_000, ns % 1_000_000_000];
    let time_at = timeout_ns.map_or(0, |_| &raw const time as usize);
    let mut info = [0i32; 32]; // siginfo_t: signo, errno, code, padding, then the sender's pid and uid
    let args = [&raw const all as usize, &raw mut info as usize, time_at, 8, 0, 0];
    let signal = call(RT_SIGTIMEDWAIT, args).map_or(0, |signal| signal as i32);
    Taken { signal, from_outside: is_from_outside(info[2], info[4], info[5]) }
}

/// Only the kernel writes SI_USER, with the sender's ids as this job sees them: a process outside of it has no pid here,
/// and an unmapped uid (never 0). A job can choose pid and uid where it chooses a negative code (rt_sigqueueinfo(2)).
/// Where its limit of pending signals is reached, the kernel drops what it wrote and reports SI_USER with pid and uid 0.
fn is_from_outside(code: i32, pid: i32, uid: i32) -> bool {
    const SI_USER: i32 = 0;
    code == SI_USER && pid == 0 && uid != 0
}

/// Waits until a child has ended, at most `timeout_ns`. It is not reaped.
pub fn wait_child_end(timeout_ns: i64) {
    let set = 1u64 << (17 - 1); // SIGCHLD
    let time = [0, timeout_ns];
    let args = [&raw const set as usize, 0, &raw const time as usize, 8, 0, 0];
    let _ = call(RT_SIGTIMEDWAIT, args);
}

/// Reaps one child: its pid and status, (0, 0) when none has ended and `block` is off.
///
/// # Errors
/// errno; ECHILD when there is no child at all.
pub fn wait_any(block: bool) -> Result<(i32, i32), i32> {
    const WNOHANG: usize = 1;
    let mut status = 0i32;
    loop {
        let options = if block { 0 } else { WNOHANG };
        match call(WAIT4, [usize::MAX, &raw mut status as usize, options, 0, 0, 0]) {
            Ok(pid) => return Ok((pid as i32, status)),
            Err(EINTR) => {}
            Err(why) => return Err(why),
        }
    }
}

/// Whether the signal could be sent.
pub fn kill(pid: i32, signal: i32) -> bool {
    call(KILL, [pid as isize as usize, signal as usize, 0, 0, 0, 0]).is_ok()
}

pub fn close(fd: i32) {
    let _ = call(CLOSE, [fd as usize, 0, 0, 0, 0, 0]);
}

pub fn close_on_exec(fd: i32) {
    const F_SETFD: usize = 2;
    let _ = call(FCNTL, [fd as usize, F_SETFD, 1, 0, 0, 0]);
}

/// A copy of a descriptor that an exec closes, with a number of at least `lowest`; -1 where there can be none.
pub fn duplicate_above(fd: i32, lowest: i32) -> i32 {
    const F_DUPFD_CLOEXEC: usize = 1030;
    call(FCNTL, [fd as usize, F_DUPFD_CLOEXEC, lowest as usize, 0, 0, 0]).map_or(-1, |fd| fd as i32)
}

/// Gives a copy of a descriptor this number; an exec closes it. Whether it could be.
pub fn duplicate_to(fd: i32, number: i32) -> bool {
    const O_CLOEXEC: usize = 0o2000000;
    call(DUP3, [fd as usize, number as usize, O_CLOEXEC, 0, 0, 0]).is_ok()
}

/// Gives a copy of a descriptor this number; an exec leaves it open.
///
/// # Errors
/// errno.
pub fn pass_on(fd: i32, number: i32) -> Result<(), i32> {
    call(DUP3, [fd as usize, number as usize, 0, 0, 0, 0]).map(drop)
}

/// Gives the standard outputs copies of these descriptors and the standard input too, or, where that is no descriptor, makes
/// it /dev/null; an exec closes all others.
///
/// # Errors
/// errno.
pub fn take_standard(stdin: i32, stdout: i32, stderr: i32) -> Result<(), i32> {
    const CLOEXEC: usize = 4;
    let stdin = match stdin {
        0.. => stdin as usize,
        _ => call(OPEN, [c"/dev/null".as_ptr() as usize, 0, 0, 0, 0, 0])?,
    };
    for (fd, number) in [(stdin, 0), (stdout as usize, 1), (stderr as usize, 2)] {
        if fd != number {
            call(DUP3, [fd, number, 0, 0, 0, 0])?;
        }
    }
    call(CLOSE_RANGE, [3, u32::MAX as usize, CLOEXEC, 0, 0, 0]).map(drop)
}

/// An order that waits in the socket, and how many descriptors have come with it; `None`: none waits. Those that find no
/// room in our table are lost.
pub fn receive(socket: i32, descriptors: &mut [i32; MOST]) -> Option<(Order, usize)> {
    const DONTWAIT_CLOEXEC: usize = 0x40 | 0x4000_0000;
    /// `struct msghdr` (recvmsg(2)).
    #[repr(C)]
    struct Message {
        name: usize,
        name_length: usize,
        parts: usize,
        part_count: usize,
        control: usize,
        control_length: usize,
        flags: usize,
    }
    /// `struct cmsghdr` with room for the descriptors (cmsg(3)).
    #[repr(C, align(8))]
    struct Control {
        length: usize,
        level_and_kind: [i32; 2],
        descriptors: [i32; MOST],
    }
    const HEAD: usize = 16;
    let mut order = Order::default();
    let part = [&raw mut order as usize, size_of::<Order>()];
    let mut control = Control { length: 0, level_and_kind: [0; 2], descriptors: [-1; MOST] };
    let mut message = Message {
        name: 0,
        name_length: 0,
        parts: part.as_ptr() as usize,
        part_count: 1,
        control: &raw mut control as usize,
        control_length: size_of::<Control>(),
        flags: 0,
    };
    let read = loop {
        match call(RECVMSG, [socket as usize, &raw mut message as usize, DONTWAIT_CLOEXEC, 0, 0, 0]) {
            Err(EINTR) => {}
            Ok(read) if read > 0 => break read,
            Ok(_) | Err(_) => return None,
        }
    };
    // The kernel has written behind the compiler's back.
    // SAFETY: a local of this type, initialised above.
    let control = unsafe { (&raw const control).read_volatile() };
    // SAFETY: the same.
    let order = unsafe { (&raw const order).read_volatile() };
    let count = control.length.saturating_sub(HEAD) / size_of::<i32>();
    *descriptors = control.descriptors;
    let order = if read == size_of::<Order>() { order } else { Order::default() };
    Some((order, count.min(MOST)))
}

pub fn setsid() {
    let _ = call(SETSID, [0; 6]);
}

/// One write of the whole block at offset 0; whether it is written.
pub fn write_at_start(fd: i32, block: &[u8]) -> bool {
    call(PWRITE64, [fd as usize, block.as_ptr() as usize, block.len(), 0, 0, 0]) == Ok(block.len())
}

pub fn write(fd: i32, bytes: &[u8]) {
    let _ = call(WRITE, [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0]);
}

pub fn pause_ms(ms: i64) {
    let time = [0, ms * 1_000_000];
    let _ = call(NANOSLEEP, [&raw const time as usize, 0, 0, 0, 0, 0]);
}

pub fn now_ns() -> i64 {
    clock(0)
}

pub fn monotonic_ns() -> i64 {
    clock(1)
}

fn clock(id: usize) -> i64 {
    let mut time = [0i64; 2];
    let _ = call(CLOCK_GETTIME, [id, &raw mut time as usize, 0, 0, 0, 0]);
    time[0] * 1_000_000_000 + time[1]
}

/// CPU time and memory of all children that were reaped.
pub struct Usage {
    pub user_usec: u64,
    pub system_usec: u64,
    pub max_rss_kib: u64,
}

pub fn children_usage() -> Usage {
    const RUSAGE_CHILDREN: usize = usize::MAX;
    let mut usage = [0u64; 18]; // struct rusage: two timevals, then 14 longs, maxrss first
    let _ = call(GETRUSAGE, [RUSAGE_CHILDREN, &raw mut usage as usize, 0, 0, 0, 0]);
    Usage {
        user_usec: usage[0] * 1_000_000 + usage[1],
        system_usec: usage[2] * 1_000_000 + usage[3],
        max_rss_kib: usage[4],
    }
}

/// The room that a file system has left.
pub struct Room {
    pub no_block: bool,
    pub no_inode: bool,
}

/// Whether the file system at a path is full. One that has no size, or cannot be looked at, is not.
pub fn room(path: &core::ffi::CStr) -> Room {
    // struct statfs: type, size of a block, blocks, free ones, those for everybody, inodes, free ones, and more.
    let mut found = [0u64; 15];
    let _ = call(STATFS, [path.as_ptr() as usize, &raw mut found as usize, 0, 0, 0, 0]);
    // A file that did not fit may have left a little of it.
    let is_full = |total: u64, free: u64| total > 0 && free <= total / 256;
    Room { no_block: is_full(found[2], found[4]), no_inode: is_full(found[5], found[6]) }
}

const SCHED_RR: usize = 2;
const RESET_ON_FORK: usize = 0x4000_0000;

/// Whether the daemon had us run before ordinary load (SCHED_RR), so that a start does not queue behind other jobs.
pub fn is_first() -> bool {
    call(SCHED_GETSCHEDULER, [0; 6]) == Ok(SCHED_RR)
}

/// Comes behind joblet-init, before ordinary load, and alone: its children are scheduled ordinarily.
pub fn schedule_second() -> bool {
    schedule(0, SCHED_RR | RESET_ON_FORK, 1)
}

/// Ordinary scheduling for a payload that is second. The flag stays, nobody without privilege may clear it (sched(7));
/// to an ordinary process it means nothing.
pub fn demote(pid: i32) -> bool {
    schedule(pid, RESET_ON_FORK, 0)
}

/// Ordinary scheduling for ourselves. Any process may give up its priority.
pub fn schedule_ordinarily() -> bool {
    schedule(0, 0, 0)
}

fn schedule(pid: i32, policy: usize, priority: i32) -> bool {
    call(SCHED_SETSCHEDULER, [pid as usize, policy, &raw const priority as usize, 0, 0, 0]).is_ok()
}

/// chdir(2), then getcwd(2): the kernel answers "(unreachable)…" for a directory outside of our root
/// (CVE-2024-21626).
///
/// # Errors
/// errno.
pub fn enter(dir: *const u8) -> Result<(), i32> {
    call(CHDIR, [dir as usize, 0, 0, 0, 0, 0])?;
    let mut buffer = [0u8; 4096];
    call(GETCWD, [buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0, 0])?;
    if buffer[0] == b'/' { Ok(()) } else { Err(2) }
}

/// The first bytes of a file, as many as there are and fit. A pipe or a terminal is not waited for, nor taken over.
///
/// # Errors
/// errno.
pub fn read_head(path: *const u8, head: &mut [u8]) -> Result<usize, i32> {
    const NONBLOCK_NOCTTY_CLOEXEC: usize = 0o4000 | 0o400 | 0o2000000;
    let fd = call(OPEN, [path as usize, NONBLOCK_NOCTTY_CLOEXEC, 0, 0, 0, 0])?;
    let read = call(READ, [fd, head.as_mut_ptr() as usize, head.len(), 0, 0, 0]);
    let _ = call(CLOSE, [fd, 0, 0, 0, 0, 0]);
    read
}

/// Eight bytes of a pipe; `None` at its end.
pub fn read_u64(fd: i32) -> Option<u64> {
    let mut word = 0u64;
    loop {
        match call(READ, [fd as usize, &raw mut word as usize, 8, 0, 0, 0]) {
            Ok(8) => return Some(word),
            Err(EINTR) => {}
            Ok(_) | Err(_) => return None,
        }
    }
}

/// Maps a file, private and read-only, at an address where nothing is.
pub fn map(fd: i32, address: usize, length: usize) -> bool {
    const PROT_READ: usize = 1;
    const PRIVATE_FIXED_NOREPLACE: usize = 0x2 | 0x10_0000;
    let mapped = call(MMAP, [address, length, PROT_READ, PRIVATE_FIXED_NOREPLACE, fd as usize, 0]);
    mapped.is_ok_and(|at| at == address)
}

pub fn unmap(address: usize, length: usize) {
    let _ = call(MUNMAP, [address, length, 0, 0, 0, 0]);
}

/// Whether somebody may write to the pipe of this read end. Nobody, where that cannot be found out.
pub fn has_writer(fd: i32) -> bool {
    poll(fd, 0, 0) == Ok(0)
}

/// Whether a pipe has neither a byte nor an end, for so long. False where that cannot be found out.
pub fn is_silent(fd: i32, timeout_ms: i32) -> bool {
    const POLLIN: i16 = 1;
    poll(fd, POLLIN, timeout_ms) == Ok(0)
}

/// poll(2) of one descriptor; the kernel reports the end of a pipe unasked. It fails for a process whose RLIMIT_NOFILE
/// was lowered.
fn poll(fd: i32, events: i16, timeout_ms: i32) -> Result<usize, i32> {
    #[repr(C)]
    struct PollFd {
        fd: i32,
        events: i16,
        revents: i16,
    }
    let mut one = PollFd { fd, events, revents: 0 };
    call(POLL, [&raw mut one as usize, 1, timeout_ms as usize, 0, 0, 0])
}

/// The outcome of a wait on a pipe's read end.
pub enum Waited {
    /// A byte, which has been taken.
    Byte,
    /// No byte and no writer.
    HungUp,
}

/// Waits until there is a byte in the pipe or no writer. A plain read: poll(2) fails for a process whose
/// RLIMIT_NOFILE was lowered.
pub fn wait_byte(fd: i32) -> Waited {
    let mut byte = 0u8;
    loop {
        match call(READ, [fd as usize, &raw mut byte as usize, 1, 0, 0, 0]) {
            Ok(0) => return Waited::HungUp,
            Ok(_) => return Waited::Byte,
            Err(EINTR) => {}
            // Nothing can come through this pipe any more: like a daemon that is gone.
            Err(_) => return Waited::HungUp,
        }
    }
}
