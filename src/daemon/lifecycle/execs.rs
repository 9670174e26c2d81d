//! The steps of commands in running jobs ([`crate::daemon::execs`]): ordered, executed, ended, drained, forgotten.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::Level;
use rustix::io::Errno;
use rustix::process::Signal;

use crate::daemon::command::{Answer, CommandError};
use crate::daemon::command_line;
use crate::daemon::core::Core;
use crate::daemon::execs::room::Note;
use crate::daemon::execs::worker::ExecEvent;
use crate::daemon::execs::{Exec, Found, JobExit, Pid1, Start, Task};
use crate::daemon::provision::Runtime;
use crate::daemon::sources::Source;
use crate::daemon::timers::Timer;
use crate::diag;
use crate::job::exec::{ExecEnd, ExecId, ExecSpec, ExecView, ExecWitnesses, ran_too_long};
use crate::job::exit::StopCause;
use crate::job::exit_file::Begun;
use crate::job::state::Fact;
use crate::job::{JobId, JobRef, RunAs, State};
use crate::output::Watermark;
use crate::sandbox::create::exit_file_path;
use crate::sys::clock::now_ns;

/// From an order to the first look for a child that does not come to its exec, and from one look to the next.
const STUCK: Duration = Duration::from_millis(100);
/// Looks after which also a child that is not stopped is ended: its program lies on a file system that does not answer.
const PATIENT_LOOKS: u32 = 50;

/// Starts a command in a running job. Answered when it was executed.
///
/// # Errors
/// The job does not run, or has no place; too many commands are being started.
pub(in crate::daemon) fn start_exec(
    core: &mut Core,
    wanted: &JobRef,
    spec: ExecSpec,
    answer: Answer<ExecView>,
) {
    match begin(core, wanted, spec) {
        Ok((id, token)) => {
            if let Some(exec) = core.execs.get_mut(id) {
                exec.starter = Some((answer, token));
            }
        }
        Err(why) => drop(answer.send(Err(why))),
    }
}

fn begin(
    core: &mut Core,
    wanted: &JobRef,
    spec: ExecSpec,
) -> Result<(ExecId, crate::daemon::token::Token), CommandError> {
    let job = core.jobs.find(wanted)?;
    let gpus = job.trace.gpus.clone();
    let (job_id, job_spec, runtime, client) =
        (job.id, job.spec.clone(), job.held.runtime.as_ref().and_then(Runtime::installed), job.spec.client);
    let runtime = runtime.cloned();
    let run = job.run.as_ref().filter(|_| matches!(job.state, State::Running)).ok_or_else(|| {
        let status = job.status();
        CommandError::WrongState(format!(
            "job is not running: {job_id} (current status: {})",
            status.as_str()
        ))
    })?;
    if matches!(job_spec.run_as, RunAs::Known(_)) {
        return Err(CommandError::WrongState(format!(
            "job {job_id} runs as a user of its image, whose files the job may have changed: a command in it could not be given \
             the same user"
        )));
    }
    if job.times.paused.is_some() {
        // Its joblet-init stands still too.
        let id = job_id.short();
        return Err(CommandError::WrongState(format!("job {job_id} is paused; first: rnx job resume {id}")));
    }
    let copied = run.init.as_fd().try_clone_to_owned();
    let pidfd = copied.map_err(|why| CommandError::Exhausted(format!("cannot reach job {job_id}: {why}")))?;
    let pid1 = Arc::new(Pid1 { pidfd, pid: run.pid });
    let token = core.execs.order()?;
    let (place, number) = core.execs.place(job_id)?;
    let (id, output) = (ExecId::random(), Watermark::new());
    output.set_client(client);
    let note = Note {
        command: spec.command.clone(),
        args: spec.args.clone(),
        work_dir: spec.work_dir.clone().unwrap_or_else(|| job_spec.work_dir.clone()),
        timeout: spec.timeout,
        ..Note::new(number, place, now_ns())
    };
    let exec = Exec::ordered(id, &note, output.clone(), Some(pid1.clone()));
    let room = core.execs.room(job_id, id);
    core.execs.add(job_id, exec);
    let driver = core.node.sandbox.driver_parts();
    let start = Start { job: job_id, id, note, spec, job_spec, runtime, gpus, driver, output, pid1, room };
    core.execs.send(Task::Start(Box::new(start)));
    Ok((id, token))
}

