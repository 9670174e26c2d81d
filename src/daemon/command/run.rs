//! RunJob: a request becomes a job that starts now, or waits for its time or for a slot.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use log::Level;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, getrlimit};

use super::request::{Answer, CommandError, StoredFiles};
use crate::daemon::core::Core;
use crate::daemon::jobs::{Job, Lane, Share, Slot};
use crate::daemon::lifecycle::{
    answer_starters, cold_sandbox, enqueue, hand_over, put_aside, save, take_warm, wait_for_time,
};
use crate::daemon::provision::{Ports, Runtime};
use crate::daemon::spawner::{InputSource, JobSandbox};
use crate::daemon::staging;
use crate::diag;
use crate::job::exit::start_failure;
use crate::job::state::{Fact, State};
use crate::job::{Controller, Enforcement, JobId, JobSpec, JobView};
use crate::output::Watermark;
use crate::runtime::Use;
use crate::stream;
use crate::sys::clock::now_ns;
use crate::upload::{Claim, JobInputs, Upload};

/// Open files that new jobs leave free. A start takes some twenty for a moment, on each spawner.
const DESCRIPTORS_KEPT: u64 = 64;

/// The fate of a request that is accepted.
enum Admitted {
    /// It starts in this sandbox, with this slot.
    Starts(JobSandbox, Slot),
    /// It waits for its time.
    Scheduled,
    /// It waits for a slot.
    Queued,
    /// It becomes a failed job, for this reason.
    Refused(String),
}

impl Admitted {
    /// The fate in one word, for traces.
    fn word(&self) -> &'static str {
        match self {
            Admitted::Starts(JobSandbox::Warm(_), _) => "starts_warm",
            Admitted::Starts(JobSandbox::Cold(_), _) => "starts_cold",
            Admitted::Scheduled => "scheduled",
            Admitted::Queued => "queued",
            Admitted::Refused(_) => "refused",
        }
    }
}

/// Accepts a request, or refuses it without a trace; the id of its job.
pub(super) fn handle(
    core: &mut Core,
    mut spec: JobSpec,
    uploads: Vec<Upload>,
    stored: StoredFiles,
    answer: Answer<JobView>,
) -> Option<JobId> {
    if core.shutdown.has_begun() {
        let _ = answer.send(Err(CommandError::ShuttingDown));
        return None;
    }
    if let Some(id) = core.jobs.of_request(&spec.request_id) {
        // The same request once more: the same job.
        if let Some(job) = core.jobs.get_mut(id) {
            job.waiters.await_start(answer);
        }
        answer_starters(core, id);
        return Some(id);
    }
    if let Some(why) = core.supply.lacks_network(&spec.network) {
        let _ = answer.send(Err(CommandError::WrongState(why)));
        return None;
    }
    if let Some(why) = core.supply.lacks_volume(&spec.volumes) {
        let _ = answer.send(Err(CommandError::WrongState(why)));
        return None;
    }
    if let Some(why) = core.supply.lacks_gpus(&spec) {
        let _ = answer.send(Err(CommandError::WrongState(why)));
        return None;
    }
    let runtime = match core.supply.runtimes().complete(&mut spec) {
        Ok(runtime) => runtime,
        Err(why) => {
            let _ = answer.send(Err(why));
            return None;
        }
    };
    let scheduled = spec.not_before_ns.is_some_and(|at| at > now_ns());
    let waits = scheduled || !core.has_place(&spec);
    if let Some(why) = shortage(core, waits) {
        let _ = answer.send(Err(CommandError::Exhausted(why)));
        return None;
    }
    // One that waits gets its ports when it starts.
    let ports = match core.supply.ports().bind(if waits { &[] } else { &spec.publish }) {
        Ok(ports) => ports,
        Err(why) => {
            let _ = answer.send(Err(CommandError::WrongState(why)));
            return None;
        }
    };
    // A job that starts at once leaves nothing waiting.
    let share = if waits {
        match core.staging.backlog().admit(spec.client, staging::bytes(&spec, &uploads)) {
            Ok(share) => Some(share),
            Err(why) => {
                let _ = answer.send(Err(CommandError::Exhausted(why)));
                return None;
            }
        }
    } else {
        None
    };
    let claims = match stored.missing.map_or_else(|| core.staging.take(&stored.found), Err) {
        Ok(claims) => claims,
        Err(why) => {
            let _ = answer.send(Err(CommandError::WrongState(why)));
            return None;
        }
    };
    let inputs = staging::unpack(&mut spec, uploads);
    let supplied = Supplied { inputs, claims: Arc::new(claims), share, runtime, ports };
    Some(admit(core, spec, supplied, None, Some(answer)))
}

