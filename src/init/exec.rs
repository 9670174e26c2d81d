//! Starting the payload: vfork, own session, PATH search, execve(2).

use crate::exec_request::{Credentials, ExecRequest};
use crate::init_abi::exit_file::{Begun, Defect, ExitFile};
use crate::init_abi::{report, slot};
use crate::program::Program;
use crate::raw::{errno, syscall};
use crate::sys;

const CLONE: i64 = 56;
const EXECVE: i64 = 59;
const ACCESS: i64 = 21;
const CLONE_VM_VFORK_SIGCHLD: usize = 0x100 | 0x4000 | 17;
const SIGKILL: i32 = 9;
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const ENOEXEC: i32 = 8;
const EACCES: i32 = 13;
const ENOTDIR: i32 = 20;
const ETXTBSY: i32 = 26;
/// Milliseconds for which a busy program is tried again. A child that the daemon cloned for another job while
/// it wrote this job's uploads has a copy of that descriptor until its own exec; nobody else can write here.
const BUSY_TRIES: u32 = 1000;
/// From the moment at which an exec cannot fail any more: its rest takes the kernel about 0.1 ms.
const FIRST_TURN_NS: i64 = 250_000;
const DEFAULT_PATH: &[u8] = b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\0";
const PATH_MAX: usize = 4096;
const STACK: usize = 32 * 1024;
/// The descriptors of joblet-init that a payload does not get.
const OURS: [i32; 7] = [
    slot::EXIT_FILE,
    slot::CONTROL,
    slot::KEPT_OUT,
    slot::KEPT_ERR,
    slot::ROUTER,
    slot::ORDERS,
    slot::ORDER_SOURCE,
];

/// The memory between us and the vfork child, which has all of ours while we wait.
struct Shared<'a> {
    request: &'a ExecRequest,
    /// We run before ordinary load.
    first: bool,
    /// The payload may run second, before ordinary load too, because we can take that back.
    second: bool,
    /// The descriptors of a command beside the payload, which has its own already.
    streams: Option<Streams>,
    /// The standard input of the payload; no descriptor: it is /dev/null already.
    stdin: i32,
    outcome: Outcome,
}

/// The descriptors of a command beside the payload.
#[derive(Clone, Copy)]
pub struct Streams {
    /// No descriptor: /dev/null.
    pub stdin: i32,
    pub stdout: i32,
    pub stderr: i32,
    /// Write end of its report pipe.
    pub report: i32,
}

/// How far the payload came.
#[derive(Clone, Copy)]
pub struct Outcome {
    pub begun: Begun,
    pub defect: Defect,
    pub errno: i32,
}

/// Why a program was not executed.
#[derive(Clone, Copy)]
struct Failure {
    errno: i32,
    /// Whether the file exists.
    exists: bool,
    defect: Defect,
}

#[repr(C, align(16))]
struct Stack([u8; STACK]);
static mut CHILD_STACK: Stack = Stack([0; STACK]);

/// Starts the payload, with a standard input where that is a descriptor; returns its pid and how far it came, which is known when vfork returns.
pub fn start(request: &ExecRequest, stdin: i32) -> (i32, Outcome) {
    let outcome = Outcome { begun: Begun::Executed, defect: Defect::None, errno: 0 };
    // A payload of other ids is not ours to demote: only CAP_SYS_NICE reaches across.
    let is_ours = request.credentials.is_none();
    let mut shared = Shared { request, first: sys::is_first(), second: is_ours, streams: None, stdin, outcome };
    let pid = clone(&mut shared).unwrap_or_else(|why| refused(why));
    // The daemon takes the end of this pipe for the start: close it before any wait.
    sys::close(slot::REPORT);
    if shared.first {
        // The payload before us: while we come first, nothing of it can be in our way. It has left our memory, but
        // not the kernel's part of its exec.
        sys::wait_child_end(FIRST_TURN_NS);
        if shared.second && !sys::demote(pid) {
            // Nothing that a payload may do leads here.
            sys::kill(pid, SIGKILL);
        }
        sys::schedule_ordinarily();
    }
    (pid, shared.outcome)
}

/// Starts a command beside the payload, as [`start`] does. The caller closes the descriptors.
///
/// # Errors
/// errno: not even a process could be made.
pub fn start_beside(request: &ExecRequest, streams: Streams) -> Result<(i32, Outcome), i32> {
    let outcome = Outcome { begun: Begun::Executed, defect: Defect::None, errno: 0 };
    let mut shared =
        Shared { request, first: false, second: false, streams: Some(streams), stdin: -1, outcome };
    let pid = clone(&mut shared)?;
    Ok((pid, shared.outcome))
}

