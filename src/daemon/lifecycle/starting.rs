//! From the right to run to a process: a sandbox, a spawner, and what it answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::Level;

use super::pooling::discard;
use super::recording::save;
use super::running::drain_held;
use super::workflows::{data_of, inputs_of, outputs_of};
use crate::daemon::core::Core;
use crate::daemon::jobs::{Run, Trace};
use crate::daemon::ports::publish;
use crate::daemon::provision::{Network, Resources, Runtime, StartError};
use crate::daemon::sources::Source;
use crate::daemon::spawner::{CreateRequest, InputSource, JobSandbox, StartRequest, StartResult, Started};
use crate::daemon::staging;
use crate::diag;
use crate::job::exit::start_failure;
use crate::job::state::Fact;
use crate::job::{JobId, JobSpec};
use crate::output::Watermark;
use crate::sys::clock::now_ns;

/// A sandbox that has to be created for a job: its host id and its network are reserved.
///
/// # Errors
/// All host ids are in use, or all addresses of its network.
pub(in crate::daemon) fn cold_sandbox(
    core: &mut Core,
    id: JobId,
    spec: &JobSpec,
    output: Arc<Watermark>,
) -> Result<JobSandbox, String> {
    let identity = core.supply.identity(spec.user, spec.profile);
    let identity = identity.ok_or_else(|| core.supply.no_identity(spec.profile))?;
    let network = match core.supply.network(&spec.network) {
        Ok(network) => network,
        Err(why) => {
            core.supply.forgo(identity);
            return Err(why);
        }
    };
    let network = network.with_rate(core.node.kept_rate(spec.rate));
    let held = Resources::reserved(identity, network.held());
    let (root, limits, writable) = (core.root_of(spec), spec.limits.clone(), spec.writable);
    let request = CreateRequest { id, limits, network, root, writable, held, output };
    Ok(JobSandbox::Cold(Box::new(request)))
}

/// Starts a job that had to wait. Its id is known to its client, so no warm sandbox will do.
pub(super) fn start(core: &mut Core, id: JobId) {
    let Some(job) = core.jobs.get_mut(id) else { return };
    let (spec, output, gpus) = (job.spec.clone(), job.output.watermark.clone(), job.held.gpus.take());
    if let Some(why) = core.supply.lacks_gpus(&spec).filter(|_| gpus.is_none()) {
        core.jobs.note(id, Fact::NotStarted(start_failure(why)));
        return;
    }
    let inputs = if let Some(part) = &spec.part {
        match inputs_of(core, part) {
            Ok(inputs) => InputSource::Given(inputs),
            Err(why) => {
                core.jobs.note(id, Fact::NotStarted(start_failure(why)));
                return;
            }
        }
    } else if staging::is_needed(&spec) {
        let bytes = core.jobs.get(id).map_or(0, |job| job.standing.share_bytes());
        InputSource::Staged { bytes }
    } else {
        InputSource::Given(staging::of_record(&spec))
    };
    let started = core.supply.ports().bind(&spec.publish).and_then(|ports| {
        let sandbox = cold_sandbox(core, id, &spec, output)?.with_ports(ports).with_gpus(gpus);
        hand_over(core, sandbox, spec, inputs)
    });
    if let Err(why) = started {
        core.jobs.note(id, Fact::NotStarted(start_failure(why)));
    }
}

