//! The request of a job that a workflow submits.

use super::flow::Next;
use crate::job::{JobSpec, Limits, NetRate, NetworkMode, Part, RunAs, RuntimeSpec, WorkflowId};
use crate::state::workflow::Defaults;
use crate::workflow::{Environment, Workflow, WorkflowJob};

/// The request for one element, and the sentence why its variables cannot be had.
///
/// The file was checked as a whole; what an element adds to a variable may still make one too long.
pub(in crate::daemon) fn request(
    plan: &Workflow,
    defaults: &Defaults,
    workflow: WorkflowId,
    next: &Next,
) -> (JobSpec, Option<String>) {
    let job = &plan.jobs[next.place.node];
    let (variables, refused) = match job.variables(&plan.environment, next.place.element) {
        Ok(variables) => (variables, None),
        Err(why) => (Environment::default(), Some(why)),
    };
    let network = network(job, defaults);
    let egress = job.reach.egress.clone().or_else(|| defaults.egress.clone()).filter(|_| network.is_wired());
    let asked =
        if network.is_wired() { job.reach.rate.within(defaults.rate) } else { Ok(NetRate::default()) };
    let (rate, refused) = match asked {
        Ok(rate) => (rate, refused),
        Err(why) => (defaults.rate, refused.or(Some(why.0))),
    };
    let spec = JobSpec {
        name: job.name.clone(),
        command: job.command.clone(),
        args: job.args.clone(),
        limits: limits(job, &defaults.limits),
        work_dir: if job.runtime.is_some() { String::new() } else { "/work".to_owned() },
        environment: variables.plain,
        secrets: variables.secrets,
        network,
        rate,
        publish: job.reach.publish.clone(),
        volumes: job.volumes.clone(),
        gpus: job.resources.gpus,
        runtime: job.runtime.as_ref().map(|asked| resolved(asked, defaults)),
        writable: job.writable,
        stdin: false,
        egress,
        user: defaults.user,
        run_as: RunAs::Unnamed,
        profile: job.profile,
        timeout: job.timeout.or(defaults.timeout),
        stop_grace: None,
        upload_paths: job.uploads.clone(),
        upload_handles: Vec::new(),
        not_before_ns: next.not_before_ns,
        request_id: String::new(),
        client: Default::default(),
        part: Some(Part {
            workflow,
            node: next.place.node as u32,
            element: next.place.element as u32,
            attempt: next.attempt,
        }),
        build: None,
    };
    (spec, refused)
}

fn limits(job: &WorkflowJob, usual: &Limits) -> Limits {
    Limits {
        cpu: job.resources.cpu.or(usual.cpu),
        memory: job.resources.memory.or(usual.memory),
        io: job.resources.io.or(usual.io),
        cores: job.resources.cores.clone(),
        pids: usual.pids,
    }
}

/// The version that the name of the file came to when the workflow was accepted.
pub(super) fn resolved(asked: &RuntimeSpec, defaults: &Defaults) -> RuntimeSpec {
    defaults.runtimes.get(&asked.to_string()).map_or_else(|| asked.clone(), |id| id.clone().into())
}

/// The network was checked with the request; a node that does not know it any more uses its own default.
fn network(job: &WorkflowJob, defaults: &Defaults) -> NetworkMode {
    job.network.as_ref().and_then(|name| name.parse().ok()).unwrap_or_else(|| defaults.network.clone())
}
