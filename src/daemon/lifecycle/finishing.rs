//! The end of a job, in a fixed order; every step may be repeated. The loop takes them, and waits between them for others: the
//! sampler's thread reads what the job left behind, those of outputs its files, that of the state writes its end down.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::Level;

use super::forgetting::{forget_timers, measure};
use super::pooling::refill_later;
use super::recording::answer_starters;
use super::standing::{leave_queues, release_slot};
use super::workflows::{count_bytes, on_job_ended, outputs_of, room_of};
use crate::daemon::command::{Answer, BuiltTree};
use crate::daemon::command_line;
use crate::daemon::core::Core;
use crate::daemon::evidence::{self, Evidence, Wired};
use crate::daemon::history::Ended;
use crate::daemon::jobs::{Job, Run};
use crate::daemon::outputs::Collected;
use crate::daemon::provision::{Network, own_disks};
use crate::daemon::timers::Timer;
use crate::diag;
use crate::job::exit::{Witnesses, verdict};
use crate::job::state::{Fact, State};
use crate::job::{Ending, ExitReason, JobId, JobView, Status, units};
use crate::metrics::TakeLast;
use crate::output::Full;

/// How long the output of an ended job that is live only can still be opened: a client that has just started a short job
/// comes for it.
const LIVE_LINGER: Duration = Duration::from_secs(5);

/// Every process of the job is gone, but for a PID 1 that is held: its last sample is taken, and what it left behind is read, by
/// the sampler.
pub(super) fn collect_output(core: &mut Core, id: JobId) {
    let bound = core.settings.cleanup_timeout;
    let Some(job) = core.jobs.get(id) else { return };
    let Some(run) = &job.run else { return };
    let read = evidence_of(core, job, run);
    core.streams.sampler().last(id, read);
    collect_files(core, id);
    core.clock.set(Instant::now() + bound, Timer::Drain(id));
}

