//! The thread of commands in jobs: rooms, orders, exit files. It may wait for the disk, or for as many processes
//! as a job has.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::Receiver;
use log::Level;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Found, JobExit, Start, room};
use crate::cgroup::JobCgroup;
use crate::daemon::DaemonError;
use crate::daemon::evidence::read_exit;
use crate::daemon::runtimes::PATH;
use crate::daemon::spawner::{environment, exec_request};
use crate::daemon::token::Token;
use crate::diag;
use crate::job::JobSpec;
use crate::job::exec::{ExecEnd, ExecId};
use crate::output::{Collector, JobOutput, SpoolWriter};
use crate::sandbox::session::{self, Ends};
use crate::upload::JobInputs;

/// PID 1 of a job, to which orders go.
#[derive(Debug)]
pub(in crate::daemon) struct Pid1 {
    /// A pidfd of it.
    pub(in crate::daemon) pidfd: OwnedFd,
    /// Its number on the host.
    pub(in crate::daemon) pid: i32,
}

impl Pid1 {
    fn receiver(&self) -> session::Receiver<'_> {
        session::Receiver { pidfd: self.pidfd.as_fd(), pid: self.pid }
    }

    /// Whether it is gone, or ends at once: its pipes end a moment before it does.
    fn ends_soon(&self) -> bool {
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

/// An answer of the thread.
#[derive(Debug)]
pub(in crate::daemon) enum ExecEvent {
    /// An order was sent, or could not be; the ends of the report pipe and of the pipe of the end.
    Ordered(ExecId, Result<(OwnedFd, OwnedFd), String>),
    /// The exit file of a command that has ended was read.
    Read(ExecId, Found),
}

/// Starts the thread, which ends when the queue's senders are gone.
///
/// # Errors
/// No thread.
pub(in crate::daemon) fn start(
    tasks: Receiver<Task>,
    collector: Collector,
    answer: impl Fn(ExecEvent) + Send + 'static,
) -> Result<JoinHandle<()>, DaemonError> {
    let work = move || {
        for task in tasks {
            if let Some(event) = carry_out(&collector, task) {
                answer(event);
            }
        }
    };
    let thread = std::thread::Builder::new().name("execs".into());
    thread.spawn(work).map_err(|source| DaemonError::Thread { name: "execs", source })
}

fn carry_out(collector: &Collector, task: Task) -> Option<ExecEvent> {
    match task {
        Task::Start(start) => Some(ExecEvent::Ordered(start.id, order(collector, *start))),
        Task::Signal { pid1, place, signal, asked } => {
            if let Err(why) = pid1.receiver().signal(place, signal) {
                diag::limited!(Level::Warn, "cannot signal a command in a job", pid = pid1.pid, error = why);
            }
            drop(asked);
            None
        }
        Task::EndStuck { pid1, group, all } => {
            let processes = group.processes().unwrap_or_default();
            let killed = session::end_stuck(pid1.pid, &processes, all);
            if killed > 0 {
                let job = group.id();
                diag::limited!(Level::Warn, "a job has stopped what was to become a command", jobId = job);
            }
            None
        }
        Task::Read { id, room, job_exit, pid1 } => {
            let record = room::exit_file(&room).ok().and_then(|file| read_exit(&file));
            let job = match job_exit {
                JobExit::Open(file) => read_exit(&file),
                JobExit::At(path) => File::open(path).ok().and_then(|file| read_exit(&file)),
            };
            let job_ended_ns = job.map(|exit| exit.ended_ns);
            let job_is_over = record.is_none() && pid1.is_none_or(|pid1| pid1.ends_soon());
            Some(ExecEvent::Read(id, Found { record, job_ended_ns, job_is_over }))
        }
        Task::Keep { room, end } => {
            if let Err(why) = room::keep_end(&room, &end) {
                diag::limited!(
                    Level::Warn,
                    "cannot note the end of a command",
                    path = room.display(),
                    error = why
                );
            }
            None
        }
        Task::Forget { pid1, place, room } => {
            let closed = room::close(&room);
            if let Err(why) = pid1.receiver().forget(place) {
                diag::limited!(
                    Level::Debug,
                    "cannot free a place in a joblet-init",
                    pid = pid1.pid,
                    error = why
                );
            }
            if let Err(why) = closed {
                diag::limited!(Level::Warn, "cannot close a room", path = room.display(), error = why);
            }
            None
        }
    }
}

/// Makes the room of a command, sends the order and has its output collected.
fn order(collector: &Collector, start: Start) -> Result<(OwnedFd, OwnedFd), String> {
    let (spool, exit_file) = room::make(&start.room, &start.note).map_err(|why| why.to_string())?;
    let room = start.room.clone();
    let ordered = give(collector, start, spool, &exit_file);
    if ordered.is_err()
        && let Err(why) = std::fs::remove_dir_all(&room)
    {
        diag::limited!(Level::Warn, "cannot remove a room", path = room.display(), error = why);
    }
    ordered
}

fn give(
    collector: &Collector,
    start: Start,
    spool: SpoolWriter,
    exit_file: &File,
) -> Result<(OwnedFd, OwnedFd), String> {
    let Start { job, id, note, spec, job_spec, runtime, gpus, output, pid1, .. } = start;
    let mut plain = job_spec.environment.clone();
    plain.extend(spec.environment);
    let inputs = JobInputs { environment: plain, secrets: spec.secrets, ..JobInputs::default() };
    let own =
        JobSpec { command: note.command, args: note.args, work_dir: note.work_dir, ..(*job_spec).clone() };
    let variables = runtime.map(|runtime| runtime.runtime().description.variables(PATH)).unwrap_or_default();
    let request = exec_request(&own, None, environment(job, &own, None, variables, &gpus, &inputs))?;
    let ends = pid1.receiver().start(note.place, &request, exit_file).map_err(|why| why.to_string())?;
    let Ends { report, done, stdout, stderr } = ends;
    collector.add(JobOutput { id, stdout, stderr, release: None, spool, watermark: output });
    Ok((report, done))
}
