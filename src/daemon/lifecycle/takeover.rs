//! Taking over from an earlier daemon: its jobs, and what it left behind.
//!
//! Records tell which jobs there were. A job that waited waits again, and so does one whose start was under way and
//! whose payload did not begin (`first_process.rs`). A job that was active is looked for: its PID 1 by
//! number, start time and boot, or in the job's cgroup. Where it lives, its joblet-init holds what the earlier daemon
//! had: the read ends of the output pipes and the control pipe, which are taken from it by pidfd_getfd(2). From there
//! on the job is like any other, but not our child: its end is known by its exit file alone. Where it does not live,
//! the exit file says how it ended; without one the job is lost.
//!
//! Only then everything is removed that belongs to no job: warm sandboxes that no job took, spools and groups of jobs
//! without a record. Such a job was never announced, and its payload never ran: a spawner waits for the record.
//!
//! All of this happens before the loop turns: it reads directories and files, and may wait.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use log::Level;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, pidfd_send_signal};

use super::exec_takeover::{keep_input, take_over_ended_execs, take_over_execs};
use super::finishing::{Lost, complete_history, conclude};
use super::first_process::{Found, find_init, never_began, progress};
use super::forgetting::{expire, forget_some};
use super::half_started::undo_start;
use super::pausing::{run_timeout, take_over_pause};
use super::recording::save;
use super::running::watch_use;
use super::standing::grant_slots;
use super::waiting::wait_for_time;
use super::workflow_takeover::take_over_workflows;
use crate::cgroup::JobCgroup;
use crate::daemon::core::Core;
use crate::daemon::egress::Watched;
use crate::daemon::evidence;
use crate::daemon::execs::Pid1;
use crate::daemon::exit_file::read_exit;
use crate::daemon::jobs::{Job, Lane, Run};
use crate::daemon::ports::publish;
use crate::daemon::provision::{Adoption, Mounts, Names, Network, Resources, Work};
use crate::daemon::sources::Source;
use crate::daemon::spawner::HeldWork;
use crate::daemon::staging;
use crate::diag;
use crate::init_abi::order::PAYLOAD;
use crate::init_abi::slot;
use crate::job::exit::{StopCause, start_failure};
use crate::job::exit_file::Progress;
use crate::job::publish::Published;
use crate::job::state::{Fact, State};
use crate::job::{JobId, WorkflowId};
use crate::output::{INDEX, JobOutput, Release, SpoolWriter, Watermark};
use crate::sandbox::create::{exit_file_path, exit_files};
use crate::sandbox::work::Leftover;
use crate::state::{ElementRecord, Record, Stage, WorkflowRecord, intent};
use crate::stream;
use crate::sys::clock::now_ns;
use crate::sys::pidfd;

/// Takes over what an earlier daemon had, and removes what belongs to no job. `work` lists the directories on disk in
/// place of /work. `holders` are PID 1s that were killed, because a pipe of theirs kept the earlier daemon from its end.
pub(in crate::daemon) fn take_over(
    core: &mut Core,
    records: Vec<Record>,
    workflows: Vec<(WorkflowRecord, Vec<ElementRecord>)>,
    work: Vec<Leftover>,
    holders: &[i32],
) {
    let (waiting, active): (Vec<Record>, Vec<Record>) = with_intents(core, records)
        .into_iter()
        .partition(|record| matches!(record.stage, Stage::Scheduled | Stage::Queued));
    let mut queued = Vec::new();
    // Those that run first: an id in the record of a job that waits may be one of theirs by now.
    for mut record in active.into_iter().chain(waiting) {
        let holds = record.process.as_ref().is_some_and(|process| holders.contains(&process.pid));
        if holds && record.stage == Stage::Active(None) {
            record.stage = Stage::Active(Some(StopCause::PipeHeld));
        }
        if record.stage == Stage::Queued {
            queued.push((record.queued_ns, record.serial, record.id));
        }
        restore(core, record);
    }
    queued.sort_unstable();
    for (_, _, id) in queued {
        if let Some(job) = core.jobs.get_mut(id).filter(|job| job.state == State::Queued) {
            job.standing.queue(core.slots.queue(id, Lane::of(&job.spec)));
        }
    }
    take_over_workflows(core, workflows);
    for Leftover { name, project } in work {
        // That of a waiting job was removed with all that its start had made; a job that ends gives its own back.
        let has_it = |job: &Job| !job.state.is_finished();
        let lives = |id: JobId| core.jobs.get(id).is_some_and(has_it);
        let text = OsStr::from_bytes(name.to_bytes()).to_str();
        if !text.and_then(JobId::parse).is_some_and(lives) {
            let identity = core.supply.identity_of_files(project);
            let held = Resources { work: Some(Work::Directory(name)), identity, ..Resources::default() };
            held.release(&mut core.supply, &mut core.cleanup);
        }
    }
    take_over_ended_execs(core);
    take_over_wires(core);
    remove_leftovers(core);
    if let Err(why) = core.node.egress.clear_others(&core.node.wiring) {
        diag::event!(Level::Error, "cannot remove egress lists of jobs that are gone", error = why);
    }
    measure_kept(core);
    grant_slots(core);
    expire(core);
    // Nobody is served yet, and nobody is to find what is too old.
    while forget_some(core) {}
}

