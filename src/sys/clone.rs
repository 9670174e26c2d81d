//! `clone3(2)` with a child that borrows the caller's memory.
//!
//! `CLONE_VM | CLONE_VFORK`: the child runs on a stack of its own in the daemon's address space while the
//! calling thread waits in the kernel until the child executes or exits. Nothing is copied, so the price does
//! not grow with the daemon (a copying clone costs about 20 us per MiB of it).

use std::cell::Cell;
use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use rustix::process::{Signal, pidfd_send_signal};

/// Starts the child in the cgroup that `clone_args.cgroup` names (linux/sched.h; libc lacks it for this target).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

thread_local! {
    /// Set while a child runs on this thread's memory: an allocator may refuse to work then.
    static CHILD_RUNS: Cell<bool> = const { Cell::new(false) };
}

/// Whether a cloned child is running on the calling thread's memory. A test allocator asks this to prove that
/// the child does not allocate.
pub fn child_runs() -> bool {
    CHILD_RUNS.with(Cell::get)
}

/// The kernel's `struct clone_args` (clone3(2)), up to `cgroup`.
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Bytes of a child's stack. The child's frames are a few hundred bytes; the rest is room for the compiler.
const STACK_SIZE: usize = 64 * 1024;
const GUARD: usize = 4096;

/// A stack for one child at a time, with an inaccessible page below it.
#[derive(Debug)]
pub struct ChildStack(*mut c_void);

// SAFETY: the mapping belongs to the value; nothing refers to the thread that made it.
unsafe impl Send for ChildStack {}

impl ChildStack {
    /// Maps a stack.
    pub fn new() -> io::Result<Self> {
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::STACK);
        // SAFETY: an anonymous mapping at an address of the kernel's choice overlaps nothing of ours.
        let base =
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), STACK_SIZE + GUARD, prot, flags)? };
        let stack = ChildStack(base);
        // SAFETY: the first page of the mapping just made, which nothing uses yet.
        unsafe { rustix::mm::mprotect(base, GUARD, MprotectFlags::empty())? };
        Ok(stack)
    }

    fn lowest(&self) -> u64 {
        self.0 as u64 + GUARD as u64
    }
}

impl Drop for ChildStack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, of this size, and no child runs on it: `spawn` returns only after its
        // child has left this memory.
        let _ = unsafe { rustix::mm::munmap(self.0, STACK_SIZE + GUARD) };
    }
}

/// A child that exists.
#[derive(Debug)]
pub struct Cloned {
    /// Refers to the child, never to a later process of the same number.
    pub pidfd: OwnedFd,
    /// Its number in our pid namespace.
    pub pid: i32,
}

/// Lets another thread end a child that does not leave the memory it shares with the thread that waits for it: one
/// that hangs in the kernel, on a file system that does not answer for example.
#[derive(Debug, Default)]
pub struct Watch {
    // Locked while the descriptor is used, so that it is still the child's.
    since: Mutex<Option<Instant>>,
    pidfd: AtomicI32,
    killed: AtomicBool,
}

/// No descriptor yet.
const NONE: i32 = -1;

impl Watch {
    /// Kills a child that has been there for longer than `bound`. The thread that waits for it goes on then, unless
    /// the child cannot be killed either.
    pub fn kill_if_older(&self, bound: Duration) -> bool {
        let since = self.since.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let pidfd = self.pidfd.load(Ordering::Acquire);
        if since.is_none_or(|since| since.elapsed() < bound) || pidfd == NONE {
            return false;
        }
        // SAFETY: the kernel stored it for the child that `since` belongs to, and it is closed after `end` only, which
        // waits for the lock.
        let pidfd = unsafe { BorrowedFd::borrow_raw(pidfd) };
        self.killed.store(true, Ordering::Release);
        pidfd_send_signal(pidfd, Signal::KILL).is_ok()
    }

    /// Whether the last child was killed by [`Watch::kill_if_older`].
    pub fn has_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    fn begin(&self) {
        self.killed.store(false, Ordering::Release);
        self.pidfd.store(NONE, Ordering::Release);
        *self.since.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Instant::now());
    }

    fn end(&self) {
        *self.since.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
    }
}

