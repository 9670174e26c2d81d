//! RunWorkflow: the graph is taken in, and its jobs start when that is recorded.

use super::request::{Answer, CommandError, NewWorkflow};
use crate::daemon::core::Core;
use crate::daemon::lifecycle;
use crate::daemon::workflows::view::WorkflowView;
use crate::job::Secret;
use crate::sys::clock::now_ns;
use crate::upload::JobInputs;

/// The name of the sealed text among the secrets of a staged file.
pub(in crate::daemon) const SEALED: &str = "yaml";

pub(super) fn handle(core: &mut Core, new: NewWorkflow, answer: Answer<WorkflowView>) {
    if core.shutdown.has_begun() {
        let _ = answer.send(Err(CommandError::ShuttingDown));
        return;
    }
    if let Some(serial) = core.workflows.of_request(&new.request_id) {
        // The same request once more: the same workflow.
        if let Some(entry) = core.workflows.get_mut(serial) {
            if entry.is_accepted() {
                entry.await_start(answer);
            } else {
                drop(answer.send(Ok(entry.view(false))));
            }
        }
        return;
    }
    if let Err(why) = admit(core, new, answer) {
        let (answer, why) = *why;
        let _ = answer.send(Err(why));
    }
}

/// The refusal of what a job of the workflow names.
fn refused(new: &NewWorkflow, job: usize, why: &str) -> String {
    let job = &new.plan.jobs[job];
    format!("workflow validation failed: {}: job '{}': {why}", job.at, job.name)
}

/// The network that a job of the workflow names and this node does not have.
fn lacks_network(core: &Core, new: &NewWorkflow) -> Option<String> {
    new.plan.needs.networks.iter().find_map(|(job, network)| {
        let why = core.supply.lacks_network(&network.parse().ok()?)?;
        Some(refused(new, *job, &why))
    })
}

/// The volume that a job of the workflow names and no job can have now.
fn lacks_volume(core: &Core, new: &NewWorkflow) -> Option<String> {
    new.plan.needs.volumes.iter().find_map(|(job, used)| {
        let why = core.supply.lacks_volume(std::slice::from_ref(used))?;
        Some(refused(new, *job, &why))
    })
}

/// A job of the workflow whose GPUs this node can never give.
fn lacks_gpus(core: &Core, new: &NewWorkflow) -> Option<String> {
    new.plan.needs.gpus.iter().find_map(|(job, wish)| {
        let why = core.supply.gpus().refuses(*wish)?;
        Some(refused(new, *job, &why))
    })
}

/// Notes the exact version of each runtime that jobs of the workflow name.
fn resolve_runtimes(core: &Core, new: &mut NewWorkflow) -> Result<(), String> {
    let plan = new.plan.clone();
    for (job, asked) in &plan.needs.runtimes {
        let writable = plan.jobs[*job].writable;
        let id = core.supply.runtimes().resolve(asked, writable).map_err(|why| refused(new, *job, &why))?;
        new.defaults.runtimes.insert(asked.to_string(), id);
    }
    Ok(())
}

/// Things that the workflow names and this node does not have.
fn lacks(core: &Core, new: &NewWorkflow) -> Option<String> {
    lacks_network(core, new).or_else(|| lacks_volume(core, new)).or_else(|| lacks_gpus(core, new))
}

type Refused = Box<(Answer<WorkflowView>, CommandError)>;

/// Takes the workflow in, or gives the answer back with the reason.
fn admit(core: &mut Core, mut new: NewWorkflow, answer: Answer<WorkflowView>) -> Result<(), Refused> {
    if let Err(why) = core.workflows.admit(new.client) {
        return Err(Box::new((answer, CommandError::Exhausted(why))));
    }
    if let Some(why) = lacks(core, &new) {
        return Err(Box::new((answer, CommandError::WrongState(why))));
    }
    if let Err(why) = resolve_runtimes(core, &mut new) {
        return Err(Box::new((answer, CommandError::WrongState(why))));
    }
    let bytes = new.yaml.len() + new.secret.as_ref().map_or(0, |text| text.expose().len());
    let share = match core.staging.backlog().admit(new.client, bytes as u64) {
        Ok(share) => share,
        Err(why) => return Err(Box::new((answer, CommandError::Exhausted(why)))),
    };
    let stored = std::mem::take(&mut new.stored);
    let ahead = match stored.missing.map_or_else(|| core.staging.take(&stored.found), Err) {
        Ok(claims) => claims,
        Err(why) => return Err(Box::new((answer, CommandError::WrongState(why)))),
    };
    let claims = std::mem::take(&mut new.claims).into_iter().chain(ahead).collect();
    let secret = new.secret.take().inspect(|_| new.secret = Some(Secret::default()));
    let serial = core.workflows.accept(new, claims, share, answer, now_ns());
    let id = core.workflows.get(serial).map(|entry| entry.record().id.uuid());
    match secret.zip(id) {
        // The record follows when the text is sealed.
        Some((text, id)) if core.ledger.is_on_disk() => {
            let secrets = vec![(SEALED.to_owned(), text)];
            core.staging.put(id, JobInputs { secrets, ..JobInputs::default() });
        }
        _ => lifecycle::save_workflow(core, serial),
    }
    Ok(())
}