/// Numbers new wires behind those that are there, and marks running jobs whose wire is gone: they are not given a second
/// one, whose address their processes would not know.
fn take_over_wires(core: &mut Core) {
    let wired = |job: &Job| {
        job.trace.wire.as_ref().map(|wire| (wire.wire, wire.address)).filter(|_| job.run.is_some())
    };
    let wires = core.node.wiring.wires().unwrap_or_default();
    core.supply.number_wires_behind(wires.iter().copied());
    let lost = core.jobs.iter().filter(|job| wired(job).is_some_and(|wire| !wires.contains(&wire)));
    for id in lost.map(|job| job.id).collect::<Vec<JobId>>() {
        diag::event!(Level::Error, "a job has lost its network: its wire is gone", jobId = id);
        if let Some(job) = core.jobs.get_mut(id) {
            job.trace.lost_network = true;
        }
    }
}

/// The records of the database, and those of jobs whose start was under way when the daemon was killed: their intents
/// are newer than what the database has of them, if it has anything.
fn with_intents(core: &Core, mut records: Vec<Record>) -> Vec<Record> {
    if !core.ledger.is_on_disk() {
        return records;
    }
    let known: HashMap<JobId, usize> = records.iter().enumerate().map(|(at, r)| (r.id, at)).collect();
    for file in fs::read_dir(exit_files(&core.node.run_dir)).into_iter().flatten().flatten() {
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
        if never_began(core, record) {
            record.stage = Stage::Queued;
        }
    }
    records
}

fn restore(core: &mut Core, mut record: Record) {
    let output = Watermark::new();
    let samples = stream::Watermark::new();
    let (stage, boot) = (record.stage.clone(), std::mem::take(&mut record.boot));
    let mut job = Job::from_record(record, State::Scheduled, output, samples);
    let is_orphan = job.spec.build.is_some() && !matches!(stage, Stage::Ended(_));
    let id = job.id;
    match stage {
        Stage::Ended(ending) => {
            job.end_streams();
            let id = job.id;
            if boot != core.ledger.boot() {
                repair_spool(core, id);
            }
            job.state = State::Finished(ending);
            core.jobs.restore(job);
            complete_history(core, id);
        }
        Stage::Scheduled => restore_waiting(core, job),
        Stage::Queued => {
            job.state = State::Queued;
            restore_waiting(core, job);
        }
        Stage::Active(cause) => restore_active(core, job, cause, boot != core.ledger.boot()),
    }
    if is_orphan {
        end_build(core, id);
    }
}

/// Ends a job that built a runtime for an earlier daemon: nobody takes what it makes.
fn end_build(core: &mut Core, id: JobId) {
    let Some(job) = core.jobs.get_mut(id) else { return };
    if job.state.waits() {
        let text = "the daemon that built the runtime is gone; build it again".to_owned();
        core.jobs.note(id, Fact::NotStarted(start_failure(text)));
    } else if job.state == State::Running {
        job.times.stop_grace = Some(Duration::ZERO);
        core.jobs.note(id, Fact::Stop(StopCause::Shutdown));
    }
}

/// Mends what a power cut has left of the spool of a job that had ended. Its index is not synced, so it may lack rows, or
/// have some that are none.
fn repair_spool(core: &Core, id: JobId) {
    let dir = core.node.spool.join(id.to_string());
    // Where history has the job, its spool has no index.
    if dir.join(INDEX).exists()
        && let Err(why) = SpoolWriter::reopen(&dir)
    {
        diag::event!(Level::Warn, "cannot mend a job's output", jobId = id, error = why);
    }
}