/// A function that reads, on another thread, what a job left behind. Its cgroup is there until it is finished.
fn evidence_of(core: &Core, job: &Job, run: &Run) -> impl FnOnce(TakeLast<'_>) -> Evidence + Send + 'static {
    let volumes = core.supply.volumes().disk_of(&job.spec.volumes);
    let lease = job.held.network.as_ref().and_then(Network::lease);
    let wired = lease.map(|lease| Wired::new(&core.node, lease.address));
    evidence::reader(&run.exit_file, job.held.cgroup.as_ref(), wired, volumes)
}

/// Has the files kept that a job of a workflow leaves for others. joblet-init may end then, or where there are none.
fn collect_files(core: &mut Core, id: JobId) {
    if core.jobs.get(id).is_some_and(|job| job.spec.build.is_some()) {
        return hand_out_tree(core, id);
    }
    let Some(part) = core.jobs.get(id).and_then(|job| job.spec.part) else { return };
    let (paths, most) = (outputs_of(core, &part).to_vec(), room_of(core, &part));
    let Some(run) = core.jobs.get_mut(id).and_then(|job| job.run.as_mut()) else { return };
    let root = run.work.as_mut().and_then(|work| work.root.take());
    match root.filter(|_| !paths.is_empty()) {
        Some(root) => {
            run.is_collecting = true;
            core.streams.outputs().collect(id, &part, root, paths, most);
        }
        None => run.give_up_work(id),
    }
}

/// Gives the /work of a job that has built a runtime to its build, which lets it go. Where there is none any more, it goes now.
fn hand_out_tree(core: &mut Core, id: JobId) {
    let report = core.streams.report().clone();
    let Some(job) = core.jobs.get_mut(id) else { return };
    let builder = job.waiters.take_builder().filter(|builder| !builder.is_canceled());
    let Some(run) = job.run.as_mut() else { return };
    let root = run.work.as_mut().and_then(|work| work.root.take());
    let (Some(builder), Some(work)) = (builder, root) else { return run.give_up_work(id) };
    run.is_collecting = true;
    let exit_file = run.exit_file.clone();
    let tree = BuiltTree { work, exit_file, taken: Some(Box::new(move || report.tree_taken(id))) };
    if let Err(mut tree) = builder.send(tree) {
        // It went in this very moment. The loop does not send to itself.
        tree.taken = None;
        run.is_collecting = false;
        run.give_up_work(id);
    }
}

/// The build has what it wanted of a job's /work.
pub(in crate::daemon) fn on_tree_taken(core: &mut Core, id: JobId) {
    let Some(run) = core.jobs.get_mut(id).and_then(|job| job.run.as_mut()) else { return };
    run.is_collecting = false;
    run.give_up_work(id);
    conclude_if_complete(core, id);
}

/// The files of a job are kept, or cannot be: whoever gets them hears why.
pub(in crate::daemon) fn on_collected(core: &mut Core, collected: Collected) {
    let Collected { id, taken, pending: _pending } = collected;
    let Some(job) = core.jobs.get_mut(id) else { return };
    if let Some(run) = &mut job.run {
        run.is_collecting = false;
        run.give_up_work(id);
    }
    if let Some(part) = job.spec.part {
        count_bytes(core, &part, taken.freed, taken.result.unwrap_or(0));
    }
    conclude_if_complete(core, id);
}

/// The last sample of a job is stored, and what it left behind is read.
pub(in crate::daemon) fn on_evidence(core: &mut Core, id: JobId, evidence: Evidence) {
    if let Some(run) = core.jobs.get_mut(id).and_then(|job| job.run.as_mut()) {
        run.evidence = Some(evidence);
    }
    conclude_if_complete(core, id);
}

/// Nothing more comes of a job that has ended, neither output nor samples: the outcome is decided.
pub(super) fn conclude_if_complete(core: &mut Core, id: JobId) {
    let Some(job) = core.jobs.get_mut(id) else { return };
    if !job.output.complete || !matches!(job.state, State::Draining(_)) {
        return;
    }
    let Some(run) = job.run.as_ref().filter(|run| !run.is_collecting) else { return };
    let (Some(evidence), Some(init_end)) = (run.evidence.clone(), run.init_end.clone()) else { return };
    let ending =
        conclude(job, &evidence, Lost { host_restarted: false, init_end }, &core.settings, &core.node);
    core.jobs.note(id, Fact::OutputComplete(ending));
}

/// Why an end that left no exit file is lost.
#[derive(Debug)]
pub(super) struct Lost {
    /// Whether the job ran before the host was restarted.
    pub(super) host_restarted: bool,
    /// How PID 1 ended, in words.
    pub(super) init_end: String,
}

/// Decides from all the evidence how a job ended.
pub(super) fn conclude(
    job: &mut Job,
    evidence: &Evidence,
    lost: Lost,
    settings: &crate::daemon::core::Settings,
    node: &crate::daemon::provision::Node,
) -> Ending {
    let ending = verdict(&Witnesses {
        stopped: job.state.stop_cause(),
        record: evidence.exit,
        oom: evidence.oom,
        memory_mib: job.spec.limits.memory.map(|memory| memory.mib()),
        peak_bytes: evidence.peak_bytes,
        work_in_memory: node.disk.is_none(),
        disks: own_disks(node, &job.spec.limits),
        disk_full: evidence.disk_full,
        timeout: job.timeout().map(units::format_duration).unwrap_or_default(),
        max_pause: units::format_duration(settings.max_pause),
        command: job.spec.command.clone(),
        work_dir: job.spec.work_dir.clone(),
        output_limit: settings.spool_limits.ended(job.output.watermark.over().unwrap_or(Full::Job)),
        host_restarted: lost.host_restarted,
        init_end: lost.init_end,
    });
    job.reach.denials = evidence.denials.clone().map(Arc::new);
    (job.usage.peak_bytes, job.usage.cpu_usec) = (evidence.peak_bytes, evidence.cpu_usec);
    if let Some(exit) = evidence.exit {
        // The times of the exit file are truer than ours.
        job.times.ended_ns = Some(exit.ended_ns);
        if ending.reason != ExitReason::StartFailed {
            job.times.started_ns = Some(exit.started_ns);
        }
    }
    ending
}

/// A job that has ended has had long enough to be complete, as nearly every one is by now. Else its output did not end
/// although no process is left: somebody outside holds the pipe. Or the sampler does not answer, because the disk hangs:
/// then the evidence is read by the cleanup thread.
pub(in crate::daemon) fn collect_late(core: &mut Core, id: JobId) {
    let Some(job) = core.jobs.get(id) else { return };
    let (State::Draining(_), Some(run)) = (&job.state, &job.run) else { return };
    if run.evidence.is_none() {
        diag::event!(Level::Warn, "the last sample of a finished job does not come", jobId = id);
        let read = evidence_of(core, job, run);
        core.cleanup.read_evidence(id, move || read(&mut || None));
    }
    if !job.output.complete {
        diag::event!(Level::Warn, "output of a finished job does not end, no longer waiting", jobId = id);
        core.streams.collector().give_up(id);
    }
}

/// The job is terminal: answer who waits, end what reads it, give everything back.
pub(super) fn finish(core: &mut Core, id: JobId) {
    let Some(job) = core.jobs.get_mut(id) else { return };
    let State::Finished(ending) = job.state.clone() else { return };
    log_end(job, &ending);
    core.counts.ended(ending.reason.as_str());
    let view = job.view(&core.slots);
    for stopper in job.waiters.take_stoppers() {
        let _ = stopper.send(Ok(view.clone()));
    }
    // One that did not start has made nothing.
    drop(job.waiters.take_builder());
    let testers = job.waiters.take_testers();
    job.end_streams();
    let last = core.ledger.is_on_disk().then(|| Box::new(job.to_record(core.ledger.boot())));
    job.run = None;
    let held = std::mem::take(&mut job.held);
    job.standing.set_share(None);
    job.durability.give_claims_back();
    core.jobs.has_ended(id);
    core.streams.inputs().close(id);
    answer_starters(core, id);
    held.release(&mut core.supply, &mut core.cleanup);
    core.cleanup.remove_file(core.staging.path(id));
    if let Some(last) = last {
        core.cleanup.write_sidecar(core.node.spool.join(id.to_string()), last);
    }
    if core.node.live_only {
        core.clock.set(Instant::now() + LIVE_LINGER, Timer::LiveOver(id));
    } else {
        measure(core, id);
    }
    answer_testers(core, id, testers, view);
    // It may have failed while it waited, with a ticket that nobody else would take back.
    leave_queues(core, id);
    release_slot(core, id);
    on_job_ended(core, id);
    refill_later(core);
    forget_timers(core);
}

/// Has its history completed, behind the answer to who had a runtime tested by it: history takes its output.
fn answer_testers(core: &mut Core, id: JobId, testers: Vec<Answer<(JobView, String)>>, view: JobView) {
    if testers.is_empty() {
        return complete_history(core, id);
    }
    let Some(ended) = ended(core, id) else { return };
    let complete = core.streams.history().ender();
    core.cleanup.read_beginning(ended.dir.clone(), move |said| {
        for tester in testers {
            let _ = tester.send(Ok((view.clone(), said.clone())));
        }
        complete(ended);
    });
}

/// Has the history of a job completed, from what is in its spool.
pub(super) fn complete_history(core: &Core, id: JobId) {
    if let Some(ended) = ended(core, id) {
        core.streams.history().end(ended);
    }
}

/// A job that has ended, for history.
fn ended(core: &Core, id: JobId) -> Option<Ended> {
    let job = core.jobs.get(id)?;
    Some(Ended {
        id,
        dir: core.node.spool.join(id.to_string()),
        created_ns: job.times.created_ns,
        ended_ns: job.times.ended_ns.unwrap_or(job.times.created_ns),
    })
}

/// The level of a job's end: a failure is an error, a limit that ended the job a warning.
fn level_of(ending: &Ending) -> Level {
    match ending.reason {
        ExitReason::Oom | ExitReason::Timeout | ExitReason::OutputLimit => Level::Warn,
        _ if ending.status == Status::Failed => Level::Error,
        _ => Level::Info,
    }
}

fn log_end(job: &Job, ending: &Ending) {
    let level = level_of(ending);
    diag::event!(
        level,
        "job ended",
        jobId = job.id,
        status = ending.status.as_str(),
        reason = ending.reason.as_str(),
        exitCode = ending.code,
        command = command_line(&job.spec.command, &job.spec.args),
        message = ending.message
    );
}
