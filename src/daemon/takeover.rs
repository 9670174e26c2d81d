//! Taking over from an earlier daemon: its jobs, and what it left behind.
//!
//! Records tell which jobs there were. One that waited waits again. One that was active is looked for: its PID 1 by
//! number, time of birth and boot, or by its place in the job's cgroup. Where it lives, its joblet-init holds what the
//! earlier daemon had: the read ends of the output pipes and the control pipe, which are taken from it by pidfd_getfd(2).
//! From there on the job is like any other, but not our child: its end is told by its exit record alone. Where it does
//! not live, the record tells how it ended; without one it is lost.
//!
//! Only then everything is removed that belongs to no job: berths that no job took, spools and groups of jobs without a
//! record. Such a job was never announced, and its payload never ran: a spawner waits for the record.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use log::Level;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};

use super::cleanup::CleanupTask;
use super::event_loop::Loop;
use super::starting::work_name;
use super::table::{Child, Job};
use super::{now_ns, staging};
use crate::cgroup::JobCgroup;
use crate::diag;
use crate::job::exit::{StopCause, start_failure};
use crate::job::exit_file::{self, ExitFile};
use crate::job::state::{Fact, State};
use crate::job::{Ending, JobId};
use crate::output::{JobOutput, SpoolWriter, Watermark};
use crate::sandbox::create::{exit_file_path, exit_files};
use crate::sandbox::work::Leftover;
use crate::state::{Record, Stage, intent};
use crate::sys::pidfd;

/// Descriptors of joblet-init (`init/main.rs`).
const CONTROL: i32 = 5;
const STDOUT: i32 = 6;
const STDERR: i32 = 7;
const ORDER: i32 = 8;

/// What is taken over of a PID 1 that lives.
struct Found {
    pidfd: OwnedFd,
    pid: i32,
}

impl Loop {
    /// Takes over what an earlier daemon had, and removes what is nobody's. `work` is what is on disk in place of /work.
    pub(super) fn recover(&mut self, records: Vec<Record>, work: Vec<Leftover>) {
        let mut queued = Vec::new();
        for record in self.with_intents(records) {
            if record.stage == Stage::Queued {
                queued.push((record.queued_ns, record.serial, record.id));
            }
            self.restore(record);
        }
        queued.sort_unstable();
        for (_, _, id) in queued {
            if let Some(job) = self.table.get_mut(id).filter(|job| job.state == State::Queued) {
                job.ticket = Some(self.queue.push(id));
            }
        }
        for Leftover { name, project } in work {
            // Of one that waits it was removed with all that its start had made.
            let has_it = |job: &Job| job.lease.is_some() || job.state.waits();
            let lives = |id: JobId| self.table.get(id).is_some_and(has_it);
            let text = OsStr::from_bytes(name.to_bytes()).to_str();
            if !text.and_then(JobId::parse).is_some_and(lives) {
                let lease = self.leases.reserve(project);
                self.remove_work(name, lease);
            }
        }
        self.sweep();
        let mut facts = Vec::new();
        self.grant_slots(&mut facts);
        self.pending.append(&mut facts);
        self.expire();
    }

    /// The records of the database, and those of jobs whose start was under way when the daemon was killed: their intents
    /// are newer than what the database has of them, if it has anything.
    fn with_intents(&self, mut records: Vec<Record>) -> Vec<Record> {
        if self.queues.records.is_none() {
            return records;
        }
        let known: HashMap<JobId, usize> = records.iter().enumerate().map(|(at, r)| (r.id, at)).collect();
        for file in fs::read_dir(exit_files(&self.settings.run_dir)).into_iter().flatten().flatten() {
            let intent = || intent::read(&fs::File::open(file.path()).ok()?);
            let Some(id) = file.file_name().to_str().and_then(JobId::parse) else { continue };
            match known.get(&id).and_then(|at| records.get_mut(*at)) {
                None => records.extend(intent()),
                Some(waiting) if matches!(waiting.stage, Stage::Scheduled | Stage::Queued) => {
                    if let Some(intent) = intent() {
                        *waiting = intent;
                    }
                }
                Some(_) => {}
            }
        }
        for record in &mut records {
            if self.never_began(record) {
                record.stage = Stage::Queued;
            }
        }
        records
    }