fn restore_waiting(core: &mut Core, mut job: Job) {
    let (id, scheduled) = (job.id, job.state == State::Scheduled);
    // None of its ports is listened on again: nobody was served there yet.
    job.held = adopt(core, &job, &[]);
    let undone = undo_start(core, &mut job);
    let path = core.staging.path(id);
    let gone = job.spec.part.is_none() && staging::is_needed(&job.spec) && !path.exists();
    // Its staged file is encrypted text of about the same length as the inputs.
    let staged = fs::metadata(&path).map_or(0, |staged| staged.len());
    let bytes = job.spec.text_bytes() as u64 + staged;
    job.standing.set_share(Some(core.staging.backlog().adopt(job.spec.client, bytes)));
    let adopted = core.staging.adopt(&job.spec).map(|claims| job.durability.claim(Arc::new(claims)));
    core.jobs.restore(job);
    if let Err(why) = undone {
        diag::event!(Level::Error, "cannot remove what a start had made", jobId = id, error = why);
        let text =
            format!("what an earlier start of the job had made cannot be removed: {why}; run it again");
        core.jobs.note(id, Fact::NotStarted(start_failure(text)));
    } else if let Err(why) = adopted {
        core.jobs.note(id, Fact::NotStarted(start_failure(format!("{why}; run the job again"))));
    } else if gone {
        let text = format!("the inputs of the job are gone from {}; run it again", path.display());
        core.jobs.note(id, Fact::NotStarted(start_failure(text)));
    } else if scheduled {
        wait_for_time(core, id);
    }
}

/// Has the output of finished jobs measured, for the limit of all their bytes.
fn measure_kept(core: &Core) {
    let finished = core.jobs.iter().filter(|job| job.state.is_finished());
    core.cleanup.measure(finished.map(|job| (job.id, core.node.kept(job.id))).collect());
}

/// The resources of a job of an earlier daemon, whose published ports are listened on again.
pub(super) fn adopt(core: &mut Core, job: &Job, published: &[Published]) -> Resources {
    Resources::adopt(&mut Adoption {
        id: job.id,
        host_id: job.trace.host_id,
        spec: &job.spec,
        node: &core.node,
        published,
        gpus: &job.trace.gpus,
        wire: job.trace.wire.clone(),
        supply: &mut core.supply,
    })
}

fn restore_active(core: &mut Core, mut job: Job, cause: Option<StopCause>, host_restarted: bool) {
    let id = job.id;
    job.held = adopt(core, &job, &job.spec.publish);
    job.standing.run(core.slots.adopt());
    let found =
        if host_restarted { None } else { find_init(job.trace.process.as_ref(), job.held.cgroup.as_ref()) };
    if let Some(found) = &found {
        // First: joblet-init may end as soon as its job's output is complete.
        let copied = found.pidfd.try_clone().map(|pidfd| Arc::new(Pid1 { pidfd, pid: found.pid }));
        let pid1 = copied.ok();
        take_over_execs(core, id, job.spec.client, pid1.clone());
        if let Some(pid1) = pid1.filter(|_| job.spec.stdin) {
            keep_input(core, id, &pid1, (PAYLOAD, 0));
        }
    }
    let taken = match &found {
        Some(found) => take_process(core, &mut job, found).map(|()| true),
        None => Ok(false),
    };
    match taken {
        Ok(true) => {
            job.times.started_ns.get_or_insert_with(now_ns);
            job.state = cause.map_or(State::Running, State::StopRequested);
            diag::event!(Level::Info, "took over a running job", jobId = id);
            continue_running(core, job);
        }
        Ok(false) => {
            let init_end = "its PID 1 ended while no daemon lived".to_owned();
            conclude_dead(core, job, cause, Lost { host_restarted, init_end });
        }
        Err(why) => {
            diag::event!(Level::Error, "cannot take over a running job, ending it", jobId = id, error = why);
            if let Some(Err(why)) = job.held.cgroup.as_ref().map(JobCgroup::kill) {
                diag::event!(Level::Error, "cannot kill a job's cgroup", jobId = id, error = why);
            }
            // Also where it has no group any more. Its id is given to another job next.
            if let Some(Err(why)) = found.map(|found| pidfd::end(&found.pidfd, core.settings.cleanup_timeout))
            {
                diag::event!(Level::Error, "cannot end a job's processes", jobId = id, error = why);
            }
            let init_end = format!("cannot be taken over: {why}");
            conclude_dead(core, job, cause, Lost { host_restarted, init_end });
        }
    }
}

