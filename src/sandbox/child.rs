//! The cloned child: walks the plan with raw system calls.
//!
//! It shares the daemon's memory while the spawner thread waits, so it may not allocate, lock, panic, log,
//! drop, or touch thread-local storage. It reads the plan, writes one word pair on failure, and ends in
//! execve(2) or exit(2). Arms are ordered as the plan is.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::step::{ExecImage, Step, slot};
use crate::sys::clone::{self, ChildStack, Cloned};
use crate::sys::raw::{errno, syscall};

/// What the child and its spawner share for the length of one clone.
struct Shared<'a> {
    steps: &'a [Step<'a>],
    /// Where the child stood and the errno, when it had to give up.
    failed: Option<(usize, i32)>,
}

/// Clones a child that walks `steps` and waits until it has executed joblet-init or given up; the second
/// value is the index of the step that failed and its errno.
pub(super) fn run(
    stack: &mut ChildStack,
    namespaces: u64,
    cgroup: BorrowedFd<'_>,
    steps: &[Step<'_>],
) -> (io::Result<Cloned>, Option<(usize, i32)>) {
    let mut shared = Shared { steps, failed: None };
    let argument = (&raw mut shared).cast::<c_void>();
    // SAFETY: `main` makes raw system calls on the plan only, and `shared` outlives the call, which returns
    // when the child has left this memory.
    let cloned = unsafe { clone::spawn(stack, namespaces, Some(cgroup), main, argument) };
    (cloned, shared.failed)
}

/// The child's first and only function; `shared` is a `*mut Shared`.
extern "C" fn main(shared: *mut c_void) -> ! {
    // SAFETY: `run` passes a Shared that outlives the child's stay in this memory, and waits meanwhile.
    let shared = unsafe { &mut *shared.cast::<Shared<'_>>() };
    for (at, step) in shared.steps.iter().enumerate() {
        if let Err(why) = walk(step) {
            shared.failed = Some((at, why));
            break;
        }
    }
    loop {
        // SAFETY: exit_group(2) takes a number; it ends this process, which shares no thread group with ours.
        unsafe { syscall(libc::SYS_exit_group, [125, 0, 0, 0, 0, 0]) };
    }
}

type Done = Result<(), i32>;

/// A call whose pointers, if any, come from the plan and live as long as it.
fn call(number: i64, args: [usize; 6]) -> Result<usize, i32> {
    // SAFETY: every caller below passes plain numbers, or pointers to NUL-terminated strings and structs that
    // outlive the call, of the sizes the kernel expects for `number`.
    errno(unsafe { syscall(number, args) })
}

fn walk(step: &Step<'_>) -> Done {
    match step {
        Step::ResetSignals => reset_signals(),
        Step::Umask => call(libc::SYS_umask, [0o022, 0, 0, 0, 0, 0]).map(drop),
        Step::LoopbackUp => loopback_up(),
        Step::Mount { kind, at, flags, options } => mount(Some(kind), Some(kind), at, *flags, Some(options)),
        Step::Place { mount, at, .. } => place(*mount, at),
        Step::Hide { under, at } => mount(Some(under), None, at, libc::MS_BIND, None),
        Step::HideDirectory { at } => {
            let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
            mount(Some(c"tmpfs"), Some(c"tmpfs"), at, flags, Some(c"size=0,nr_inodes=1,mode=555"))
        }
        Step::ReadOnly { at } => read_only(at),
        Step::WriteZero { at } => write_zero(at),
        Step::Hostname(name) => {
            call(libc::SYS_sethostname, [name.as_ptr() as usize, name.as_bytes().len(), 0, 0, 0, 0]).map(drop)
        }
        Step::Enter(dir) => enter(dir),
        Step::Descriptors(fds) => descriptors(fds),
        Step::Rlimit { resource, soft, hard, .. } => rlimit(*resource, *soft, *hard),
        Step::ClearGroups => call(libc::SYS_setgroups, [0; 6]).map(drop),
        Step::JoinUser(namespace) => {
            call(libc::SYS_setns, [namespace.as_raw_fd() as usize, libc::CLONE_NEWUSER as usize, 0, 0, 0, 0])
                .map(drop)
        }
        Step::BecomeRootInside => {
            call(libc::SYS_setresgid, [0; 6])?;
            call(libc::SYS_setresuid, [0; 6]).map(drop)
        }
        Step::DropCapabilities => drop_capabilities(),
        Step::NoNewPrivileges => prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0),
        Step::Seccomp(filter) => seccomp(filter),
        Step::Exec(image) => exec(image),
    }
}

/// The kernel's `struct sigaction` for rt_sigaction(2) on x86_64.
#[repr(C)]
struct KernelSigaction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

fn reset_signals() -> Done {
    let default = KernelSigaction { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
    for signal in 1..=64 {
        if signal != libc::SIGKILL && signal != libc::SIGSTOP {
            call(libc::SYS_rt_sigaction, [signal as usize, &raw const default as usize, 0, 8, 0, 0])?;
        }
    }
    Ok(())
}

fn loopback_up() -> Done {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    let socket = call(libc::SYS_socket, [libc::AF_INET as usize, kind as usize, 0, 0, 0, 0])?;
    let mut request = [0u8; 40]; // struct ifreq: 16 bytes of name, then the flags (netdevice(7))
    request[..2].copy_from_slice(b"lo");
    request[16] = (libc::IFF_UP | libc::IFF_RUNNING) as u8;
    let done =
        call(libc::SYS_ioctl, [socket, libc::SIOCSIFFLAGS as usize, request.as_ptr() as usize, 0, 0, 0]);
    call(libc::SYS_close, [socket, 0, 0, 0, 0, 0])?;
    done.map(drop)
}

fn pointer(text: Option<&CStr>) -> usize {
    text.map_or(0, |t| t.as_ptr() as usize)
}

fn mount(source: Option<&CStr>, kind: Option<&CStr>, at: &CStr, flags: u64, options: Option<&CStr>) -> Done {
    let args = [pointer(source), at.as_ptr() as usize, pointer(kind), flags as usize, pointer(options), 0];
    call(libc::SYS_mount, args).map(drop)
}

fn place(mount: BorrowedFd<'_>, at: &CStr) -> Done {
    let args = [
        mount.as_raw_fd() as usize,
        c"".as_ptr() as usize,
        libc::AT_FDCWD as usize,
        at.as_ptr() as usize,
        libc::MOVE_MOUNT_F_EMPTY_PATH as usize,
        0,
    ];
    call(libc::SYS_move_mount, args).map(drop)
}

fn read_only(at: &CStr) -> Done {
    mount(Some(at), None, at, libc::MS_BIND, None)?;
    let flags = libc::MS_BIND
        | libc::MS_REMOUNT
        | libc::MS_RDONLY
        | libc::MS_NOSUID
        | libc::MS_NODEV
        | libc::MS_NOEXEC;
    mount(None, None, at, flags, None)
}

fn write_zero(at: &CStr) -> Done {
    let flags = (libc::O_WRONLY | libc::O_CLOEXEC) as usize;
    let file = call(libc::SYS_openat, [libc::AT_FDCWD as usize, at.as_ptr() as usize, flags, 0, 0, 0])?;
    let done = call(libc::SYS_write, [file, c"0".as_ptr() as usize, 1, 0, 0, 0]);
    call(libc::SYS_close, [file, 0, 0, 0, 0, 0])?;
    done.map(drop)
}

/// chdir, then getcwd: the kernel answers "(unreachable)…" for a directory outside our root, which no plan
/// may ever reach (CVE-2024-21626).
fn enter(dir: &CStr) -> Done {
    call(libc::SYS_chdir, [dir.as_ptr() as usize, 0, 0, 0, 0, 0])?;
    let mut buffer = [0u8; 4096];
    call(libc::SYS_getcwd, [buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0, 0])?;
    if buffer.first() == Some(&b'/') { Ok(()) } else { Err(libc::ENOENT) }
}

/// Moves the nine descriptors first out of the way of the target numbers, then into place.
fn descriptors(fds: &[BorrowedFd<'_>; slot::COUNT]) -> Done {
    let mut parked = [0usize; slot::COUNT];
    for (park, fd) in parked.iter_mut().zip(fds) {
        let args = [fd.as_raw_fd() as usize, libc::F_DUPFD_CLOEXEC as usize, slot::COUNT, 0, 0, 0];
        *park = call(libc::SYS_fcntl, args)?;
    }
    for (number, park) in parked.iter().enumerate() {
        let flags = if number == slot::IMAGE as usize { libc::O_CLOEXEC } else { 0 };
        call(libc::SYS_dup3, [*park, number, flags as usize, 0, 0, 0])?;
    }
    Ok(())
}

fn rlimit(resource: u32, soft: u64, hard: u64) -> Done {
    let limit = [soft, hard]; // struct rlimit64 (prlimit(2))
    call(libc::SYS_prlimit64, [0, resource as usize, limit.as_ptr() as usize, 0, 0, 0]).map(drop)
}

fn prctl(option: i32, two: usize, three: usize) -> Done {
    call(libc::SYS_prctl, [option as usize, two, three, 0, 0, 0]).map(drop)
}

/// `SECBIT_NOROOT`, `NO_SETUID_FIXUP`, `NO_CAP_AMBIENT_RAISE`, each with its lock, and `KEEP_CAPS` locked off
/// (capabilities(7)): uid 0 inside means nothing to the kernel any more.
const SECUREBITS: usize = 0b1110_1111;

fn drop_capabilities() -> Done {
    for capability in 0..64 {
        match prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            Ok(()) => {}
            Err(libc::EINVAL) => break, // past the kernel's last capability
            Err(why) => return Err(why),
        }
    }
    prctl(libc::PR_SET_SECUREBITS, SECUREBITS, 0)?;
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as usize, 0)?;
    let header = [0x2008_0522u32, 0]; // _LINUX_CAPABILITY_VERSION_3, ourselves (capset(2))
    let none = [0u32; 6];
    call(libc::SYS_capset, [header.as_ptr() as usize, none.as_ptr() as usize, 0, 0, 0, 0]).map(drop)
}

fn seccomp(filter: &[libc::sock_filter]) -> Done {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    let mode = libc::SECCOMP_SET_MODE_FILTER as usize;
    call(libc::SYS_seccomp, [mode, 0, &raw const program as usize, 0, 0, 0]).map(drop)
}

fn exec(image: &ExecImage) -> Done {
    // Last of all, so that no step before can leave a descriptor behind.
    call(libc::SYS_close_range, [slot::COUNT, u32::MAX as usize, 0, 0, 0, 0])?;
    let args = [
        slot::IMAGE as usize,
        c"".as_ptr() as usize,
        image.argv() as usize,
        image.environment() as usize,
        libc::AT_EMPTY_PATH as usize,
        0,
    ];
    call(libc::SYS_execveat, args).map(drop)
}