/// The thread of commands has answered.
pub(in crate::daemon) fn on_exec_event(core: &mut Core, event: ExecEvent) {
    match event {
        ExecEvent::Ordered(id, Err(why)) => {
            let Some(job) = core.execs.job_of(id) else { return };
            let starter = core.execs.get_mut(id).and_then(|exec| exec.starter.take());
            core.execs.remove(job, id);
            if let Some((answer, _token)) = starter {
                let text = format!("cannot run the command in job {job}: {why}");
                let _ = answer.send(Err(CommandError::SetUp(text)));
            }
        }
        ExecEvent::Ordered(id, Ok((report, done))) => {
            let clock = &core.clock;
            let watched = clock
                .watch(Source::ExecReport(id), report)
                .and_then(|report| Ok((report, clock.watch(Source::ExecDone(id), done)?)));
            let Some(exec) = core.execs.get_mut(id) else { return };
            match watched {
                Ok((report, done)) => {
                    (exec.report, exec.done) = (Some(report), Some(done));
                    let now = Instant::now();
                    core.clock.set(now + STUCK, Timer::ExecStuck(id, 1));
                    if let Some(timeout) = exec.timeout {
                        core.clock.set(now + timeout, Timer::ExecTimeout(id));
                    }
                }
                Err(why) => {
                    diag::limited!(Level::Error, "cannot watch a command in a job", exec = id, error = why);
                    signal(core, id, Signal::KILL.as_raw());
                    ended(core, id);
                }
            }
        }
        ExecEvent::Read(id, found) => {
            if let Some(exec) = core.execs.get_mut(id) {
                exec.record = Some(found);
            }
            conclude(core, id);
        }
    }
}

/// The report pipe of a command has its word, as that of a payload.
pub(in crate::daemon) fn on_exec_report(core: &mut Core, id: ExecId) {
    let Some(job) = core.execs.job_of(id) else { return };
    let Some(exec) = core.execs.get_mut(id) else { return };
    let Some(report) = &exec.report else { return };
    let mut word = [0u8; 4];
    let executed = match rustix::io::read(report, &mut word) {
        Err(Errno::AGAIN | Errno::INTR) => return,
        Ok(read) => read == 0,
        Err(_) => false,
    };
    exec.report = None;
    if !executed {
        // Its exit file tells why; its end follows.
        return;
    }
    let command = command_line(&exec.command, &exec.args);
    diag::event!(Level::Info, "command started in a job", jobId = job, exec = id, command = command);
    let view = exec.view(job);
    if let Some((answer, _token)) = exec.starter.take() {
        let _ = answer.send(Ok(view));
    }
}

/// The pipe of a command's end has ended.
pub(in crate::daemon) fn on_exec_done(core: &mut Core, id: ExecId) {
    // The report may be in the same batch: it was written before.
    on_exec_report(core, id);
    let Some(done) = core.execs.get_mut(id).and_then(|exec| exec.done.as_ref()) else { return };
    match rustix::io::read(done, &mut [0u8; 1]) {
        Err(Errno::AGAIN | Errno::INTR) => {}
        _ => ended(core, id),
    }
}

/// A command has ended: what it has written is collected, its exit file is read.
pub(super) fn ended(core: &mut Core, id: ExecId) {
    let Some(job) = core.execs.job_of(id) else { return };
    let job_exit = core.jobs.get(job).and_then(|job| job.run.as_ref()).map(|run| run.exit_file.clone());
    // A job that is just being taken over is not in the table yet.
    let path = exit_file_path(&core.node.run_dir, &job.to_string());
    let job_exit = job_exit.map_or(JobExit::At(path), JobExit::Open);
    let room = core.execs.room(job, id);
    let Some(exec) = core.execs.get_mut(id) else { return };
    (exec.report, exec.done) = (None, None);
    let pid1 = exec.pid1.clone();
    core.streams.inputs().close(id);
    // Now: whatever comes later is not the command's own.
    core.streams.collector().report_empty(id);
    core.execs.send(Task::Read { id, room, job_exit, pid1 });
    core.clock.set(Instant::now() + core.settings.cleanup_timeout, Timer::ExecDrain(id));
}

/// The pipes of a command were empty after its end; `closed`: nobody can write to them any more.
pub(in crate::daemon) fn on_exec_output(core: &mut Core, id: ExecId, closed: bool) {
    let Some(exec) = core.execs.get_mut(id) else { return };
    // Both pipes may be closed long before the end.
    exec.is_drained = true;
    exec.is_closed |= closed;
    conclude(core, id);
    free_place(core, id);
}

fn conclude(core: &mut Core, id: ExecId) {
    let Some(job) = core.execs.job_of(id) else { return };
    let room = core.execs.room(job, id);
    let Some(exec) = core.execs.get_mut(id) else { return };
    let Some(found) = exec.record.filter(|_| exec.is_drained && exec.end.is_none()) else { return };
    let end = end_of(exec, &found);
    exec.end = Some(end.clone());
    exec.output.end();
    if let Some(record) = found.record {
        exec.started_ns = record.started_ns;
    }
    diag::event!(
        Level::Info,
        "command in a job ended",
        jobId = job,
        exec = id,
        reason = end.1.reason(),
        exitCode = end.1.code(),
        message = end.1.message()
    );
    let lacks_process =
        found.record.is_some_and(|r| r.begun == Begun::NotExecuted && r.errno == libc::EAGAIN);
    let view = exec.view(job);
    if let Some((answer, _token)) = exec.starter.take() {
        let _ = answer.send(if lacks_process {
            let text = format!("cannot run the command: job {job} is at its limit of processes");
            Err(CommandError::Exhausted(text))
        } else {
            Ok(view)
        });
    }
    core.execs.send(Task::Keep { room, end });
    free_place(core, id);
}