/// Gives a job to a spawner, which starts nothing before the job's record is written.
///
/// # Errors
/// No spawner takes it; its sandbox is given back.
pub(in crate::daemon) fn hand_over(
    core: &mut Core,
    mut sandbox: JobSandbox,
    spec: Arc<JobSpec>,
    inputs: InputSource,
) -> Result<(), String> {
    let id = sandbox.id();
    // First: nothing is to be undone but the sandbox.
    let volumes = match core.supply.volumes().of(&spec.volumes) {
        Ok(volumes) => volumes,
        Err(why) => {
            give_back(core, sandbox);
            return Err(why);
        }
    };
    let runtime = core.jobs.get_mut(id).and_then(|job| job.held.runtime.take());
    let is_there = runtime.as_ref().and_then(Runtime::installed).is_some();
    sandbox = sandbox.with_runtime(runtime);
    if let Some(asked) = spec.runtime.as_ref().filter(|_| !is_there) {
        give_back(core, sandbox);
        return Err(format!(
            "runtime \"{asked}\" is not installed any more; install it and run the job again"
        ));
    }
    let is_new_root = match &sandbox {
        JobSandbox::Cold(request) => {
            request.root.as_ref().is_some_and(|root| !core.node.sandbox.has_root(root))
        }
        JobSandbox::Warm(_) => false,
    };
    let (mut claims, mut counted) = (Arc::default(), Arc::default());
    if let Some(job) = core.jobs.get_mut(id) {
        let process = sandbox.process();
        let (host_id, wire, gpus) =
            (sandbox.host_id(), sandbox.wire(), core.supply.gpus().marked(sandbox.gpus()));
        job.trace = Trace { host_id, wire, gpus, process, ..Trace::default() };
        claims = job.durability.claims().clone();
        counted = job.reach.counted.clone();
    }
    let host_id = sandbox.host_id().unwrap_or_default();
    diag::event!(Level::Debug, "job goes to a spawner", jobId = id, hostId = host_id);
    let data = spec.part.and_then(|part| data_of(core, &part));
    let leaves_files = spec.part.is_some_and(|part| !outputs_of(core, &part).is_empty());
    let keeps_work = leaves_files || spec.build.is_some();
    if keeps_work && let Some(job) = core.jobs.get(id) {
        // Its /work is gone with joblet-init.
        job.output.watermark.hold();
    }
    if let Some(job) = core.jobs.get(id).filter(|_| core.counts.is_on()) {
        core.counts.queued(Duration::from_nanos((now_ns() - job.times.created_ns).max(0).unsigned_abs()));
    }
    let record = save(core, id);
    let under_way = core.starts.token();
    let request = StartRequest {
        sandbox,
        spec,
        inputs,
        claims,
        data,
        is_new_root,
        volumes,
        keeps_work,
        counted,
        record,
        under_way,
    };
    if let Err(back) = core.starts.hand_over(request) {
        give_back(core, back);
        return Err("no spawner takes the job".to_owned());
    }
    watch_starts(core);
    Ok(())
}

/// Gives a sandbox back that no job starts in.
fn give_back(core: &mut Core, sandbox: JobSandbox) {
    match sandbox {
        JobSandbox::Warm(sandbox) => discard(core, *sandbox),
        JobSandbox::Cold(request) => request.held.release(&mut core.supply, &mut core.cleanup),
    }
}

/// A spawner is done with a start.
pub(in crate::daemon) fn on_started(core: &mut Core, result: StartResult) {
    let StartResult { id, mut held, result, under_way: _under_way } = result;
    if let Some(network) = &mut held.network {
        core.supply.release_old(network);
    }
    let run = result.and_then(|started| watch(core, id, started));
    let Some(job) = core.jobs.get_mut(id) else {
        // Live jobs are not forgotten; what it holds must not be lost if one ever is.
        held.release(&mut core.supply, &mut core.cleanup);
        return;
    };
    job.held = held;
    if job.held.network.as_ref().and_then(Network::lease).is_some() {
        core.supply.watch_refusals();
    }
    let fact = match run {
        Ok((run, process)) => {
            job.trace.process = process;
            job.run = Some(run);
            Fact::Spawned
        }
        Err(StartError { why, is_shortage }) => {
            job.waiters.set_shortage(is_shortage);
            Fact::NotStarted(start_failure(why))
        }
    };
    core.jobs.note(id, fact);
    // It may be over already.
    drain_held(core, id);
    publish(core, id);
}

/// Watches a process that was started.
fn watch(
    core: &Core,
    id: JobId,
    started: Started,
) -> Result<(Run, Option<crate::state::record::Process>), StartError> {
    let Started { pidfd, pid, process, report, exit_file, oom_score, work, at } = started;
    let clock = &core.clock;
    let failed = |why: std::io::Error| StartError::from(format!("cannot watch the job's process: {why}"));
    // A process that nobody watches would never be seen to end: it is ended at once.
    let kill = pidfd.try_clone().map_err(failed)?;
    let watched = clock
        .watch(Source::Init(id), pidfd)
        .and_then(|init| Ok((init, clock.watch(Source::Report(id), report)?)));
    let (init, report) = watched.map_err(|why| {
        core.cleanup.kill_and_reap(kill);
        failed(why)
    })?;
    let run = Run {
        init,
        pid,
        report: Some(report),
        exit_file: Arc::new(exit_file),
        oom_score,
        work,
        permitted: Some(at),
        is_collecting: false,
        init_end: None,
        evidence: None,
    };
    Ok((run, process))
}

/// From now on a child that does not come to its exec is killed in time. A thread waits for it, and would for ever.
pub(super) fn watch_starts(core: &mut Core) {
    core.clock.look_at_starts(Instant::now() + core.settings.cleanup_timeout);
}

/// Kills children that hang in the kernel before their exec.
pub(in crate::daemon) fn end_stuck(core: &mut Core) {
    let killed = core.node.sandbox.end_stuck(core.settings.cleanup_timeout);
    if killed > 0 {
        diag::limited!(
            Level::Error,
            "killed what was to become a job: it hangs in the kernel",
            number = killed
        );
    }
    core.clock.has_looked_at_starts();
    if core.starts.are_under_way() || core.pool.is_filling() {
        watch_starts(core);
    }
}
