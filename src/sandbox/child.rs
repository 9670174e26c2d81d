//! The cloned child: walks the plan with raw system calls.
//!
//! It shares the daemon's memory while the spawner thread waits, so it may not allocate, lock, panic, log,
//! drop, or touch thread-local storage. It reads the plan, writes one word pair on failure, and ends in
//! execve(2) or exit(2). Arms are ordered as the plan is.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::capability::Capabilities;
use super::rootfs::EMPTY;
use super::spec::{Messages, WireSpec};
use super::step::Step;
use crate::init_abi::slot;
use crate::sys::clone::{self, ChildStack, Cloned, Watch};
use crate::sys::mount::MountAttr;
use crate::sys::raw::{errno, syscall};

/// The memory that the child and its spawner share for the length of one clone.
struct Shared<'a> {
    steps: &'a [Step<'a>],
    /// The step that the child takes, or took last.
    at: usize,
    /// The errno, when it had to give up.
    failed: Option<i32>,
}

/// The result of a child's walk through its plan.
pub(super) struct Walked {
    /// The child, if there is one.
    pub(super) cloned: io::Result<Cloned>,
    /// The step that it took last.
    pub(super) at: usize,
    /// The errno of that step, when it had to give up.
    pub(super) failed: Option<i32>,
}

/// Clones a child that walks `steps` and waits until it has executed joblet-init, given up or been killed.
pub(super) fn run(
    stack: &mut ChildStack,
    watch: &Watch,
    namespaces: u64,
    cgroup: Option<BorrowedFd<'_>>,
    steps: &[Step<'_>],
) -> Walked {
    let mut shared = Shared { steps, at: 0, failed: None };
    let argument = (&raw mut shared).cast::<c_void>();
    // Descriptors are shared, and the first step ends that: a copy of a table with thousands would cost more than all
    // else here, and keep files open that nobody else may hold.
    let flags = namespaces | libc::CLONE_FILES as u64;
    // SAFETY: `main` makes raw system calls on the plan only, and `shared` outlives the call, which returns
    // when the child has left this memory.
    let cloned = unsafe { clone::spawn(stack, watch, flags, cgroup, main, argument) };
    Walked { cloned, at: shared.at, failed: shared.failed }
}

/// The child's first and only function; `shared` is a `*mut Shared`.
extern "C" fn main(shared: *mut c_void) -> ! {
    // SAFETY: `run` passes a Shared that outlives the child's stay in this memory, and waits meanwhile.
    let shared = unsafe { &mut *shared.cast::<Shared<'_>>() };
    for (at, step) in shared.steps.iter().enumerate() {
        shared.at = at;
        if let Err(why) = walk(step) {
            shared.failed = Some(why);
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
        Step::OwnDescriptors { first, last } => own_descriptors(*first as usize, *last as usize),
        Step::ResetSignals => reset_signals(),
        Step::Session => call(libc::SYS_setsid, [0; 6]).map(drop),
        Step::Priority => default_priority(),
        Step::Umask => call(libc::SYS_umask, [0o022, 0, 0, 0, 0, 0]).map(drop),
        Step::JoinNetwork(namespace) => join(*namespace, libc::CLONE_NEWNET),
        Step::LoopbackUp => loopback_up(),
        Step::Wire(wire) => connect(wire),
        Step::Overlay { at, options, writable, .. } => {
            let flags = if *writable { OVERLAY & !libc::MS_RDONLY } else { OVERLAY };
            // A source of this name: the job can read it in /proc/self/mountinfo.
            mount(Some(c"joblet"), Some(c"overlay"), at, flags, Some(options))
        }
        Step::MapIds { at, ids } => map_ids(at, *ids),
        Step::Bind { from, at, .. } => mount(Some(from), None, at, libc::MS_BIND | libc::MS_REC, None),
        Step::Devices { at } => {
            mount(Some(at), None, at, libc::MS_BIND, None)?;
            let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NOEXEC;
            mount(None, None, at, libc::MS_BIND | libc::MS_REMOUNT | flags, None)
        }
        Step::EnterRoot { at } => enter_root(at),
        Step::Mount { kind, at, flags, options } => mount(Some(kind), Some(kind), at, *flags, Some(options)),
        Step::Place { mount, at, .. } => place(*mount, at),
        Step::Hide { under, at } => mount(Some(under), None, at, libc::MS_BIND, None),
        Step::HideDirectory { at } => {
            mount(Some(EMPTY), None, at, libc::MS_BIND, None)?;
            // The root that the empty directory is in may be one that the job writes.
            mount(None, None, at, libc::MS_BIND | libc::MS_REMOUNT | OVERLAY, None)
        }
        Step::ReadOnly { at } => read_only(at),
        Step::Write { text, at } => write(libc::AT_FDCWD, at, text),
        Step::Setting { proc, file, value } => write(proc.as_raw_fd(), file, value),
        Step::Directory { at } => {
            let mode = 0o1777;
            call(libc::SYS_mkdir, [at.as_ptr() as usize, mode, 0, 0, 0, 0])?;
            // The mask has taken bits from it.
            call(libc::SYS_chmod, [at.as_ptr() as usize, mode, 0, 0, 0, 0]).map(drop)
        }
        Step::OwnDirectory { at } => {
            call(libc::SYS_mkdir, [at.as_ptr() as usize, 0o755, 0, 0, 0, 0]).map(drop)
        }
        Step::NewFile { at, text } => new_file(at, text),
        Step::Hostname(name) => {
            call(libc::SYS_sethostname, [name.as_ptr() as usize, name.as_bytes().len(), 0, 0, 0, 0]).map(drop)
        }
        Step::Descriptors(fds) => descriptors(fds),
        Step::StandardInput => standard_input(),
        Step::Rlimit { resource, soft, hard, .. } => rlimit(*resource, *soft, *hard),
        Step::ClearGroups => call(libc::SYS_setgroups, [0; 6]).map(drop),
        Step::JoinUser(namespace) => join(*namespace, libc::CLONE_NEWUSER),
        Step::BecomeUser { id } => {
            let id = *id as usize;
            call(libc::SYS_setresgid, [id, id, id, 0, 0, 0])?;
            call(libc::SYS_setresuid, [id, id, id, 0, 0, 0]).map(drop)
        }
        Step::DropCapabilities { keep } => drop_capabilities(*keep),
        Step::NoNewPrivileges => prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0),
        Step::Seccomp(filter) => seccomp(filter),
        Step::Exec { linger_s } => exec(linger_s),
    }
}

/// Leaves the table that we share with the daemon for one of our own, which has only `first..=last`: the standard three
/// and the daemon's own go at once, so that no lock of a daemon that dies now lives on in us.
fn own_descriptors(first: usize, last: usize) -> Done {
    let unshare = libc::CLOSE_RANGE_UNSHARE as usize;
    call(libc::SYS_close_range, [last + 1, u32::MAX as usize, unshare, 0, 0, 0])?;
    call(libc::SYS_close_range, [0, first - 1, 0, 0, 0, 0]).map(drop)
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
    done?;
    second_addresses()
}

/// A message that adds an address to an interface (rtnetlink(7)): `struct nlmsghdr`, `struct ifaddrmsg`, one attribute.
/// The kernel reads no more than its length.
#[repr(C)]
struct NewAddress {
    length: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    family: u8,
    prefix: u8,
    address_flags: u8,
    scope: u8,
    interface: u32,
    attribute_length: u16,
    attribute: u16,
    address: [u8; 16],
}

impl NewAddress {
    /// `address` on the loopback interface, which is the first of every namespace.
    const fn on_loopback(family: i32, address: [u8; 16], bytes: u16, scope: u8) -> Self {
        NewAddress {
            length: 28 + bytes as u32,
            kind: libc::RTM_NEWADDR,
            flags: (libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16,
            sequence: 0,
            port: 0,
            family: family as u8,
            prefix: bytes as u8 * 8,
            address_flags: 0,
            scope,
            interface: 1,
            attribute_length: 4 + bytes,
            attribute: libc::IFA_LOCAL,
            address,
        }
    }
}

/// 127.0.1.1, the address of the host name, and fe80::1. getaddrinfo(3) with AI_ADDRCONFIG does not count 127.0.0.1 and
/// ::1: in a namespace that has nothing else it finds no address for anything, not even for a numeric one.
fn second_addresses() -> Done {
    const NAME: NewAddress =
        NewAddress::on_loopback(libc::AF_INET, [127, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 4, HOST);
    const LINK_LOCAL: NewAddress = NewAddress::on_loopback(
        libc::AF_INET6,
        [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        16,
        libc::RT_SCOPE_LINK,
    );
    const HOST: u8 = libc::RT_SCOPE_HOST;
    let kind = (libc::SOCK_RAW | libc::SOCK_CLOEXEC) as usize;
    let socket = call(libc::SYS_socket, [libc::AF_NETLINK as usize, kind, 0, 0, 0, 0])?;
    let named = request(socket, &NAME);
    // A host without IPv6 has no such addresses, and needs none.
    let _ = request(socket, &LINK_LOCAL);
    call(libc::SYS_close, [socket, 0, 0, 0, 0, 0])?;
    named
}

/// Sends a request and takes its answer: `struct nlmsghdr`, then the errno, negative.
fn request(socket: usize, message: &NewAddress) -> Done {
    let at = std::ptr::from_ref(message) as usize;
    call(libc::SYS_sendto, [socket, at, message.length as usize, 0, 0, 0])?;
    let mut answer = [0i32; 32];
    call(libc::SYS_recvfrom, [socket, answer.as_mut_ptr() as usize, size_of_val(&answer), 0, 0, 0])?;
    if answer[4] == 0 { Ok(()) } else { Err(-answer[4]) }
}

/// The outer half first: the inner interface is born with it.
fn connect(wire: &WireSpec<'_>) -> Done {
    send_all(wire.socket.as_raw_fd() as usize, &wire.outer)?;
    let kind = (libc::SOCK_RAW | libc::SOCK_CLOEXEC) as usize;
    let socket = call(libc::SYS_socket, [libc::AF_NETLINK as usize, kind, 0, 0, 0, 0])?;
    let done = send_all(socket, &wire.inner);
    call(libc::SYS_close, [socket, 0, 0, 0, 0, 0])?;
    done
}

/// Sends messages and takes their answers, which wait when sendto(2) returns. Answers to others, which a child left that
/// was killed, are passed over.
fn send_all(socket: usize, messages: &Messages<'_>) -> Done {
    let bytes = messages.bytes;
    call(libc::SYS_sendto, [socket, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0])?;
    loop {
        // struct nlmsghdr, of which the third word is the sequence; then the errno, negative.
        let mut answer = [0i32; 64];
        let at = answer.as_mut_ptr() as usize;
        let flags = libc::MSG_DONTWAIT as usize;
        call(libc::SYS_recvfrom, [socket, at, size_of_val(&answer), flags, 0, 0])?;
        let (sequence, errno) = (answer[2].cast_unsigned(), answer[4]);
        let is_ours = (messages.first..=messages.last).contains(&sequence);
        match errno {
            _ if !is_ours => {}
            0 if sequence == messages.last => return Ok(()),
            0 => {}
            why => return Err(-why),
        }
    }
}

fn default_priority() -> Done {
    match call(libc::SYS_setpriority, [libc::PRIO_PROCESS as usize, 0, 0, 0, 0, 0]) {
        // Without CAP_SYS_NICE a daemon of low priority has jobs of low priority, which harms nobody.
        Ok(_) | Err(libc::EACCES) => {}
        Err(why) => return Err(why),
    }
    // IOPRIO_WHO_PROCESS, ourselves, IOPRIO_CLASS_NONE (ioprio_set(2); the libc crate lacks the names).
    call(libc::SYS_ioprio_set, [1, 0, 0, 0, 0, 0]).map(drop)
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

fn map_ids(at: &CStr, ids: BorrowedFd<'_>) -> Done {
    let flags = libc::OPEN_TREE_CLONE as usize | libc::OPEN_TREE_CLOEXEC as usize;
    let here = libc::AT_FDCWD as usize;
    let copy = call(libc::SYS_open_tree, [here, at.as_ptr() as usize, flags, 0, 0, 0])?;
    let userns_fd = ids.as_raw_fd() as u64;
    let attr = MountAttr { set: libc::MOUNT_ATTR_IDMAP, clear: 0, propagation: libc::MS_PRIVATE, userns_fd };
    let (empty, size) = (c"".as_ptr() as usize, size_of::<MountAttr>());
    let mapped = [copy, empty, libc::AT_EMPTY_PATH as usize, &raw const attr as usize, size, 0];
    let from = libc::MOVE_MOUNT_F_EMPTY_PATH as usize;
    let done = call(libc::SYS_mount_setattr, mapped)
        .and_then(|_| call(libc::SYS_move_mount, [copy, empty, here, at.as_ptr() as usize, from, 0]));
    call(libc::SYS_close, [copy, 0, 0, 0, 0, 0])?;
    done.map(drop)
}

/// Flags of the mounts that show the host or a runtime.
const OVERLAY: u64 = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV;

/// As switch_root(8) leaves an initramfs. The template lies below the new root, out of reach: the way out of a root takes
/// setns(2) or a directory from outside, and a job has none of these. CAP_SYS_CHROOT, which a job of the profile `container`
/// has, leads no further than here: below the root of a mount that covers `/` the kernel finds no mount point to go up to. To
/// unmount the template after pivot_root(2) would be to wait for RCU, up to a millisecond.
fn enter_root(at: &CStr) -> Done {
    call(libc::SYS_chdir, [at.as_ptr() as usize, 0, 0, 0, 0, 0])?;
    mount(Some(c"."), None, c"/", libc::MS_MOVE, None)?;
    call(libc::SYS_chroot, [c".".as_ptr() as usize, 0, 0, 0, 0, 0]).map(drop)
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

fn new_file(at: &CStr, text: &CStr) -> Done {
    let flags = (libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC) as usize;
    let file = call(libc::SYS_openat, [libc::AT_FDCWD as usize, at.as_ptr() as usize, flags, 0o444, 0, 0])?;
    let done = call(libc::SYS_write, [file, text.as_ptr() as usize, text.count_bytes(), 0, 0, 0]);
    call(libc::SYS_close, [file, 0, 0, 0, 0, 0])?;
    done.map(drop)
}

fn standard_input() -> Done {
    let args = [libc::AT_FDCWD as usize, c"/dev/null".as_ptr() as usize, libc::O_RDONLY as usize, 0, 0, 0];
    let null = call(libc::SYS_openat, args)?;
    call(libc::SYS_dup3, [null, 0, 0, 0, 0, 0])?;
    call(libc::SYS_close, [null, 0, 0, 0, 0, 0]).map(drop)
}

fn write(dir: i32, file: &CStr, text: &CStr) -> Done {
    let flags = (libc::O_WRONLY | libc::O_CLOEXEC) as usize;
    let file = call(libc::SYS_openat, [dir as usize, file.as_ptr() as usize, flags, 0, 0, 0])?;
    let done = call(libc::SYS_write, [file, text.as_ptr() as usize, text.count_bytes(), 0, 0, 0]);
    call(libc::SYS_close, [file, 0, 0, 0, 0, 0])?;
    done.map(drop)
}

/// Moves the ten descriptors first out of the way of the target numbers, then into place.
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

fn join(namespace: BorrowedFd<'_>, kind: i32) -> Done {
    call(libc::SYS_setns, [namespace.as_raw_fd() as usize, kind as usize, 0, 0, 0, 0]).map(drop)
}

fn rlimit(resource: u32, soft: u64, hard: u64) -> Done {
    let limit = [soft, hard]; // struct rlimit64 (prlimit(2))
    call(libc::SYS_prlimit64, [0, resource as usize, limit.as_ptr() as usize, 0, 0, 0]).map(drop)
}

fn prctl(option: i32, two: usize, three: usize) -> Done {
    call(libc::SYS_prctl, [option as usize, two, three, 0, 0, 0]).map(drop)
}

/// `SECBIT_NOROOT`, `NO_SETUID_FIXUP`, `NO_CAP_AMBIENT_RAISE`, each with its lock (capabilities(7)): uid 0 inside means
/// nothing to the kernel any more. `KEEP_CAPS` is free: a job has no capability to keep, and programs that set it, such as
/// ping, end when that is refused.
const SECUREBITS: usize = 0b1100_1111;

/// A job that keeps some has the rules of setuid(2) and execve(2) that programs know: who leaves uid 0 loses them, uid 0 that
/// executes a program has them. No program gets them back (no_new_privs).
fn drop_capabilities(keep: Capabilities) -> Done {
    for capability in (0..64).filter(|number| !keep.has(*number)) {
        match prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            Ok(()) => {}
            Err(libc::EINVAL) => break, // past the kernel's last capability
            Err(why) => return Err(why),
        }
    }
    let securebits = if keep.is_empty() { SECUREBITS } else { 0 };
    prctl(libc::PR_SET_SECUREBITS, securebits, 0)?;
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as usize, 0)?;
    let header = [0x2008_0522u32, 0]; // _LINUX_CAPABILITY_VERSION_3, ourselves (capset(2))
    let (low, high) = (keep.bits() as u32, (keep.bits() >> 32) as u32);
    let sets = [low, low, 0, high, high, 0]; // effective, permitted, inheritable, twice
    call(libc::SYS_capset, [header.as_ptr() as usize, sets.as_ptr() as usize, 0, 0, 0, 0]).map(drop)
}

fn seccomp(filter: &[libc::sock_filter]) -> Done {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    let mode = libc::SECCOMP_SET_MODE_FILTER as usize;
    call(libc::SYS_seccomp, [mode, 0, &raw const program as usize, 0, 0, 0]).map(drop)
}

fn exec(linger_s: &CStr) -> Done {
    // Last of all, so that no step before can leave a descriptor behind.
    call(libc::SYS_close_range, [slot::COUNT, u32::MAX as usize, 0, 0, 0, 0])?;
    let argv = [c"joblet-init".as_ptr(), linger_s.as_ptr(), std::ptr::null()];
    let environment = [std::ptr::null::<libc::c_char>()];
    let args = [
        slot::IMAGE as usize,
        c"".as_ptr() as usize,
        argv.as_ptr() as usize,
        environment.as_ptr() as usize,
        libc::AT_EMPTY_PATH as usize,
        0,
    ];
    call(libc::SYS_execveat, args).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use std::ffi::CString;
    use std::os::fd::AsFd;
    use std::time::Duration;

    /// A step that never returns: opening a FIFO that nobody reads. A mount of a dead file system would do the same.
    #[test]
    fn a_child_that_hangs_in_a_step_is_killed_and_its_step_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
        let at: &'static CStr = Box::leak(CString::new(fifo.to_str().unwrap()).unwrap().into_boxed_c_str());
        let last = std::fs::File::open("/dev/null").unwrap();
        let own = Step::OwnDescriptors { first: 3, last: last.as_raw_fd() };
        let steps = [own, Step::Umask, Step::Write { text: c"0", at }, Step::Umask];
        let (mut stack, watch) = (ChildStack::new().unwrap(), Watch::default());
        let walked = std::thread::scope(|scope| {
            let child = scope.spawn(|| run(&mut stack, &watch, 0, None, &steps));
            while !watch.kill_if_older(Duration::from_millis(20)) && !child.is_finished() {
                std::thread::yield_now();
            }
            child.join().unwrap()
        });
        assert_eq!((walked.at, walked.failed, watch.has_killed()), (2, None, true));
        let child = walked.cloned.unwrap();
        let end = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
        assert_eq!(end.terminating_signal(), Some(libc::SIGKILL));
    }
}
