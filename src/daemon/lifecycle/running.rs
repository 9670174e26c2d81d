//! A job that has a process: what it reports, its clock, its samples, and the signals that end it.

use std::io::Write;
use std::time::{Duration, Instant};

use log::Level;
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::finishing::conclude_if_complete;
use super::pausing::{run_timeout, wake};
use super::pooling::refill_later;
use super::recording::answer_starters;
use super::workflows::on_job_running;
use crate::daemon::command_line;
use crate::daemon::core::Core;
use crate::daemon::gpus::sample_source;
use crate::daemon::history::Added;
use crate::daemon::timers::Timer;
use crate::diag;
use crate::job::JobId;
use crate::job::state::Fact;
use crate::metrics::Watched;
use crate::sys::clock::now_ns;

/// The report pipe has its word. End of file: the payload was executed. Four bytes of errno: it was not, and the exit
/// file will tell.
pub(in crate::daemon) fn on_report_event(core: &mut Core, id: JobId) {
    let Some(run) = core.jobs.get_mut(id).and_then(|job| job.run.as_mut()) else { return };
    let Some(report) = &run.report else { return };
    let mut word = [0u8; 4];
    let executed = match rustix::io::read(report, &mut word) {
        Err(Errno::AGAIN | Errno::INTR) => return,
        Ok(read) => read == 0,
        Err(_) => false,
    };
    run.report = None;
    if executed {
        core.jobs.note(id, Fact::Executed);
    }
}

/// PID 1 of a job has ended.
pub(in crate::daemon) fn on_init_event(core: &mut Core, id: JobId) {
    // The report may be in the same batch, or come behind: it was written before PID 1 ended.
    on_report_event(core, id);
    let Some(run) = core.jobs.get_mut(id).and_then(|job| job.run.as_mut()) else { return };
    if run.init_end.is_some() {
        // The kernel reports the reaping too (EPOLLHUP, since 6.9), and there is nothing to reap twice.
        return;
    }
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let end = match waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(&run.init)), options) {
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("its PID 1 ended with code {code}"),
            (None, Some(signal)) => format!("its PID 1 was killed by signal {signal}"),
            (None, None) => "its PID 1 ended".to_owned(),
        },
        Ok(None) => return,
        Err(why) => format!("its PID 1 cannot be waited for: {why}"),
    };
    run.init_end = Some(end);
    core.jobs.note(id, Fact::InitGone);
    // One that was held has drained.
    conclude_if_complete(core, id);
}

/// All output of a job is in its spool.
pub(in crate::daemon) fn on_output_complete(core: &mut Core, id: JobId) {
    if let Some(job) = core.jobs.get_mut(id) {
        job.output.complete = true;
    }
    drain_held(core, id);
    conclude_if_complete(core, id);
}

/// A job whose joblet-init is held has ended when its output is complete: joblet-init keeps stdout open until no other
/// process is left. It keeps /work then, until the files are taken out of it that the job leaves for others, also where
/// that is done by the next daemon.
pub(super) fn drain_held(core: &mut Core, id: JobId) {
    let Some(job) = core.jobs.get(id) else { return };
    let work = job.run.as_ref().and_then(|run| run.work.as_ref());
    if job.output.complete && work.is_some_and(|work| work.release.is_some()) {
        // Written before the output ended.
        on_report_event(core, id);
        core.jobs.note(id, Fact::InitGone);
    }
}

/// The payload runs: its clock starts, and RunJob is answered.
pub(super) fn announce(core: &mut Core, id: JobId) {
    let Some(job) = core.jobs.get_mut(id) else { return };
    let now = now_ns();
    job.times.started_ns = Some(now);
    job.durability.give_claims_back();
    let pid = job.run.as_ref().map_or(0, |run| run.pid);
    if let Some(at) = job.run.as_mut().and_then(|run| run.permitted.take()) {
        core.counts.executed(at.elapsed());
    }
    diag::event!(
        Level::Info,
        "job started successfully",
        jobId = id,
        pid = pid,
        command = command_line(&job.spec.command, &job.spec.args),
        duration = format_args!("{}us", (now - job.times.created_ns) / 1000)
    );
    on_job_running(core, id);
    run_timeout(core, id);
    answer_starters(core, id);
    core.cleanup.remove_file(core.staging.path(id));
    spare_init(core, id);
    watch_use(core, id);
    refill_later(core);
}