/// Clones the child and waits until it has left our memory.
///
/// # Errors
/// errno.
fn clone(shared: &mut Shared<'_>) -> Result<i32, i32> {
    let shared = &raw mut *shared;
    let bottom = (&raw mut CHILD_STACK).cast::<u8>();
    // SAFETY: one past the end of that static.
    let top = unsafe { bottom.add(STACK) };
    let pid: isize;
    // SAFETY: clone(2) with VM and VFORK: the child runs `child` on its own stack while this process, which
    // has one thread, waits; `shared` outlives its stay.
    unsafe {
        core::arch::asm!(
            "syscall", "test rax, rax", "jnz 2f",
            "xor ebp, ebp", "mov rdi, r13", "call r12", "ud2",
            "2:",
            inlateout("rax") CLONE as isize => pid,
            in("rdi") CLONE_VM_VFORK_SIGCHLD, in("rsi") top, in("rdx") 0, in("r10") 0, in("r8") 0,
            in("r12") child as extern "C" fn(*mut Shared<'_>) -> !, in("r13") shared,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    // A change of ids in our memory may have made it dumpable (proc(5), fs.suid_dumpable).
    sys::not_dumpable();
    errno(pid).map(|pid| pid as i32)
}

/// Not even a process could be made (pids.max of 1). The daemon sees a failed exec.
fn refused(why: i32) -> ! {
    send_report(slot::REPORT, why);
    let exit_file =
        ExitFile { wait_status: 126 << 8, begun: Begun::NotExecuted, errno: why, ..Default::default() };
    let _ = sys::write_at_start(slot::EXIT_FILE, &exit_file.encode());
    sys::exit(126)
}

fn send_report(report: i32, why: i32) {
    sys::write(report, &report::failed(why));
}

extern "C" fn child(shared: *mut Shared<'_>) -> ! {
    // SAFETY: `start` passes a Shared that outlives us here, and waits meanwhile.
    let shared = unsafe { &mut *shared };
    sys::setsid();
    let standard = match shared.streams {
        Some(streams) => sys::take_standard(streams.stdin, streams.stdout, streams.stderr),
        None => {
            sys::close_on_exec(slot::REPORT);
            for fd in OURS {
                sys::close(fd);
            }
            if shared.stdin >= 0 { sys::pass_on(shared.stdin, 0) } else { Ok(()) }
        }
    };
    let report = shared.streams.map_or(slot::REPORT, |streams| streams.report);
    let may_go = may_go(shared.first, shared.second);
    let entered = standard.and_then(|()| become_user(shared.request.credentials)).and_then(|()| sys::enter(shared.request.work_dir));
    let (outcome, code) = match entered {
        Err(errno) => (Outcome { begun: Begun::NotEntered, defect: Defect::None, errno }, 126),
        Ok(()) => {
            sys::unblock_all_signals();
            let failure = if may_go {
                execute(shared.request)
            } else {
                Failure { errno: EPERM, exists: true, defect: Defect::None }
            };
            let Failure { errno, exists, defect } = failure;
            let code = if errno == ENOENT && !exists || errno == ENOTDIR { 127 } else { 126 };
            (Outcome { begun: Begun::NotExecuted, defect, errno }, code)
        }
    };
    shared.outcome = outcome;
    send_report(report, outcome.errno);
    sys::exit(code)
}

/// A payload that came before ordinary load up to its exec gets its first turn without waiting, and nothing
/// more: it comes behind us, we take the priority back after [`FIRST_TURN_NS`], and its children never have it. No exec where
/// that cannot be had.
fn may_go(first: bool, second: bool) -> bool {
    !first || (second && sys::schedule_second()) || sys::schedule_ordinarily()
}

/// Takes the payload's ids, where they are not ours: with uid 0 every capability goes. Its programs find no way back
/// (no_new_privs).
fn become_user(credentials: Option<Credentials>) -> Result<(), i32> {
    match credentials {
        Some(Credentials { uid, gid, groups, group_count }) => sys::become_user(uid, gid, groups, group_count),
        None => Ok(()),
    }
}

/// Tries the command, by PATH unless it has a slash; returns the failure that says most.
fn execute(request: &ExecRequest) -> Failure {
    // SAFETY: the daemon's exec requests have a command.
    let command = unsafe { *request.argv };
    if find(command, b'/').is_some() {
        return attempt(command, request);
    }
    let mut path = path_of(request.environment);
    let mut worst = Failure { errno: ENOENT, exists: false, defect: Defect::None };
    let mut buffer = [0u8; PATH_MAX];
    loop {
        let dir_len = find(path, b':').unwrap_or_else(|| length(path));
        if let Some(()) = join(&mut buffer, path, dir_len, command) {
            let failure = attempt(buffer.as_ptr(), request);
            if failure.errno != ENOENT && failure.errno != ENOTDIR || failure.exists {
                // Like execvp(3): a file that may not be executed is passed over, but remembered.
                worst = failure;
                if failure.errno != EACCES {
                    break;
                }
            }
        }
        // SAFETY: dir_len is within the string.
        path = unsafe { path.add(dir_len) };
        // SAFETY: at ':' or at the NUL.
        if unsafe { *path } == 0 {
            break;
        }
        // SAFETY: past the ':', at most at the NUL.
        path = unsafe { path.add(1) };
    }
    worst
}

/// execve(2); returns only when it failed. A file that exists although the answer is ENOENT lacks its
/// interpreter.
fn attempt(path: *const u8, request: &ExecRequest) -> Failure {
    // Opening a file that is not there costs a fraction of executing it, and a search meets a few of those.
    let program = match Program::read(path) {
        Ok(program) => program,
        Err(errno) => return Failure { errno, exists: false, defect: Defect::None },
    };
    if program.as_ref().is_some_and(Program::is_elf32) {
        return Failure { errno: ENOEXEC, exists: true, defect: Defect::Elf32 };
    }
    let args = [path as usize, request.argv as usize, request.environment as usize, 0, 0, 0];
    let mut why = ETXTBSY;
    for _ in 0..BUSY_TRIES {
        // SAFETY: three NUL- or null-terminated arrays that outlive the call.
        why = errno(unsafe { syscall(EXECVE, args) }).err().unwrap_or(0);
        if why != ETXTBSY {
            break;
        }
        sys::pause_ms(1);
    }
    // SAFETY: a NUL-terminated path.
    let exists = errno(unsafe { syscall(ACCESS, [path as usize, 0, 0, 0, 0, 0]) }).is_ok();
    let defect = program.filter(|_| exists).map_or(Defect::None, |program| program.defect(why));
    Failure { errno: why, exists, defect }
}

/// `dir/command` into the buffer; `None` if it does not fit. An empty dir is the current one.
fn join(buffer: &mut [u8; PATH_MAX], dir: *const u8, dir_len: usize, command: *const u8) -> Option<()> {
    let command_len = length(command);
    if dir_len + command_len + 2 > PATH_MAX {
        return None;
    }
    let mut at = 0;
    let mut push = |byte: u8| {
        if let Some(place) = buffer.get_mut(at) {
            *place = byte;
            at += 1;
        }
    };
    for i in 0..dir_len {
        // SAFETY: dir has dir_len bytes.
        push(unsafe { *dir.add(i) });
    }
    if dir_len > 0 {
        push(b'/');
    }
    for i in 0..command_len {
        // SAFETY: command has command_len bytes.
        push(unsafe { *command.add(i) });
    }
    push(0);
    Some(())
}

/// The value of PATH in an environment.
fn path_of(mut environment: *const *const u8) -> *const u8 {
    loop {
        // SAFETY: the array ends with null, where the loop stops.
        let entry = unsafe { *environment };
        if entry.is_null() {
            // SAFETY: past "PATH=" of a constant.
            return unsafe { DEFAULT_PATH.as_ptr().add(5) };
        }
        let is_path = b"PATH=".iter().enumerate().all(|(i, wanted)| {
            // SAFETY: the comparison stops at the first difference, the NUL at the latest.
            unsafe { *entry.add(i) == *wanted }
        });
        if is_path {
            // SAFETY: past "PATH=".
            return unsafe { entry.add(5) };
        }
        // SAFETY: not at the end yet.
        environment = unsafe { environment.add(1) };
    }
}

/// Position of a byte in the string, its NUL included.
fn find(text: *const u8, wanted: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        // SAFETY: the string ends with NUL, where the loop stops.
        let byte = unsafe { *text.add(at) };
        if byte == wanted {
            return Some(at);
        }
        if byte == 0 {
            return None;
        }
        at += 1;
    }
}

fn length(text: *const u8) -> usize {
    find(text, 0).unwrap_or(0)
}