/// A job that lives: its clocks go on.
fn continue_running(core: &mut Core, mut job: Job) {
    let id = job.id;
    watch_egress(core, &mut job);
    core.jobs.restore(job);
    publish(core, id);
    take_over_pause(core, id);
    run_timeout(core, id);
    // It may stand in its intent alone. And where a stop was requested, it is not known whether TERM was sent: it is
    // when this is recorded.
    save(core, id);
    watch_use(core, id);
}

/// Goes on with the names and the egress list of a job, and with what it was refused.
fn watch_egress(core: &Core, job: &mut Job) {
    let Some(lease) = job.held.network.as_ref().and_then(Network::lease) else { return };
    let list = job.reach.changed.clone().or_else(|| job.spec.egress.clone().map(Arc::new));
    job.held.names = Names::make(&core.node, job.id, &job.spec.name, lease, list.as_deref());
    let counted = job.reach.counted.clone();
    let is_build = job.spec.build.is_some();
    let watched = Watched { id: job.id, network: lease.network.clone(), list, is_build, counted };
    if let Err(why) = core.node.egress.adopt(&core.node.wiring, lease.address, watched) {
        diag::event!(
            Level::Error,
            "cannot put a change of an egress list into force; the one before holds",
            jobId = job.id,
            error = why
        );
    }
    core.supply.watch_refusals();
}

/// A job that is over: its outcome, from what it left.
fn conclude_dead(core: &mut Core, mut job: Job, cause: Option<StopCause>, lost: Lost) {
    let id = job.id;
    let name = id.to_string();
    let exit = fs::File::open(exit_file_path(&core.node.run_dir, &name)).ok();
    let exit = exit.and_then(|file| read_exit(&file));
    // Chunks that have no row yet get one.
    if let Ok(spool) = SpoolWriter::reopen(&core.node.spool.join(&name)) {
        job.output.watermark.publish(spool.rows());
    }
    if lost.host_restarted {
        job.output.watermark.set_cut();
    }
    let evidence = evidence::read(exit, job.held.cgroup.as_ref());
    job.output.complete = true;
    job.state = State::Draining(cause);
    let ending = conclude(&mut job, &evidence, lost, &core.settings, &core.node);
    core.jobs.restore(job);
    core.jobs.note(id, Fact::OutputComplete(ending));
}