/// Clones a child that runs `entry(argument)` on `stack`, sharing memory, while this thread waits until the
/// child executes a program or exits. `watch` refers to the child meanwhile.
///
/// `flags` are `CLONE_NEW*` flags, and `CLONE_FILES` for a child that takes its own descriptor
/// table at once; `cgroup` is the directory of the cgroup v2 group to start in
/// (`CLONE_INTO_CGROUP`, kernel 5.7): joining later by cgroup.procs costs up to 15 ms.
///
/// # Safety
/// `entry` runs concurrently with every other thread in the same memory: it must not allocate, lock, unwind,
/// use thread-local storage or libc wrappers that do, and must end in execve(2) or exit(2). What `argument`
/// points to must stay valid until this call returns, and be touched by nobody else meanwhile.
pub unsafe fn spawn(
    stack: &mut ChildStack,
    watch: &Watch,
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    entry: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> io::Result<Cloned> {
    CHILD_RUNS.with(|runs| runs.set(true));
    let flags = (libc::CLONE_VM | libc::CLONE_VFORK) as u64 | flags;
    watch.begin();
    // SAFETY: the caller vouches for `entry` and `argument`; VFORK keeps this frame and the stack alive until
    // the child has left them.
    let cloned = unsafe { clone_on(stack, &watch.pidfd, flags, cgroup, entry, argument) };
    watch.end();
    CHILD_RUNS.with(|runs| runs.set(false));
    cloned
}

/// # Safety
/// As [`spawn`]; without `CLONE_VFORK`, `stack` must outlive the child.
unsafe fn clone_on(
    stack: &mut ChildStack,
    pidfd: &AtomicI32,
    mut flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    entry: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> io::Result<Cloned> {
    flags |= libc::CLONE_PIDFD as u64;
    if cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    let args = CloneArgs {
        flags,
        pidfd: pidfd.as_ptr() as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.lowest(),
        stack_size: STACK_SIZE as u64,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
        ..CloneArgs::default()
    };
    // SAFETY: the stack is exclusively ours, `args` and `pidfd` outlive the call, and the caller vouches for
    // the rest.
    let result = unsafe { clone3(&args, entry, argument) };
    let pid = super::raw::errno(result).map_err(io::Error::from_raw_os_error)?;
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so the kernel stored a fresh descriptor that nobody owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd.load(Ordering::Acquire)) };
    Ok(Cloned { pidfd, pid: pid as i32 })
}

/// A process that does nothing but hold namespaces; killed and reaped when dropped.
#[derive(Debug)]
pub struct Idle {
    cloned: Cloned,
    // Dropped after `Drop::drop` has reaped the child that stands on it.
    _stack: ChildStack,
}

impl Idle {
    /// Starts one in new `namespaces` (`CLONE_NEW*` flags).
    pub fn start(namespaces: u64) -> io::Result<Idle> {
        let parent = std::process::id() as usize as *mut c_void;
        // SAFETY: `pause_for_ever` touches no memory but its stack.
        unsafe { Idle::run(namespaces, pause_for_ever, parent) }
    }

    /// Starts one that runs `entry(argument)`, which ends in [`pause_for_ever`].
    ///
    /// # Safety
    /// As [`spawn`], but nobody waits: what `argument` points to must live as long as `entry` looks at it.
    pub(super) unsafe fn run(
        namespaces: u64,
        entry: extern "C" fn(*mut c_void) -> !,
        argument: *mut c_void,
    ) -> io::Result<Idle> {
        let mut stack = ChildStack::new()?;
        let flags = libc::CLONE_VM as u64 | namespaces;
        // SAFETY: the caller vouches for `entry` and `argument`; the Idle keeps the stack until the child is reaped.
        let cloned = unsafe { clone_on(&mut stack, &AtomicI32::new(NONE), flags, None, entry, argument)? };
        Ok(Idle { cloned, _stack: stack })
    }

    /// Its number in our pid namespace.
    pub fn pid(&self) -> i32 {
        self.cloned.pid
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        super::pidfd::kill_and_reap(self.cloned.pidfd.as_fd());
    }
}

/// Holds nothing but its namespaces, and ends with the daemon, which `parent` is.
pub(super) extern "C" fn pause_for_ever(parent: *mut c_void) -> ! {
    let kill = libc::PR_SET_PDEATHSIG as usize;
    // SAFETY: plain numbers; the descriptors are copies of our own.
    unsafe { super::raw::syscall(libc::SYS_close_range, [0, u32::MAX as usize, 0, 0, 0, 0]) };
    // SAFETY: plain numbers.
    unsafe { super::raw::syscall(libc::SYS_prctl, [kill, libc::SIGKILL as usize, 0, 0, 0, 0]) };
    loop {
        // The parent may have died before PR_SET_PDEATHSIG took effect.
        // SAFETY: getppid(2) takes nothing and touches nothing.
        if unsafe { super::raw::syscall(libc::SYS_getppid, [0; 6]) } != parent as isize {
            super::exit_now(0)
        }
        // SAFETY: pause(2) takes nothing and touches nothing.
        unsafe { super::raw::syscall(libc::SYS_pause, [0; 6]) };
    }
}

/// The call itself: the child never returns through this frame, it calls `entry` on its own stack.
///
/// # Safety
/// As [`spawn`]; `args` must describe a stack that is ours.
unsafe fn clone3(args: &CloneArgs, entry: extern "C" fn(*mut c_void) -> !, argument: *mut c_void) -> isize {
    let result: isize;
    // SAFETY: the kernel puts the child on the stack that `args` names, 16-byte aligned as the ABI wants
    // before a call; registers r12 and r13 survive the system call in both; the parent continues at 2.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") args as *const CloneArgs,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") entry,
            in("r13") argument,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}