/// The verdict about a command.
pub(super) fn end_of(exec: &Exec, found: &Found) -> (i64, ExecEnd) {
    let was_killed = |record: &&crate::job::exit_file::ExitFile| record.wait_status & 0x7f != 0;
    let record = found.record.as_ref();
    // An earlier daemon may have sent the signals.
    let too_long = record.filter(was_killed).is_some_and(|record| ran_too_long(record, exec.timeout));
    let end = ExecEnd::of(&ExecWitnesses {
        record: found.record,
        timed_out: exec.timed_out || too_long,
        timeout: exec.timeout,
        job_ended_ns: found.job_ended_ns,
        job_is_over: found.job_is_over,
        command: exec.command.clone(),
        work_dir: exec.work_dir.clone(),
    });
    (record.map_or_else(now_ns, |record| record.ended_ns), end)
}

/// Frees the place of a command that has ended and to whose pipes nobody can write.
fn free_place(core: &mut Core, id: ExecId) {
    let Some(job) = core.execs.job_of(id) else { return };
    let room = core.execs.room(job, id);
    let Some(exec) = core.execs.get_mut(id).filter(|exec| exec.end.is_some() && exec.is_closed) else {
        return;
    };
    if let (Some(place), Some(pid1)) = (exec.place.take(), exec.pid1.take()) {
        core.execs.send(Task::Forget { pid1, place, room });
        for gone in core.execs.surplus(job) {
            core.cleanup.remove_directory(gone);
        }
    }
}

/// Sends a signal to a command that has not ended.
fn signal(core: &mut Core, id: ExecId, signal: i32) {
    let Some(exec) = core.execs.get_mut(id) else { return };
    let (Some(place), Some(pid1)) = (exec.place, exec.pid1.clone()) else { return };
    core.execs.send(Task::Signal { pid1, place, signal, asked: None });
}

/// Sends a signal that a client asks for.
///
/// # Errors
/// There is no such command, or it has ended; too many orders are on their way.
pub(in crate::daemon) fn signal_exec(
    core: &mut Core,
    job: &JobRef,
    wanted: &str,
    signal: i32,
) -> Result<ExecView, CommandError> {
    let job = core.jobs.find(job)?.id;
    let exec = core.execs.find(job, wanted)?;
    let (Some(place), Some(pid1), None) = (exec.place, exec.pid1.clone(), &exec.end) else {
        return Err(CommandError::WrongState(format!("the command has ended: {}", exec.id)));
    };
    let (asked, view) = (Some(core.execs.order()?), exec.view(job));
    core.execs.send(Task::Signal { pid1, place, signal, asked });
    Ok(view)
}

/// The timeout of a command is over.
pub(in crate::daemon) fn on_exec_timeout(core: &mut Core, id: ExecId) {
    let Some(exec) = core.execs.get_mut(id).filter(|exec| exec.done.is_some()) else { return };
    exec.timed_out = true;
    signal(core, id, Signal::TERM.as_raw());
    core.clock.set(Instant::now() + core.settings.stop_grace, Timer::ExecKill(id));
}

/// A command that must end has had its grace, or writes more than is kept.
pub(in crate::daemon) fn kill_exec(core: &mut Core, id: ExecId) {
    signal(core, id, Signal::KILL.as_raw());
}

/// A command keeps the lock of an output pipe: as for a payload, its whole job is ended. It may be a job's own id.
pub(in crate::daemon) fn on_pipe_held(core: &mut Core, id: JobId) {
    let job = core.execs.job_of(id).unwrap_or(id);
    core.jobs.note(job, Fact::Stop(StopCause::PipeHeld));
}

/// A job, or a command in one, writes more output than is kept.
pub(in crate::daemon) fn on_over_limit(core: &mut Core, id: JobId) {
    match core.execs.job_of(id) {
        Some(_) => kill_exec(core, id),
        None => core.jobs.note(id, Fact::Stop(StopCause::OutputLimit)),
    }
}

/// The output of a command that has ended was waited for long enough.
pub(in crate::daemon) fn drain_exec(core: &mut Core, id: ExecId) {
    if core.execs.get_mut(id).is_some_and(|exec| exec.end.is_none()) {
        diag::limited!(Level::Warn, "output of an ended command does not end, no longer waiting", exec = id);
        core.streams.collector().give_up(id);
    }
}

/// Looks for a child of joblet-init that does not come to its exec, as long as a command was not executed.
pub(in crate::daemon) fn end_stuck_exec(core: &mut Core, id: ExecId, looks: u32) {
    let Some(job) = core.execs.job_of(id) else { return };
    let Some(exec) = core.execs.get_mut(id).filter(|exec| exec.report.is_some()) else { return };
    let Some(pid1) = exec.pid1.clone() else { return };
    let group = core.jobs.get(job).and_then(|job| job.held.cgroup.as_ref()?.try_clone().ok());
    if let Some(group) = group {
        core.execs.send(Task::EndStuck { pid1, group, all: looks > PATIENT_LOOKS });
    }
    core.clock.set(Instant::now() + STUCK, Timer::ExecStuck(id, looks + 1));
}
