//! A command's way to its thread, and what comes back.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::room;
use crate::cgroup::JobCgroup;
use crate::daemon::token::Token;
use crate::job::JobId;
use crate::job::exec::{ExecEnd, ExecId, ExecSpec};
use crate::job::exit_file::ExitFile;
use crate::output::Watermark;
use crate::sandbox::session;

/// PID 1 of a job, to which orders go.
#[derive(Debug)]
pub(in crate::daemon) struct Pid1 {
    /// A pidfd of it.
    pub(in crate::daemon) pidfd: OwnedFd,
    /// Its number on the host.
    pub(in crate::daemon) pid: i32,
}

impl Pid1 {
    pub(super) fn receiver(&self) -> session::Receiver<'_> {
        session::Receiver { pidfd: self.pidfd.as_fd(), pid: self.pid }
    }

    /// Whether it is gone, or ends at once: its pipes end a moment before it does.
    pub(super) fn ends_soon(&self) -> bool {
        let moment = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&moment)) != Ok(0)
    }
}

/// Something for the thread.
#[derive(Debug)]
pub(in crate::daemon) enum Task {
    /// Starts a command.
    Start(Box<Start>),
    /// Sends a signal to the process group of a command; the token: a client asked for it.
    Signal { pid1: Arc<Pid1>, place: u32, signal: i32, asked: Option<Token> },
    /// Ends children of a joblet-init that are stopped before their exec, or all that have not come to it.
    EndStuck { pid1: Arc<Pid1>, group: JobCgroup, all: bool },
    /// Reads the exit file of a command that has ended.
    Read { id: ExecId, room: PathBuf, job_exit: JobExit, pid1: Option<Arc<Pid1>> },
    /// Writes down how a command ended, for the next daemon.
    Keep { room: PathBuf, end: (i64, ExecEnd) },
    /// Frees the place of a command.
    Forget { pid1: Arc<Pid1>, place: u32, room: PathBuf },
}

/// The findings at the end of a command.
#[derive(Debug, Clone, Copy)]
pub(in crate::daemon) struct Found {
    /// The exit file, where it has one.
    pub(in crate::daemon) record: Option<ExitFile>,
    /// The end of the job's payload, ns since the epoch.
    pub(in crate::daemon) job_ended_ns: Option<i64>,
    /// Whether PID 1 of the job is gone.
    pub(in crate::daemon) job_is_over: bool,
}

/// A command to be started.
#[derive(Debug)]
pub(in crate::daemon) struct Start {
    /// The job of the command.
    pub(in crate::daemon) job: JobId,
    /// The identity of the command.
    pub(in crate::daemon) id: ExecId,
    /// The note for the next daemon.
    pub(in crate::daemon) note: room::Note,
    /// The request of the client.
    pub(in crate::daemon) spec: ExecSpec,
    /// The request of the job itself.
    pub(in crate::daemon) job_spec: Arc<crate::job::JobSpec>,
    /// The right of the job to its runtime.
    pub(in crate::daemon) runtime: Option<crate::runtime::Use>,
    /// The GPUs of the job, for its variables.
    pub(in crate::daemon) gpus: Vec<crate::job::gpu::GpuLease>,
    /// The files of the driver that it sees with them.
    pub(in crate::daemon) driver: crate::job::gpu::DriverParts,
    /// How far its output has come.
    pub(in crate::daemon) output: Arc<Watermark>,
    /// PID 1 of its job.
    pub(in crate::daemon) pid1: Arc<Pid1>,
    /// The path of its room.
    pub(in crate::daemon) room: PathBuf,
}

/// The exit file of a job's payload.
#[derive(Debug)]
pub(in crate::daemon) enum JobExit {
    /// It is open already.
    Open(Arc<File>),
    /// The thread opens it.
    At(PathBuf),
}
