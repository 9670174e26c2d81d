//! The steps of a workflow: its record, its jobs in their turn, its end.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use log::Level;

use super::leave_queues;
use crate::daemon::command::CommandError;
use crate::daemon::core::Core;
use crate::daemon::outputs::Inputs;
use crate::daemon::workflows::{Ended, Flow, Place};
use crate::diag;
use crate::job::exit::StopCause;
use crate::job::state::{Fact, State};
use crate::job::{ExitReason, JobId, Part, WorkflowId};
use crate::state::workflow::WorkflowEnd;
use crate::state::{ElementRecord, WorkflowChange, not_recorded};
use crate::sys::clock::now_ns;
use crate::upload::JobInputs;
use crate::workflow::{NodeStatus, Workflow, WorkflowJob};

/// The place of a job, as a graph counts it.
fn place_of(part: &Part) -> Place {
    Place { node: part.node as usize, element: part.element as usize }
}

/// Has a workflow's record written as it is now.
pub(in crate::daemon) fn save_workflow(core: &mut Core, serial: u64) {
    let Some(entry) = core.workflows.get_mut(serial) else { return };
    let (record, version) = entry.next_record();
    if !core.ledger.put_workflow(WorkflowChange::Head(record, version)) {
        on_workflow_recorded(core, serial, version, None);
    }
}

/// A workflow's record is on disk, or cannot be written.
pub(super) fn on_workflow_recorded(core: &mut Core, serial: u64, version: u64, trouble: Option<&str>) {
    let Some(entry) = core.workflows.get_mut(serial).filter(|entry| entry.is_newest(version)) else { return };
    if let Some(trouble) = trouble.filter(|_| entry.is_accepted()) {
        refuse(core, serial, &not_recorded(trouble));
        return;
    }
    let starters = entry.begin();
    let view = entry.view(false);
    if !starters.is_empty() {
        diag::event!(
            Level::Info,
            "workflow started",
            workflowId = entry.record().id,
            name = entry.record().name,
            jobs = entry.roster().len(),
            elements = entry.roster().iter().map(|node| node.elements as usize).sum::<usize>()
        );
    }
    for starter in starters {
        let _ = starter.send(Ok(view.clone()));
    }
    // A cancel of jobs that run does not wait for the disk.
    if entry.record().canceled {
        cancel(core, serial);
    }
    settle(core, serial);
}

/// The text of a workflow is sealed, or cannot be.
pub(super) fn on_workflow_staged(core: &mut Core, id: WorkflowId, result: Result<(), String>) -> bool {
    let Some(serial) = core.workflows.serial(id) else { return false };
    match result {
        Ok(()) => save_workflow(core, serial),
        Err(why) => refuse(core, serial, &why),
    }
    true
}

/// A workflow that cannot be remembered is forgotten: its caller has no answer yet.
fn refuse(core: &mut Core, serial: u64, why: &str) {
    let Some(entry) = core.workflows.remove(serial) else { return };
    core.ledger.put_workflow(WorkflowChange::Delete(vec![serial]));
    core.cleanup.remove_file(core.staging.path(entry.record().id.uuid()));
    core.cleanup.remove_directory(core.streams.outputs().of(entry.record().id));
    for caller in entry.into_waiting() {
        let _ = caller.send(Err(CommandError::SetUp(why.to_owned())));
    }
}

/// The inputs of a job of a workflow.
///
/// # Errors
/// The workflow is over, or not known.
pub(super) fn inputs_of(core: &Core, part: &Part) -> Result<JobInputs, String> {
    let entry = core.workflows.serial(part.workflow).and_then(|serial| core.workflows.get(serial));
    let plan = entry.and_then(|entry| entry.flow()).map(Flow::plan);
    let job = plan.and_then(|plan| Some((plan, plan.jobs.get(part.node as usize)?)));
    let (plan, job) = job.ok_or_else(|| "its workflow is over, and its inputs are gone".to_owned())?;
    let variables = job.variables(&plan.environment, part.element as usize)?;
    Ok(JobInputs { uploads: Vec::new(), environment: variables.plain, secrets: variables.secrets })
}