/// Submits a job of a workflow, which has all the checks of a request behind it; its id. With `refused` it becomes a
/// failed job for this reason.
pub(super) fn submit(
    core: &mut Core,
    mut spec: JobSpec,
    claims: Arc<Vec<Claim>>,
    refused: Option<String>,
) -> JobId {
    let inputs = staging::unpack(&mut spec, Vec::new());
    let (runtime, refused) = match core.supply.runtimes().complete(&mut spec) {
        Ok(runtime) => (runtime, refused),
        Err(why) => (None, refused.or(Some(why.to_string()))),
    };
    admit(core, spec, Supplied { inputs, claims, share: None, runtime, ports: None }, refused, None)
}

/// Decides how a job begins, and takes it in.
fn admit(
    core: &mut Core,
    spec: JobSpec,
    mut supplied: Supplied,
    refused: Option<String>,
    answer: Option<Answer<JobView>>,
) -> JobId {
    let (unenforced, unenforceable) = enforceable(core, &spec);
    let refused = refused.or(unenforceable).or_else(|| core.supply.lacks_gpus(&spec));
    let scheduled = spec.not_before_ns.is_some_and(|at| at > now_ns());
    let admitted = match refused {
        Some(why) => Admitted::Refused(why),
        None if scheduled => Admitted::Scheduled,
        None => match place(core, &spec) {
            None => Admitted::Queued,
            Some(slot) => match published_sandbox(core, &spec, supplied.ports.take()) {
                Ok(sandbox) => {
                    let gpus = spec.gpus.and_then(|wish| core.supply.take_gpus(sandbox.id(), wish));
                    Admitted::Starts(sandbox.with_gpus(gpus), slot)
                }
                Err(why) => Admitted::Refused(why),
            },
        },
    };
    accept(core, spec, unenforced, supplied, admitted, answer)
}

/// A slot for a job that starts at once, whose GPUs are free; `None`: it waits.
fn place(core: &mut Core, spec: &JobSpec) -> Option<Slot> {
    if core.has_place(spec) { core.slots.take(Lane::of(spec)) } else { None }
}

/// The limits of a job that this host cannot keep, in words; and why the job is refused, if it is.
fn enforceable(core: &Core, spec: &JobSpec) -> (Vec<String>, Option<String>) {
    let limits = core.node.tree.enforce(&spec.limits, core.settings.enforcement);
    let lacks_rate = core.node.lacks_rate(spec.rate);
    let strict = core.settings.enforcement == Enforcement::Strict;
    let refused = limits.as_ref().err().map(ToString::to_string);
    let refused = refused.or_else(|| lacks_rate.clone().filter(|_| strict));
    // The limit of processes holds without its controller too: the job's uid is its own, and RLIMIT_NPROC
    // counts by uid (setrlimit(2)).
    let missing = limits.unwrap_or_default().into_iter().filter(|l| l.controller != Controller::Pids);
    (missing.map(|limit| limit.to_string()).chain(lacks_rate).collect(), refused)
}

/// Everything that a request brought beside its spec.
struct Supplied {
    inputs: JobInputs,
    claims: Arc<Vec<Claim>>,
    /// Its part of the bytes that may wait, where it waits.
    share: Option<Share>,
    /// Its runtime, if it has one.
    runtime: Option<Use>,
    /// Its ports of the host, where it has them already.
    ports: Option<Ports>,
}

