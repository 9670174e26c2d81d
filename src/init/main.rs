//! joblet-init: PID 1 of every job. Static, without a runtime, an allocator or a libc.
//!
//! `build.rs` builds it, `joblet` carries it, and it is executed from a sealed memfd in the complete sandbox:
//! no capability, no_new_privs, seccomp, one unprivileged host id. It
//!
//! 1. makes itself not dumpable, so that the job can neither trace it nor open its descriptors;
//! 2. waits for its exec request on the control pipe: the daemon may have created the sandbox before there was a job.
//!    End of file there: no request will come;
//! 3. marks the exit file, so that a daemon which comes later knows that the payload may have run, and starts the payload as its child (vfork, own session; scheduled ordinarily from its first turn on) and tells the
//!    daemon through the report pipe whether that worked: end of file, or an errno;
//! 4. forwards TERM, INT, HUP, QUIT, USR1 and USR2 to the payload's process group, reaps orphans, and runs more commands
//!    beside the payload when the daemon orders it (`sessions.rs`);
//! 5. writes the exit file when the payload has ended (after a failure it looks which of the job's file systems are full),
//!    then kills and reaps the processes that the payload left, so
//!    that the output pipes come to their end;
//! 6. closes its write end of stdout, which tells the daemon that no other process is left, and waits for one byte on
//!    the control pipe: the daemon has everything, the files too that the job leaves for others. If the daemon dies instead (end of
//!    file there), it lingers with its duplicates of the pipes' read ends, so that nothing is lost, until a
//!    new daemon has opened the control pipe anew, sent any of the signals above, collected the output and written the
//!    byte; or until its time is over. It does not wait for a pipe that still has a writer: no process of the job is
//!    left, so the descriptor lies in a socket that may never be closed, and the daemon must learn of the end.
//!
//! `init_abi.rs` has the descriptors, the exec request and the exit file. Arguments: name, seconds to linger. No
//! environment.

#![no_std]
#![no_main]

mod exec;
mod exec_request;
#[path = "../init_abi.rs"]
#[allow(dead_code)] // the daemon needs more of it
mod init_abi;
mod mem;
mod program;
#[path = "../sys/raw.rs"]
#[allow(dead_code)]
mod raw;
mod sessions;
mod sys;

use init_abi::order::PAYLOAD;
use init_abi::exit_file::{BEGUN, Begun, ExitFile, OWN_DISKS};
use init_abi::slot;
use sessions::Sessions;

/// Forwarded to the payload: TERM, INT, HUP, QUIT, USR1, USR2.
const FORWARDED: [i32; 6] = [15, 2, 1, 3, 10, 12];
const SIGKILL: i32 = 9;
/// Says that there is an order. A standard signal: it comes also when the job has as many signals pending as its limit allows.
const SIGURG: i32 = 23;
/// How long descriptors of processes that are gone may take to be closed. The kernel closes some of them behind their
/// end.
const CLOSING_MS: i32 = 100;

core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {entry}",
    "ud2",
    entry = sym entry,
);

/// `stack` points to argc, as the kernel leaves it (System V ABI).
unsafe extern "C" fn entry(stack: *const usize) -> ! {
    // SAFETY: the kernel puts argc here.
    let argc = unsafe { *stack };
    // SAFETY: argv follows argc.
    let argv = unsafe { stack.add(1) }.cast::<*const u8>();
    if argc < 2 || sys::getpid() != 1 {
        sys::exit(125);
    }
    sys::not_dumpable();
    sys::take_name();
    sys::block_all_signals();
    // SAFETY: argc is at least 2, so argv[1] is a string.
    let linger_s = decimal(unsafe { *argv.add(1) });
    // Without a request the process that made this namespace is gone, and nobody else has processes here.
    let Some((request, is_fed)) = exec_request::wait() else { sys::exit(0) };
    let Ok(stdin) = sessions::take_input(is_fed) else { sys::exit(125) };
    // Before anything of the payload: a later daemon starts a job again whose file has no mark.
    if !sys::write_at_start(slot::EXIT_FILE, &BEGUN) {
        sys::exit(125);
    }
    let started_ns = sys::now_ns();
    let (payload, outcome) = exec::start(&request, stdin);
    // The payload has its own copy by now: its secrets shall not stay in this process.
    request.forget();
    // End of file on stderr means that nobody writes any more; on stdout, whose write end we keep, also that no process
    // of the job is left.
    for fd in [0, 2, stdin] {
        sys::close(fd);
    }
    let mut sessions = Sessions::new();
    let wait_status = tend(payload, &mut sessions);
    sessions::close_input(PAYLOAD);
    write_exit_file(payload, wait_status, outcome, started_ns);
    sys::kill(-1, SIGKILL);
    while let Ok((pid, status)) = sys::wait_any(true) {
        sessions.reaped(pid, status);
    }
    sys::close(1);
    await_release(linger_s);
    let signal = wait_status & 0x7f;
    sys::exit(if signal == 0 { (wait_status >> 8) & 0xff } else { 128 + signal })
}