    /// Whether a job that had waited was given to a spawner and did not come to its intent: its payload never ran, and it
    /// waits again. What others brought is gone with the daemon.
    fn never_began(&self, record: &Record) -> bool {
        let is_new = record.stage == Stage::Active(None) && record.started_ns.is_none();
        if !is_new || record.queued_ns.is_none() || record.boot != self.boot {
            return false;
        }
        match fs::File::open(exit_file_path(&self.settings.run_dir, &record.id.to_string())) {
            Ok(file) => intent::read(&file).is_none() && read(&file).is_none(),
            Err(why) => why.kind() == io::ErrorKind::NotFound,
        }
    }

    fn restore(&mut self, record: Record) {
        let id = record.id;
        let watermark = Watermark::new(id, self.notifiers.output.clone());
        let samples = Watermark::new(id, self.notifiers.samples.clone());
        let job = Job {
            serial: record.serial,
            created_ns: record.created_ns,
            queued_ns: record.queued_ns,
            started_ns: record.started_ns,
            ended_ns: record.ended_ns,
            unenforced: record.unenforced,
            process: record.process,
            host_id: record.lease,
            timeout_at_ns: record.timeout_at_ns,
            peak_bytes: record.peak_bytes,
            cpu_usec: record.cpu_usec,
            durable: 1,
            version: 1,
            ..Job::new(id, record.spec, State::Scheduled, watermark, samples)
        };
        match record.stage {
            Stage::Ended(ending) => {
                job.watermark.end();
                job.samples.end();
                self.table.restore(Job { state: State::Finished(ending), ..job });
            }
            Stage::Scheduled => self.restore_waiting(Job { state: State::Scheduled, ..job }),
            Stage::Queued => self.restore_waiting(Job { state: State::Queued, ..job }),
            Stage::Active(cause) => self.restore_active(job, cause, &record.boot),
        }
    }

    fn restore_waiting(&mut self, job: Job) {
        let (id, scheduled) = (job.id, job.state == State::Scheduled);
        if let Err(why) = self.clear_room(id) {
            diag::event!(Level::Error, "cannot remove what a start had made", jobId = id, error = why);
        }
        let path = self.settings.stage.path(&id.to_string());
        let gone = staging::is_needed(&job.spec) && !path.exists();
        self.table.restore(job);
        if gone {
            let text = format!("what the job brought is gone from {}; run it again", path.display());
            self.pending.push((id, Fact::NotStarted(start_failure(text))));
        } else if scheduled {
            self.wait_for_time(id);
        }
    }

    /// Removes what a start had made that did not come to its payload: the next one makes it anew.
    fn clear_room(&self, id: JobId) -> io::Result<()> {
        let name = id.to_string();
        let gone = |done: io::Result<()>| match done {
            Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
            _ => Ok(()),
        };
        if let Some(group) = self.tree.reopen(id).map_err(io::Error::other)? {
            let processes = group.processes().map_err(io::Error::other)?;
            let inits = processes.iter().filter_map(|pid| pidfd::open(*pid, pidfd::start_time(*pid)?).ok());
            let inits: Vec<OwnedFd> = inits.collect();
            group.kill().map_err(io::Error::other)?;
            for init in &inits {
                end(init, self.settings.cleanup_timeout)?;
            }
            group.remove().map_err(io::Error::other)?;
        }
        if let Some(disk) = &self.spawner.disk {
            gone(disk.remove(&work_name(id), None))?;
        }
        gone(fs::remove_dir_all(self.settings.spool.join(&name)))?;
        gone(fs::remove_file(exit_file_path(&self.settings.run_dir, &name)))
    }

