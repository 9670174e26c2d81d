//! Taking over the commands that an earlier daemon had started in jobs.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::Level;
use rustix::event::{Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, pidfd_send_signal};

use super::execs::{end_of, ended};
use super::first_process::progress;
use crate::daemon::core::Core;
use crate::daemon::execs::room::{self, Note};
use crate::daemon::execs::{Exec, Found, Pid1};
use crate::daemon::exit_file::read_exit;
use crate::daemon::inputs::{self, Keeper};
use crate::daemon::sources::Source;
use crate::daemon::timers::Timer;
use crate::diag;
use crate::init_abi::order::{DONE, KEPT_ERR, KEPT_OUT, number};
use crate::job::exec::ExecId;
use crate::job::exit_file::Progress;
use crate::job::{ClientId, JobId};
use crate::output::{JobOutput, SpoolWriter, Watermark};
use crate::sys::clock::now_ns;
use crate::sys::pidfd;

/// The time that a joblet-init has to take an order of which the earlier daemon could not tell it.
const TAKEN: Duration = Duration::from_millis(100);
/// The time between two looks.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };

/// Takes over the commands of a job: with its PID 1 where that lives. Before anything lets joblet-init end, which has the
/// read ends of their pipes.
pub(super) fn take_over_execs(core: &mut Core, job: JobId, client: ClientId, pid1: Option<Arc<Pid1>>) {
    let mut rooms = Vec::new();
    for entry in fs::read_dir(core.execs.of_job(job)).into_iter().flatten().flatten() {
        let id = entry.file_name().to_str().and_then(ExecId::parse);
        match (id, room::note(&entry.path())) {
            (Some(id), Ok(note)) => rooms.push((note, id)),
            // Half-made.
            _ => core.cleanup.remove_directory(entry.path()),
        }
    }
    rooms.sort_by_key(|(note, _)| note.number);
    for (note, id) in rooms {
        if let Err(why) = take_over(core, (job, client), &note, id, pid1.as_ref()) {
            diag::event!(
                Level::Warn,
                "cannot take over a command in a job",
                jobId = job,
                exec = id,
                error = why
            );
            core.execs.remove(job, id);
            core.cleanup.remove_directory(core.execs.room(job, id));
        }
    }
}

/// # Errors
/// Its room cannot be used, or its order was never taken.
fn take_over(
    core: &mut Core,
    (job, client): (JobId, ClientId),
    note: &Note,
    id: ExecId,
    pid1: Option<&Arc<Pid1>>,
) -> io::Result<()> {
    let dir = core.execs.room(job, id);
    let spool = SpoolWriter::reopen(&dir).map_err(io::Error::other)?;
    let output = Watermark::new();
    output.set_client(client);
    output.publish(spool.rows());
    let exit_file = room::exit_file(&dir)?;
    let mut exec = Exec::ordered(id, note, output.clone(), pid1.cloned());
    if let Some(pid1) = pid1.filter(|_| !room::is_closed(&dir)) {
        if progress(&exit_file) == Progress::Waiting {
            wait_until_taken(pid1, &exit_file)?;
        }
        let take = |which| pidfd::descriptor_of(pid1.pidfd.as_fd(), pid1.pid, number(note.place, which));
        let ends = take(KEPT_OUT).and_then(|stdout| Ok((stdout, take(KEPT_ERR)?)));
        if let Ok((stdout, stderr)) = ends {
            let done = take(DONE).and_then(readable);
            exec.done = done.and_then(|done| core.clock.watch(Source::ExecDone(id), done)).ok();
            core.streams.collector().add(JobOutput {
                id,
                stdout,
                stderr,
                release: None,
                spool,
                watermark: output,
            });
            if exec.done.is_some() {
                keep_input(core, id, pid1, (note.place, note.number));
            }
            go_on(core, job, exec);
            return Ok(());
        }
    }
    let found = Found { record: read_exit(&exit_file), job_ended_ns: None, job_is_over: pid1.is_none() };
    if let Some(record) = found.record {
        exec.started_ns = record.started_ns;
    }
    exec.end = Some(room::end(&dir).unwrap_or_else(|| end_of(&exec, &found)));
    (exec.place, exec.pid1, exec.is_drained, exec.is_closed) = (None, None, true, true);
    output.end();
    core.execs.add(job, exec);
    Ok(())
}

/// Goes on with the standard input of a program, where it has one.
pub(super) fn keep_input(core: &Core, id: ExecId, pid1: &Pid1, (place, tag): (u32, u32)) {
    match pid1.pidfd.try_clone() {
        Ok(pidfd) => {
            inputs::take_over(core.streams.inputs(), id, Keeper { pidfd, pid: pid1.pid, place, tag });
        }
        Err(why) => {
            diag::event!(Level::Warn, "cannot take over the input of a program", id = id, error = why);
        }
    }
}

/// Goes on with a command that has a place.
fn go_on(core: &mut Core, job: JobId, exec: Exec) {
    let (id, is_running) = (exec.id, exec.done.is_some());
    let left = exec.timeout.map(|timeout| timeout.saturating_sub(since(exec.started_ns)));
    core.execs.add(job, exec);
    if !is_running {
        ended(core, id);
    } else if let Some(left) = left {
        core.clock.set(Instant::now() + left, Timer::ExecTimeout(id));
    }
}

/// Takes over the commands of jobs that were over, and removes the rooms of those that nobody knows.
pub(super) fn take_over_ended_execs(core: &mut Core) {
    for entry in fs::read_dir(core.execs.directory()).into_iter().flatten().flatten() {
        let known = entry.file_name().to_str().and_then(JobId::parse);
        let known = known.and_then(|id| core.jobs.get(id)).map(|job| (job.id, job.spec.client));
        match known {
            Some((id, client)) if core.execs.list(id).is_empty() => take_over_execs(core, id, client, None),
            Some(_) => {}
            None => core.cleanup.remove_directory(entry.path()),
        }
    }
}

/// Wakes a joblet-init for an order that the earlier daemon has sent, perhaps without the signal.
///
/// # Errors
/// It does not take one.
fn wait_until_taken(pid1: &Pid1, exit_file: &fs::File) -> io::Result<()> {
    pidfd_send_signal(&pid1.pidfd, Signal::URG)?;
    let end = Instant::now() + TAKEN;
    while progress(exit_file) == Progress::Waiting {
        if Instant::now() >= end {
            return Err(io::Error::other("its joblet-init has not taken the order"));
        }
        // No file tells when the order is taken, and the loop does not turn yet.
        poll(&mut [], Some(&LOOK_AGAIN))?;
    }
    Ok(())
}

/// The time since a moment, ns since the epoch.
fn since(started_ns: i64) -> Duration {
    Duration::from_nanos(now_ns().saturating_sub(started_ns).max(0).unsigned_abs())
}

/// The read end of a pipe of which we have the write end.
fn readable(end: OwnedFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", end.as_raw_fd());
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?)
}