/// Takes the job in and sets it on its way. The record comes first: every accepted request leaves a job with a reason.
fn accept(
    core: &mut Core,
    spec: JobSpec,
    unenforced: Vec<String>,
    supplied: Supplied,
    admitted: Admitted,
    answer: Option<Answer<JobView>>,
) -> JobId {
    let (id, output) = match &admitted {
        Admitted::Starts(sandbox, _) => (sandbox.id(), sandbox.output()),
        Admitted::Scheduled | Admitted::Queued | Admitted::Refused(_) => {
            let id = JobId::random();
            (id, Watermark::new())
        }
    };
    let spec = Arc::new(spec);
    let Supplied { inputs, claims, share, runtime, .. } = supplied;
    diag::event!(
        Level::Debug,
        "job accepted",
        jobId = id,
        next = admitted.word(),
        uploads = inputs.uploads.len() + claims.iter().map(|claim| claim.stored().entries()).sum::<usize>(),
        requestId = spec.request_id
    );
    let state = match &admitted {
        Admitted::Scheduled => State::Scheduled,
        Admitted::Queued => State::Queued,
        Admitted::Starts(..) | Admitted::Refused(_) => State::Starting(None),
    };
    let samples = stream::Watermark::new();
    let mut job = Job::new(id, spec.clone(), state, output, samples);
    job.durability.claim(claims);
    job.usage.unenforced = unenforced;
    job.standing.set_share(share);
    job.held.runtime = Runtime::of(&spec, runtime);
    answer.into_iter().for_each(|answer| job.waiters.await_start(answer));
    let started = match admitted {
        Admitted::Starts(sandbox, slot) => {
            job.standing.run(slot);
            core.jobs.insert(job);
            hand_over(core, sandbox, spec, InputSource::Given(inputs))
        }
        Admitted::Scheduled => {
            core.jobs.insert(job);
            put_aside(core, id, inputs);
            wait_for_time(core, id);
            save(core, id);
            Ok(())
        }
        Admitted::Queued => {
            core.jobs.insert(job);
            put_aside(core, id, inputs);
            enqueue(core, id);
            Ok(())
        }
        Admitted::Refused(why) => {
            core.jobs.insert(job);
            Err(why)
        }
    };
    if let Err(why) = started {
        core.jobs.note(id, Fact::NotStarted(start_failure(why)));
    }
    id
}

/// Why no job can be accepted: too many wait already, or the last descriptors are for the jobs that are there, to be
/// looked at and stopped.
pub(super) fn shortage(core: &Core, waits: bool) -> Option<String> {
    if let Some(limit) = getrlimit(Resource::Nofile).current {
        // A new descriptor has the lowest number that is free (open(2)): below it none is.
        let lowest = fcntl_dupfd_cloexec(core.schedule.timer().as_fd(), 0);
        let lowest = lowest.map_or(limit, |fd| fd.as_raw_fd() as u64);
        if lowest + DESCRIPTORS_KEPT > limit {
            return Some(format!(
                "too many jobs and clients: {lowest} of {limit} open files are in use; try again, or raise \
                 LimitNOFILE of the unit"
            ));
        }
    }
    let most = core.settings.max_queued;
    (waits && core.waiting() >= most)
        .then(|| format!("maximum concurrent jobs reached, and {most} wait already (joblet.maxQueuedJobs)"))
}

/// The same with the job's ports of the host: those that it has, or new ones.
fn published_sandbox(core: &mut Core, spec: &JobSpec, ports: Option<Ports>) -> Result<JobSandbox, String> {
    let ports = ports.map_or_else(|| core.supply.ports().bind(&spec.publish), |ports| Ok(Some(ports)))?;
    Ok(sandbox_for(core, spec)?.with_ports(ports))
}

/// The sandbox of a job that starts now: a warm one, or what is needed to create one.
fn sandbox_for(core: &mut Core, spec: &JobSpec) -> Result<JobSandbox, String> {
    if let Some(sandbox) = take_warm(core, spec) {
        return Ok(JobSandbox::Warm(Box::new(sandbox)));
    }
    let id = JobId::random();
    let output = Watermark::new();
    cold_sandbox(core, id, spec, output)
}
