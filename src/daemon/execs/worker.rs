//! The thread of commands in jobs: rooms, orders, exit files. It may wait for the disk, or for as many processes
//! as a job has.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;

use crossbeam_channel::Receiver;
use log::Level;

use super::order::{Found, JobExit, Start, Task};
use super::room;
use crate::daemon::DaemonError;
use crate::daemon::exit_file::read_exit;
use crate::daemon::inputs::{self, Keeper};
use crate::daemon::runtimes::PATH;
use crate::daemon::spawner::{environment, exec_request};
use crate::diag;
use crate::input::{Inputs, Store};
use crate::job::JobSpec;
use crate::job::exec::ExecId;
use crate::output::{Collector, JobOutput, SpoolWriter};
use crate::sandbox::session::{self, Ends, Input};
use crate::upload::JobInputs;

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
    inputs: Inputs,
    answer: impl Fn(ExecEvent) + Send + 'static,
) -> Result<JoinHandle<()>, DaemonError> {
    let work = move || {
        for task in tasks {
            if let Some(event) = carry_out(&collector, &inputs, task) {
                answer(event);
            }
        }
    };
    let thread = std::thread::Builder::new().name("execs".into());
    thread.spawn(work).map_err(|source| DaemonError::Thread { name: "execs", source })
}

fn carry_out(collector: &Collector, inputs: &Inputs, task: Task) -> Option<ExecEvent> {
    match task {
        Task::Start(start) => Some(ExecEvent::Ordered(start.id, order(collector, inputs, *start))),
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
fn order(collector: &Collector, inputs: &Inputs, start: Start) -> Result<(OwnedFd, OwnedFd), String> {
    let (spool, exit_file) = room::make(&start.room, &start.note).map_err(|why| why.to_string())?;
    let room = start.room.clone();
    let ordered = give((collector, inputs), start, spool, &exit_file);
    if ordered.is_err()
        && let Err(why) = std::fs::remove_dir_all(&room)
    {
        diag::limited!(Level::Warn, "cannot remove a room", path = room.display(), error = why);
    }
    ordered
}

fn give(
    (collector, moved): (&Collector, &Inputs),
    start: Start,
    spool: SpoolWriter,
    exit_file: &File,
) -> Result<(OwnedFd, OwnedFd), String> {
    let Start { job, id, note, spec, job_spec, runtime, gpus, driver, output, pid1, .. } = start;
    let mut plain = job_spec.environment.clone();
    plain.extend(spec.environment);
    let inputs = JobInputs { environment: plain, secrets: spec.secrets, ..JobInputs::default() };
    let own =
        JobSpec { command: note.command, args: note.args, work_dir: note.work_dir, ..(*job_spec).clone() };
    let variables = runtime.map(|runtime| runtime.runtime().description.variables(PATH)).unwrap_or_default();
    let gpus = (gpus.as_slice(), driver);
    let request = exec_request(&own, None, environment(job, &own, None, variables, gpus, &inputs))?;
    let input = spec.stdin.then(Store::create).transpose();
    let input = input.map_err(|why| format!("cannot make its standard input: {why}"))?;
    let (place, tag) = (note.place, note.number);
    let pidfd = pid1.pidfd.try_clone().map_err(|why| format!("cannot reach the job: {why}"))?;
    let shown = input.as_ref().map(|(store, stdin)| Input {
        stdin: stdin.as_fd(),
        file: store.file(),
        pipe: store.pipe(),
        tag,
    });
    let ends = pid1.receiver().start(place, &request, exit_file, shown).map_err(|why| why.to_string())?;
    if let Some((store, _stdin)) = input {
        inputs::open(moved, id, store, Keeper { pidfd, pid: pid1.pid, place, tag });
    }
    let Ends { report, done, stdout, stderr } = ends;
    collector.add(JobOutput { id, stdout, stderr, release: None, spool, watermark: output });
    Ok((report, done))
}