/// The file of a job's workflow, and the job in it.
fn job_of<'c>(core: &'c Core, part: &Part) -> Option<(&'c Arc<Workflow>, &'c WorkflowJob)> {
    let entry = core.workflows.get(core.workflows.serial(part.workflow)?)?;
    let plan = entry.flow()?.plan();
    Some((plan, plan.jobs.get(part.node as usize)?))
}

/// The files that a job leaves for others.
pub(super) fn outputs_of<'c>(core: &'c Core, part: &Part) -> &'c [String] {
    job_of(core, part).map(|(_, job)| job.outputs.as_slice()).unwrap_or_default()
}

/// The files of other jobs that a job gets; `None`: it gets none.
pub(super) fn data_of(core: &Core, part: &Part) -> Option<Inputs> {
    let (plan, _) = job_of(core, part)?;
    core.streams.outputs().inputs_of(plan, part)
}

/// Bytes of files that the jobs of a workflow may still leave.
pub(super) fn room_of(core: &Core, part: &Part) -> Arc<AtomicU64> {
    let entry = core.workflows.serial(part.workflow).and_then(|serial| core.workflows.get(serial));
    entry.map(|entry| entry.room().clone()).unwrap_or_default()
}

/// A job has left files of so many bytes, in place of those of an earlier attempt.
pub(super) fn count_bytes(core: &mut Core, part: &Part, freed: u64, bytes: u64) {
    let serial = core.workflows.serial(part.workflow);
    if let Some(entry) = serial.and_then(|serial| core.workflows.get_mut(serial)) {
        entry.count_output(freed, bytes);
    }
}

/// The graph that a job belongs to.
fn graph_of(core: &mut Core, id: JobId) -> Option<(u64, Place, &mut Flow)> {
    let part = core.jobs.get(id)?.spec.part?;
    let serial = core.workflows.serial(part.workflow)?;
    let flow = core.workflows.get_mut(serial)?.flow_mut()?;
    Some((serial, place_of(&part), flow))
}

/// The time of a job has come.
pub(super) fn on_job_due(core: &mut Core, id: JobId) {
    let Some((serial, place, flow)) = graph_of(core, id) else { return };
    flow.due(place, id, now_ns());
    core.workflows.look_at(serial);
}

/// The payload of a job runs.
pub(super) fn on_job_running(core: &mut Core, id: JobId) {
    let Some(at_ns) = core.jobs.get(id).and_then(|job| job.times.started_ns) else { return };
    let Some((serial, place, flow)) = graph_of(core, id) else { return };
    flow.running(place, id, at_ns, now_ns());
    core.workflows.look_at(serial);
}

/// A job is over: its end is on disk.
pub(super) fn on_job_ended(core: &mut Core, id: JobId) {
    let Some(job) = core.jobs.get(id) else { return };
    let State::Finished(ending) = &job.state else { return };
    let ended = Ended {
        id,
        ending: ending.clone(),
        started_ns: job.times.started_ns.filter(|_| ending.reason != ExitReason::StartFailed),
        ended_ns: job.times.ended_ns.unwrap_or(job.times.created_ns),
    };
    let Some((serial, place, flow)) = graph_of(core, id) else { return };
    if flow.ended(place, &ended, now_ns())
        && let Some(row) = row_of(serial, place, flow)
    {
        core.ledger.put_workflow(WorkflowChange::Element(Box::new(row)));
    }
    settle(core, serial);
}

/// The row of an element whose last attempt has ended; `None`: none has, or a further one is under way.
pub(super) fn row_of(serial: u64, place: Place, flow: &Flow) -> Option<ElementRecord> {
    let element = flow.nodes().get(place.node)?.elements.get(place.element)?;
    if element.job.is_some() {
        return None;
    }
    Some(ElementRecord {
        workflow: serial,
        node: place.node as u32,
        element: place.element as u32,
        attempts: element.attempts.clone(),
        started_ns: element.started_ns,
        ended_ns: element.ended_ns?,
        ending: element.ending.clone()?,
        next_ns: element.next_ns,
    })
}