    fn restore_active(&mut self, mut job: Job, cause: Option<StopCause>, boot: &str) {
        let id = job.id;
        job.cgroup = self.tree.reopen(id).unwrap_or_else(|why| {
            diag::event!(Level::Warn, "cannot open a job's cgroup", jobId = id, error = why);
            None
        });
        job.lease = job.host_id.and_then(|host_id| self.leases.reserve(host_id));
        job.host_restarted = boot != self.boot;
        job.has_slot = true;
        self.running += 1;
        let found = if job.host_restarted { None } else { find_init(&job) };
        let taken = match &found {
            Some(found) => self.take_over(&mut job, found).map(|()| true),
            None => Ok(false),
        };
        match taken {
            Ok(true) => {
                job.started_ns.get_or_insert_with(now_ns);
                job.state = cause.map_or(State::Running, State::StopRequested);
                diag::event!(Level::Info, "took over a running job", jobId = id);
                self.go_on(job);
            }
            Ok(false) => self.conclude_dead(job, cause, None),
            Err(why) => {
                diag::event!(
                    Level::Error,
                    "cannot take over a running job, ending it",
                    jobId = id,
                    error = why
                );
                if let Some(Err(why)) = job.cgroup.as_ref().map(JobCgroup::kill) {
                    diag::event!(Level::Error, "cannot kill a job's cgroup", jobId = id, error = why);
                }
                // Also where it has no group any more. Its id is given to another job next.
                if let Some(Err(why)) = found.map(|found| end(&found.pidfd, self.settings.cleanup_timeout)) {
                    diag::event!(Level::Error, "cannot end a job's processes", jobId = id, error = why);
                }
                self.conclude_dead(job, cause, Some(format!("cannot be taken over: {why}")));
            }
        }
    }

    /// A job that lives: its clocks go on.
    fn go_on(&mut self, job: Job) {
        let id = job.id;
        self.table.restore(job);
        self.run_timeout(id);
        // It may stand in its intent alone. And where somebody asked for its end, it is not known whether TERM was sent: it
        // is when this is recorded.
        self.save(id);
        self.watch_use(id);
    }

    /// A job that is over: what its end was, from what it left.
    fn conclude_dead(&mut self, mut job: Job, cause: Option<StopCause>, why: Option<String>) {
        let id = job.id;
        let name = id.to_string();
        job.record =
            fs::File::open(exit_file_path(&self.settings.run_dir, &name)).ok().and_then(|file| read(&file));
        // Chunks that have no row yet get one.
        if let Ok(spool) = SpoolWriter::reopen(&self.settings.spool.join(&name)) {
            job.watermark.publish(spool.rows());
        }
        job.measure();
        job.output_complete = true;
        job.state = State::Draining(cause);
        job.lost_because = why;
        self.table.restore(job);
        let ending: Option<Ending> = self.ending_of(id);
        self.pending.extend(ending.map(|ending| (id, Fact::OutputComplete(ending))));
    }

    /// Takes from a joblet-init what the earlier daemon had of it.
    fn take_over(&mut self, job: &mut Job, found: &Found) -> Result<(), String> {
        let (id, name) = (job.id, job.id.to_string());
        let words = |what: &'static str| move |e: io::Error| format!("{what}: {e}");
        let (pidfd, pid) = (found.pidfd.try_clone().map_err(words("copy its pidfd"))?, found.pid);
        let from_init = |fd| pidfd::descriptor_of(pidfd.as_fd(), pid, fd);
        if from_init(ORDER).is_ok() {
            return Err("it was not started before the daemon ended".to_owned());
        }
        let stdout = from_init(STDOUT).map_err(words("take its stdout"))?;
        let stderr = from_init(STDERR).map_err(words("take its stderr"))?;
        for end in [&stdout, &stderr] {
            rustix::io::ioctl_fionbio(end, true).map_err(|e| format!("take its output: {e}"))?;
        }
        let control = from_init(CONTROL).and_then(writable).map_err(words("take its control pipe"))?;
        let mut options = fs::OpenOptions::new();
        let record = options.read(true).write(true).open(exit_file_path(&self.settings.run_dir, &name));
        let record = record.map_err(words("open its exit record"))?;
        let spool = SpoolWriter::reopen(&self.settings.spool.join(&name)).map_err(|e| e.to_string())?;
        let mounts = pidfd::mount_namespace(pidfd.as_fd(), pid).map_err(words("open its mount namespace"))?;
        // Looked at after the control pipe was opened. Complete: joblet-init saw the earlier daemon go, and waits for a
        // signal. Else it will wait for the byte in the pipe, and a signal would reach the payload.
        let wake = read(&record).map(|_| pidfd.try_clone()).transpose().map_err(words("copy its pidfd"))?;
        job.watermark.publish(spool.rows());
        let (control, watermark) = (Arc::new(control), job.watermark.clone());
        self.collector.add(JobOutput { id, stdout, stderr, control, spool, watermark, wake });
        let token = self.watch_init(id, &pidfd);
        job.child = Some(Child {
            pidfd,
            pid,
            report: None,
            record,
            mounts,
            network: None,
            tokens: [token, token],
            init_end: String::new(),
        });
        Ok(())
    }