/// Has a running job sampled and its output kept from now on; one of an earlier daemon too, whose samples then go on.
pub(super) fn watch_use(core: &mut Core, id: JobId) {
    let Some(job) = core.jobs.get(id) else { return };
    core.streams.history().add(Added {
        id,
        dir: core.node.spool.join(id.to_string()),
        created_ns: job.times.created_ns,
        output: job.output.watermark.clone(),
        samples: job.usage.samples.clone(),
    });
    let (Some(run), Some(group)) = (&job.run, &job.held.cgroup) else { return };
    let samples = job.usage.samples.clone();
    core.streams.sampler().watch(Watched {
        id,
        pid: run.pid,
        group: group.path().to_owned(),
        limits: job.spec.limits.clone(),
        dir: core.node.spool.join(id.to_string()),
        denials: job.reach.counted.clone(),
        gpus: sample_source(core.supply.gpus().board(), &job.trace.gpus),
        publish: Box::new(move |bytes| samples.publish(bytes)),
    });
}

/// joblet-init must outlive the kernel's choice at the memory limit, to record it. Only now: the payload would have
/// inherited the score. A tuning: without CAP_SYS_RESOURCE the kernel refuses, and `memory.events` still tells of the
/// kill.
fn spare_init(core: &mut Core, id: JobId) {
    let run = core.jobs.get_mut(id).and_then(|job| job.run.as_mut());
    let Some(mut score) = run.and_then(|run| run.oom_score.take()) else { return };
    if let Err(why) = score.write_all(b"-1000")
        && why.kind() == std::io::ErrorKind::PermissionDenied
        && core.starts.is_first_unspared()
    {
        diag::event!(
            Level::Warn,
            "joblet-init cannot be spared by the kernel's out-of-memory killer",
            error = why,
            remedy = "give the daemon CAP_SYS_RESOURCE"
        );
    }
}

/// Sends TERM to the payload (joblet-init forwards it to its process group) and starts the grace period.
pub(super) fn terminate(core: &mut Core, id: JobId) {
    // A paused process takes no signal but KILL.
    wake(core, id);
    signal(core, id, Signal::TERM);
    let Some(grace) = core.jobs.get(id).map(|job| job.grace(core.settings.stop_grace)) else { return };
    kill_after(core, id, grace);
}

/// Ends the grace period of a job after this time, unless it is over sooner.
pub(in crate::daemon) fn kill_after(core: &mut Core, id: JobId, grace: Duration) {
    let Some(job) = core.jobs.get_mut(id) else { return };
    let at = Instant::now() + grace;
    if job.times.kill_at.is_none_or(|set| at < set) {
        job.times.kill_at = Some(at);
        core.clock.set(at, Timer::Grace(id));
    }
}

/// Kills everything in the job, whatever it forked: with PID 1 the kernel kills the whole pid namespace. The cleanup thread
/// kills the cgroup too, which lifts the processor limit: throttled processes would take seconds to die.
pub(super) fn kill(core: &mut Core, id: JobId) {
    if let Some(cgroup) = core.jobs.get(id).and_then(|job| job.held.cgroup.as_ref()) {
        match cgroup.try_clone() {
            Ok(copy) => core.cleanup.kill_cgroup(copy),
            Err(why) => diag::limited!(Level::Warn, "cannot kill a job's cgroup", jobId = id, error = why),
        }
    }
    signal(core, id, Signal::KILL);
}

fn signal(core: &mut Core, id: JobId, signal: Signal) {
    let Some(run) = core.jobs.get(id).and_then(|job| job.run.as_ref()) else { return };
    match pidfd_send_signal(&run.init, signal) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(why) => diag::limited!(Level::Warn, "cannot signal a job", jobId = id, error = why),
    }
}