/// Takes from a joblet-init what the earlier daemon had of it.
fn take_process(core: &Core, job: &mut Job, found: &Found) -> Result<(), String> {
    let (id, name) = (job.id, job.id.to_string());
    let words = |what: &'static str| move |e: io::Error| format!("{what}: {e}");
    let (pidfd, pid) = (found.pidfd.try_clone().map_err(words("copy its pidfd"))?, found.pid);
    let from_init = |fd| pidfd::descriptor_of(pidfd.as_fd(), pid, fd);
    if from_init(slot::EXEC_REQUEST).is_ok() {
        return Err("it was not started before the daemon ended".to_owned());
    }
    let stdout = from_init(slot::KEPT_OUT).map_err(words("take its stdout"))?;
    let stderr = from_init(slot::KEPT_ERR).map_err(words("take its stderr"))?;
    for end in [&stdout, &stderr] {
        rustix::io::ioctl_fionbio(end, true).map_err(|e| format!("take its output: {e}"))?;
    }
    let control = from_init(slot::CONTROL).and_then(writable).map_err(words("take its control pipe"))?;
    let mut options = fs::OpenOptions::new();
    let exit_file = options.read(true).write(true).open(exit_file_path(&core.node.run_dir, &name));
    let exit_file = exit_file.map_err(words("open its exit file"))?;
    let spool = SpoolWriter::reopen(&core.node.spool.join(&name)).map_err(|e| e.to_string())?;
    let mounts = pidfd::mount_namespace(pidfd.as_fd(), pid).map_err(words("open its mount namespace"))?;
    // Looked at after the control pipe was opened. Complete: joblet-init saw the earlier daemon go, and waits for a
    // signal. Else it will wait for the byte in the pipe, and a signal would reach the payload.
    let wake = read_exit(&exit_file).map(|_| pidfd.try_clone()).transpose();
    let wake = wake.map_err(words("copy its pidfd"))?;
    if wake.is_some() {
        // It looks again now: where a pipe will never end, it waits for no byte.
        pidfd_send_signal(&pidfd, Signal::USR1).map_err(|e| format!("wake it: {e}"))?;
    }
    if job.trace.wire.is_some()
        && let Err(why) = from_init(slot::ROUTER)
            .map_err(|e| e.to_string())
            .and_then(|router| core.node.wiring.adopt(router).map_err(|e| e.to_string()))
    {
        // It keeps what it has. Other jobs that want a network hear why they get none.
        diag::event!(Level::Error, "cannot take over the router of a job's network", jobId = id, error = why);
    }
    let init = core.clock.watch(Source::Init(id), pidfd).map_err(words("watch its PID 1"))?;
    job.output.watermark.publish(spool.rows());
    let release = Arc::new(Release { control: Arc::new(control), wake });
    // Whether files of it are to be kept is known when its workflow is taken over. The joblet-init of an earlier version
    // does not tell by its output that its job has ended.
    let is_known = progress(&exit_file) != Progress::Unknown;
    let held = is_known.then(|| release.clone());
    let work = job.spec.part.and_then(|_| work_of(pid).ok());
    let work = work.map(|root| HeldWork { root: Some(root), release: held });
    let watermark = job.output.watermark.clone();
    if work.as_ref().is_some_and(|work| work.release.is_some()) {
        watermark.hold();
    }
    core.streams.collector().add(JobOutput { id, stdout, stderr, release: Some(release), spool, watermark });
    job.held.mounts = Some(Mounts::new(mounts));
    job.run = Some(Run {
        init,
        pid,
        report: None,
        exit_file: Arc::new(exit_file),
        oom_score: None,
        work,
        permitted: None,
        is_collecting: false,
        init_end: None,
        evidence: None,
    });
    Ok(())
}

/// The root of the /work of a job whose PID 1 lives. It is a mount of the job's own, which it cannot replace.
fn work_of(pid: i32) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(format!("/proc/{pid}/root/work"), flags, Mode::empty())?)
}

/// Removes what belongs to no job that lives.
fn remove_leftovers(core: &mut Core) {
    let left = core.node.tree.leftovers().unwrap_or_else(|why| {
        diag::event!(Level::Warn, "cannot look for jobs of an earlier daemon", error = why);
        Vec::new()
    });
    for id in left {
        if core.jobs.get(id).is_some_and(|job| !job.state.is_finished()) {
            continue;
        }
        match core.node.tree.reopen(id) {
            Ok(Some(group)) => Resources { cgroup: Some(group), ..Resources::default() }
                .release(&mut core.supply, &mut core.cleanup),
            Ok(None) => {}
            Err(why) => diag::event!(Level::Warn, "cannot end what was left", jobId = id, error = why),
        }
    }
    let job = |name: &OsStr| core.jobs.get(name.to_str().and_then(JobId::parse)?);
    let runs = |id: JobId| core.workflows.is_live(WorkflowId::new(id));
    let of_workflow = |name: &OsStr| name.to_str().and_then(JobId::parse).is_some_and(runs);
    let lives = |name: &OsStr| of_workflow(name) || job(name).is_some_and(|job| !job.state.is_finished());
    let entries = |dir| fs::read_dir(dir).into_iter().flatten().flatten();
    let denials = core.node.run_dir.join("denials");
    for file in entries(exit_files(&core.node.run_dir))
        .chain(entries(core.staging.directory()))
        .chain(entries(denials))
    {
        if !lives(&file.file_name()) {
            core.cleanup.remove_file(file.path());
        }
    }
    let known = |name: &OsStr| name.to_str().and_then(JobId::parse).map(WorkflowId::new);
    for kept in entries(core.streams.outputs().directory().to_owned()) {
        if known(&kept.file_name()).is_none_or(|id| core.workflows.serial(id).is_none()) {
            core.cleanup.remove_directory(kept.path());
        }
    }
    for spool in entries(core.node.spool.clone()) {
        if job(&spool.file_name()).is_none() {
            core.cleanup.remove_directory(spool.path());
        }
    }
}

/// The write end of a pipe of which we have the read end.
fn writable(end: OwnedFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", end.as_raw_fd());
    Ok(rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?)
}