/// Waits until the payload has ended, carrying out orders, forwarding signals and reaping orphans. Returns its wait status.
fn tend(payload: i32, sessions: &mut Sessions) -> i32 {
    loop {
        // Reap before waiting: a child may have ended before we looked for the first time.
        while let Ok((pid, status)) = sys::wait_any(false) {
            if pid == payload {
                return status;
            }
            if pid == 0 {
                break;
            }
            sessions.reaped(pid, status);
        }
        let sys::Taken { signal, from_outside } = sys::wait_signal(None);
        if signal == SIGURG {
            // The job may send it too: then there is no order.
            sessions.take_orders();
        }
        // A signal that the job sends to its PID 1 is not sent back to it.
        if FORWARDED.contains(&signal) && from_outside && !sys::kill(-payload, signal) {
            sys::kill(payload, signal);
        }
    }
}

fn write_exit_file(pid: i32, wait_status: i32, outcome: exec::Outcome, started_ns: i64) {
    let exec::Outcome { begun, defect, errno } = outcome;
    let usage = sys::children_usage();
    let failed = wait_status != 0 && begun == Begun::Executed;
    // Only now: nothing of a file system that is gone with the job can be looked at later.
    let (full, crowded) = if failed { full_disks() } else { (0, 0) };
    let exit_file = ExitFile {
        wait_status,
        begun,
        defect,
        full,
        crowded,
        errno,
        pid,
        user_usec: usage.user_usec,
        system_usec: usage.system_usec,
        max_rss_kib: usage.max_rss_kib,
        started_ns,
        ended_ns: sys::now_ns(),
    };
    // Nobody is left to hear of a failure.
    let _ = sys::write_at_start(slot::EXIT_FILE, &exit_file.encode());
}

/// The job's own file systems without a free block, and those without a free inode.
fn full_disks() -> (u8, u8) {
    let (mut full, mut crowded) = (0, 0);
    for (bit, path) in OWN_DISKS.iter().enumerate() {
        let room = sys::room(path);
        full |= u8::from(room.no_block) << bit;
        crowded |= u8::from(room.no_inode) << bit;
    }
    (full, crowded)
}

/// Returns when the daemon has collected the output, or when no daemon did so in time.
fn await_release(linger_s: u64) {
    let give_up_ns = sys::monotonic_ns() + linger_s as i64 * 1_000_000_000;
    loop {
        if has_writer() && sys::is_silent(slot::CONTROL, CLOSING_MS) && has_writer() {
            return;
        }
        match sys::wait_byte(slot::CONTROL) {
            sys::Waited::Byte => return,
            sys::Waited::HungUp => {
                let left = give_up_ns - sys::monotonic_ns();
                if left <= 0 {
                    return;
                }
                // A new daemon opens the pipe, then wakes us by a signal: no polling in between.
                sys::wait_signal(Some(left));
            }
        }
    }
}

/// Whether a pipe of the payload has a writer, although every process that could have one is gone.
fn has_writer() -> bool {
    [slot::KEPT_OUT, slot::KEPT_ERR].into_iter().any(sys::has_writer)
}

/// Leading decimal digits of a string.
fn decimal(text: *const u8) -> u64 {
    let mut value = 0u64;
    for at in 0..12 {
        // SAFETY: the string ends with NUL, where the loop stops.
        let byte = unsafe { *text.add(at) };
        if !byte.is_ascii_digit() {
            break;
        }
        value = value * 10 + u64::from(byte - b'0');
    }
    value
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit(125)
}
