//! More commands in a running job: orders to its joblet-init.
//!
//! The daemon never enters a job. joblet-init is the parent of every command, which so inherits all walls; the daemon
//! sends an order with descriptors ([`crate::init_abi::order`]) and SIGURG. joblet-init has both ends of the order socket:
//! the daemon takes its own for one order, by `pidfd_getfd(2)`, as a later daemon does.
//!
//! While joblet-init waits for its child's exec (vfork) the job can stop that child, whose id is its own, and with it
//! joblet-init: [`end_stuck`] kills such a child.

use std::fs::{File, metadata};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, pidfd_send_signal};

use super::create::{exec_request_file, output_pipe};
use super::error::{SandboxError, preparing};
use super::start::{ExecRequest, encode};
use crate::init_abi::order::{
    CLOSE_INPUT, FEED, FORGET, INPUT, INPUT_END, MOST, Order, PAYLOAD, SIGNAL, START, START_FED, number,
};
use crate::init_abi::slot;
use crate::sys::pidfd;

/// PID 1 of a running job, to which orders go.
#[derive(Debug)]
pub struct Receiver<'a> {
    /// A pidfd of it.
    pub pidfd: BorrowedFd<'a>,
    /// Its number on the host.
    pub pid: i32,
}

/// A standard input for a payload or a command.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Read end of its pipe, for the program.
    pub stdin: BorrowedFd<'a>,
    /// The memory file with its bytes.
    pub file: BorrowedFd<'a>,
    /// Write end of the pipe.
    pub pipe: BorrowedFd<'a>,
    /// Tells it from the input of another command that had the same place.
    pub tag: u32,
}

/// The copies of an input that a joblet-init keeps: the same open files.
///
/// # Errors
/// It has none; or the kernel does not let us share them (Yama, scope 3).
pub fn input_of(pidfd: BorrowedFd<'_>, place: u32) -> std::io::Result<(OwnedFd, OwnedFd)> {
    let take = |which| pidfd::shared_descriptor_of(pidfd, number(place, which));
    Ok((take(INPUT)?, take(INPUT_END)?))
}

/// The daemon's ends of the pipes of a command. None blocks.
#[derive(Debug)]
pub struct Ends {
    /// Its end of file says "executed"; else four bytes of errno come before.
    pub report: OwnedFd,
    /// Its end of file says that the command has ended, and its exit file is written.
    pub done: OwnedFd,
    /// Read end of its stdout.
    pub stdout: OwnedFd,
    /// Read end of its stderr.
    pub stderr: OwnedFd,
}

impl Receiver<'_> {
    /// Has a command run in a free place. `exit_file` is marked as waiting.
    ///
    /// # Errors
    /// joblet-init is gone, or was started before there were orders; its socket is full; the daemon has no descriptors left.
    pub fn start(
        &self,
        place: u32,
        request: &ExecRequest,
        exit_file: &File,
        input: Option<Input<'_>>,
    ) -> Result<Ends, SandboxError> {
        let socket = self.socket()?;
        let bytes = encode(request);
        let file = exec_request_file()?;
        preparing(file.write_all_at(&bytes, 0), "write the exec request")?;
        let (stdout, out) = output_pipe()?;
        let (stderr, err) = output_pipe()?;
        let pipe = || pipe_with(PipeFlags::CLOEXEC);
        let (report, report_end) = preparing(pipe(), "make the report pipe")?;
        let (done, done_end) = preparing(pipe(), "make the pipe of its end")?;
        for end in [&report, &done] {
            preparing(rustix::io::ioctl_fionbio(end, true), "make a pipe non-blocking")?;
        }
        let length = bytes.len() as u64;
        let order = match &input {
            None => Order { verb: START, place, argument: length },
            Some(input) => Order { verb: START_FED, place, argument: u64::from(input.tag) << 32 | length },
        };
        let mut descriptors = vec![
            report_end.as_fd(),
            file.as_fd(),
            out.as_fd(),
            err.as_fd(),
            stdout.as_fd(),
            stderr.as_fd(),
            exit_file.as_fd(),
            done_end.as_fd(),
        ];
        descriptors.extend(input.into_iter().flat_map(|input| [input.stdin, input.file, input.pipe]));
        self.send(&socket, order, &descriptors)?;
        Ok(Ends { report, done, stdout, stderr })
    }

    /// Sends a signal to the process group of a command that has not ended; to no other process.
    ///
    /// # Errors
    /// As [`Receiver::start`].
    pub fn signal(&self, place: u32, signal: i32) -> Result<(), SandboxError> {
        let order = Order { verb: SIGNAL, place, argument: u64::from(signal.unsigned_abs()) };
        self.send(&self.socket()?, order, &[])
    }

    /// Gives a payload its standard input, before [`Init::start`](super::start::Init::start) with one.
    ///
    /// # Errors
    /// As [`Receiver::start`].
    pub fn feed(&self, input: Input<'_>) -> Result<(), SandboxError> {
        let order = Order { verb: FEED, place: PAYLOAD, argument: 0 };
        self.send(&self.socket()?, order, &[input.stdin, input.file, input.pipe])
    }

    /// Has the copies of an input closed that has this tag.
    ///
    /// # Errors
    /// As [`Receiver::start`].
    pub fn close_input(&self, place: u32, tag: u32) -> Result<(), SandboxError> {
        self.send(&self.socket()?, Order { verb: CLOSE_INPUT, place, argument: tag.into() }, &[])
    }

    /// Frees the place of a command that has ended, whose output is complete.
    ///
    /// # Errors
    /// As [`Receiver::start`].
    pub fn forget(&self, place: u32) -> Result<(), SandboxError> {
        self.send(&self.socket()?, Order { verb: FORGET, place, argument: 0 }, &[])
    }

    fn socket(&self) -> Result<OwnedFd, SandboxError> {
        let taken = pidfd::descriptor_of(self.pidfd, self.pid, slot::ORDER_SOURCE);
        preparing(taken, "take the order socket of its PID 1")
    }

    fn send(
        &self,
        socket: &OwnedFd,
        order: Order,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), SandboxError> {
        let mut bytes = [0u8; size_of::<Order>()];
        bytes[..4].copy_from_slice(&order.verb.to_ne_bytes());
        bytes[4..8].copy_from_slice(&order.place.to_ne_bytes());
        bytes[8..].copy_from_slice(&order.argument.to_ne_bytes());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        preparing(
            sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, flags),
            "send an order to its PID 1",
        )?;
        preparing(pidfd_send_signal(self.pidfd, Signal::URG), "wake its PID 1")
    }
}

/// Kills children of a joblet-init that are stopped before their exec, or with `all` every one that has not come to it.
/// `processes` are those of the job; the number of those killed.
pub fn end_stuck(init: i32, processes: &[i32], all: bool) -> usize {
    let image = |pid: i32| metadata(format!("/proc/{pid}/exe")).ok().map(|meta| (meta.dev(), meta.ino()));
    let Some(wanted) = image(init) else { return 0 };
    let is_stuck = |pid: i32| image(pid) == Some(wanted) && (all || is_stopped(pid));
    let kill = |pid: i32| {
        let found = pidfd::open(pid, pidfd::start_time(pid)?).ok()?;
        // Only now the number cannot pass on to another process.
        is_stuck(pid).then(|| pidfd_send_signal(&found, Signal::KILL).ok()).flatten()
    };
    processes.iter().filter(|pid| **pid != init && is_stuck(**pid) && kill(**pid).is_some()).count()
}

/// Whether a process is stopped by a signal or by a tracer (proc_pid_stat(5), field 3).
fn is_stopped(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, Some('T' | 't'))
}