/// Ends the jobs of a workflow that a user has canceled.
fn cancel(core: &mut Core, serial: u64) {
    let Some(flow) = core.workflows.get_mut(serial).and_then(|entry| entry.flow_mut()) else { return };
    if flow.is_canceled() {
        return;
    }
    for id in flow.cancel(now_ns()) {
        let Some(job) = core.jobs.get(id) else { continue };
        let scheduled = job.state == State::Scheduled;
        leave_queues(core, id);
        core.jobs.note(id, if scheduled { Fact::Cancel } else { Fact::Stop(StopCause::Request) });
    }
}

/// Looks at a workflow whose jobs have changed: it may have more to submit, or be over.
pub(super) fn settle(core: &mut Core, serial: u64) {
    let Some(entry) = core.workflows.get(serial) else { return };
    if entry.running().is_some_and(|flow| flow.status().is_terminal()) {
        end(core, serial);
    } else {
        core.workflows.look_at(serial);
    }
}

/// A workflow is over: its record says so, and everything that it holds is given back.
fn end(core: &mut Core, serial: u64) {
    let Some(entry) = core.workflows.get_mut(serial) else { return };
    let Some(flow) = entry.running() else { return };
    let ended = flow
        .nodes()
        .iter()
        .flat_map(|node| node.elements.iter().filter_map(|element| element.ended_ns))
        .max();
    let ended_ns = ended.unwrap_or_else(now_ns);
    let end = WorkflowEnd {
        status: flow.status().as_str().to_owned(),
        started_ns: flow.started_ns(),
        ended_ns,
        message: message(flow),
        nodes: entry.roster().to_vec(),
    };
    let cancelers = entry.finish(end);
    let view = entry.view(false);
    let [completed, failed, canceled] = view.counts;
    diag::event!(
        if failed > 0 { Level::Warn } else { Level::Info },
        "workflow ended",
        workflowId = view.id,
        name = view.name,
        status = view.status,
        completed = completed,
        failed = failed,
        canceled = canceled,
        duration = format_args!("{}ms", (ended_ns - view.created_ns) / 1_000_000)
    );
    for caller in cancelers {
        let _ = caller.send(Ok(view.clone()));
    }
    core.cleanup.remove_file(core.staging.path(view.id.uuid()));
    core.workflows.is_over(serial);
    save_workflow(core, serial);
}

/// The sentence on a workflow that is over.
fn message(flow: &Flow) -> String {
    let failed = |n: &usize| matches!(flow.node_status(*n), NodeStatus::Failed | NodeStatus::Stopped);
    let Some(first) = (0..flow.nodes().len()).find(failed) else { return String::new() };
    let (name, status) = (&flow.plan().jobs[first].name, flow.node_status(first));
    match &flow.nodes()[first].shown().ending {
        Some(ending) if ending.message.is_empty() => {
            format!("job '{name}' is {status}: {}, code {}", ending.reason.as_str(), ending.code)
        }
        Some(ending) => format!("job '{name}' is {status}: {}", ending.message),
        None => format!("job '{name}' is {status}"),
    }
}

/// Forgets one workflow that is over: beyond what is kept, or ended before a time. `true`: one went, and there may be more.
pub(super) fn forget_workflow(core: &mut Core, before_ns: i64) -> bool {
    let Some((serial, limit)) = core.workflows.surplus(before_ns) else { return false };
    let Some(entry) = core.workflows.remove(serial) else { return false };
    diag::limited!(Level::Info, "forgetting an old workflow", workflowId = entry.record().id, limit = limit);
    core.ledger.put_workflow(WorkflowChange::Delete(vec![serial]));
    core.cleanup.remove_directory(core.streams.outputs().of(entry.record().id));
    true
}