    /// Removes what belongs to no job that lives.
    fn sweep(&mut self) {
        let lives = |id: JobId| self.table.get(id).is_some_and(|job| !job.state.is_finished());
        let left = self.tree.leftovers().unwrap_or_else(|why| {
            diag::event!(Level::Warn, "cannot look for jobs of an earlier daemon", error = why);
            Vec::new()
        });
        let groups: Vec<JobId> = left.into_iter().filter(|id| !lives(*id)).collect();
        for id in groups {
            match self.tree.reopen(id) {
                Ok(Some(group)) => self.remove_cgroup(group),
                Ok(None) => {}
                Err(why) => diag::event!(Level::Warn, "cannot end what was left", jobId = id, error = why),
            }
        }
        let job = |name: &OsStr| self.table.get(name.to_str().and_then(JobId::parse)?);
        let lives = |name: &OsStr| job(name).is_some_and(|job| !job.state.is_finished());
        let entries = |dir| fs::read_dir(dir).into_iter().flatten().flatten();
        for record in entries(exit_files(&self.settings.run_dir)) {
            if !lives(&record.file_name()) {
                self.cleanup(CleanupTask::File(record.path()));
            }
        }
        for staged in entries(self.settings.stage.directory().to_owned()) {
            if !lives(&staged.file_name()) {
                self.cleanup(CleanupTask::File(staged.path()));
            }
        }
        for spool in entries(self.settings.spool.clone()) {
            if job(&spool.file_name()).is_none() {
                self.cleanup(CleanupTask::Directory(spool.path()));
            }
        }
    }
}

/// A job's PID 1, if it lives: by its number and birth, or, where those were not recorded yet, as the one process of the
/// job's group that is number 1 in there.
fn find_init(job: &Job) -> Option<Found> {
    let recorded = job.process.as_ref().map(|process| (process.pid, process.start_time));
    let found =
        recorded.and_then(|(pid, start_time)| Some(Found { pidfd: pidfd::open(pid, start_time).ok()?, pid }));
    let found = found.or_else(|| {
        let pid = job.cgroup.as_ref()?.processes().ok()?.into_iter().find(|pid| is_first(*pid))?;
        let found = Found { pidfd: pidfd::open(pid, pidfd::start_time(pid)?).ok()?, pid };
        // Only now the number cannot pass on any more.
        job.cgroup.as_ref()?.processes().ok()?.contains(&pid).then_some(found)
    })?;
    let mut poll_fd = [PollFd::new(&found.pidfd, PollFlags::IN)];
    let ended = poll(&mut poll_fd, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) != Ok(0);
    (!ended).then_some(found)
}

/// Kills a process, and waits so long at most until it is gone: of a PID 1, with all that it has.
fn end(process: &OwnedFd, bound: Duration) -> io::Result<()> {
    let bound = Timespec::try_from(bound).map_err(io::Error::other)?;
    match pidfd_send_signal(process, Signal::KILL) {
        Err(Errno::SRCH) => return Ok(()),
        sent => sent?,
    }
    match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&bound))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

/// Whether a process is number 1 of its pid namespace (proc_pid_status(5), NSpid).
fn is_first(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.is_some_and(|numbers| numbers.split_whitespace().count() > 1 && numbers.ends_with("\t1"))
}

/// The write end of a pipe of which we have the read end.
fn writable(end: OwnedFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", end.as_raw_fd());
    Ok(rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?)
}

/// A complete exit record.
fn read(file: &fs::File) -> Option<ExitFile> {
    let mut block = [0; exit_file::SIZE];
    file.read_exact_at(&mut block, 0).ok().and_then(|()| ExitFile::decode(&block))
}
