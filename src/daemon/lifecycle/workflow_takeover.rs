//! Taking over the workflows of an earlier daemon, before the loop turns.
//!
//! The rows of a workflow say which attempts have ended, the records of jobs which were submitted. Both are taken in in
//! the order of their times, as the earlier daemon did; what it had decided and not begun is decided again.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::Arc;

use log::Level;

use super::workflows::{row_of, settle};
use crate::daemon::command::SEALED;
use crate::daemon::core::Core;
use crate::daemon::jobs::Job;
use crate::daemon::workflows::{Body, Ended, Entry, Flow, Known, Node, Over, Place, roster};
use crate::diag;
use crate::job::exit::StopCause;
use crate::job::state::{Fact, State};
use crate::job::{ExitReason, JobId, WorkflowId};
use crate::state::workflow::WorkflowEnd;
use crate::state::{ElementRecord, WorkflowChange, WorkflowRecord};
use crate::sys::clock::now_ns;
use crate::upload::{Claim, outputs};
use crate::workflow::{self, Workflow};

/// Something that is known of an element, with its time and its attempt.
type Event = (i64, u32, Place, Known);

/// Takes over all workflows. The jobs are in their table already.
pub(super) fn take_over_workflows(core: &mut Core, stored: Vec<(WorkflowRecord, Vec<ElementRecord>)>) {
    let mut jobs: HashMap<WorkflowId, Vec<JobId>> = HashMap::new();
    for job in core.jobs.iter() {
        if let Some(part) = job.spec.part {
            jobs.entry(part.workflow).or_default().push(job.id);
        }
    }
    for (record, rows) in stored {
        let (serial, own) = (record.serial, jobs.remove(&record.id).unwrap_or_default());
        let output_bytes = output_bytes(core, record.id);
        let entry = match record.end.clone() {
            Some(end) => over(record, end, &rows),
            None => resume(core, record, rows, &own),
        };
        core.workflows.insert(entry.with_output(output_bytes, core.settings.max_output_bytes));
        settle(core, serial);
    }
}

/// The bytes of all files that the jobs of a workflow have left.
fn output_bytes(core: &Core, id: WorkflowId) -> u64 {
    let kept = fs::read_dir(core.streams.outputs().of(id)).into_iter().flatten().flatten();
    kept.map(|element| outputs::kept_bytes(&element.path())).sum()
}

/// A workflow that was over.
fn over(record: WorkflowRecord, end: WorkflowEnd, rows: &[ElementRecord]) -> Entry {
    let mut nodes: Vec<Node> = end.nodes.iter().map(|node| Node::new(node.elements as usize)).collect();
    for row in rows {
        if let Some(node) = nodes.get_mut(row.node as usize) {
            node.recall(row);
        }
    }
    nodes.iter_mut().for_each(Node::cancel_all);
    let roster = end.nodes.clone();
    Entry::new(record, roster, Body::Over(Over::new(end, nodes)))
}

/// A workflow that ran.
fn resume(core: &mut Core, record: WorkflowRecord, rows: Vec<ElementRecord>, own: &[JobId]) -> Entry {
    let read = plan_of(core, &record)
        .and_then(|plan| Ok((plan, core.staging.adopt_handles(&record.upload_handles)?)));
    let (plan, claims) = match read {
        Ok((plan, claims)) => (plan, Arc::new(claims)),
        Err(why) => return lost(record, why),
    };
    let (history, without_row) = history(core, rows, own);
    let mut flow = Flow::resume(plan.clone(), history, now_ns());
    for place in without_row {
        // The earlier daemon did not come to it, and the job's record may be deleted from now on.
        if let Some(row) = row_of(record.serial, place, &flow) {
            core.ledger.put_workflow(WorkflowChange::Element(Box::new(row)));
        }
    }
    let canceled = if record.canceled { flow.cancel(now_ns()) } else { Vec::new() };
    for id in own {
        give_claims(core, *id, &claims);
    }
    for id in canceled {
        let scheduled = core.jobs.get(id).is_some_and(|job| job.state == State::Scheduled);
        core.jobs.note(id, if scheduled { Fact::Cancel } else { Fact::Stop(StopCause::Request) });
    }
    diag::event!(Level::Info, "took over a workflow", workflowId = record.id, jobs = own.len());
    let bytes = record.yaml.len() as u64;
    let share = core.staging.backlog().adopt(record.client, bytes);
    Entry::new(record, roster(&plan), Body::Running(Box::new(flow))).with_inputs(claims, share)
}

/// A job that still waits gets the files of its workflow.
fn give_claims(core: &mut Core, id: JobId, claims: &Arc<Vec<Claim>>) {
    if let Some(job) =
        core.jobs.get_mut(id).filter(|job| job.state.waits() && !job.spec.upload_paths.is_empty())
    {
        job.durability.claim(claims.clone());
    }
}

/// The file of a workflow, read again.
fn plan_of(core: &Core, record: &WorkflowRecord) -> Result<Arc<Workflow>, String> {
    let sealed = || {
        let inputs = core.staging.read(record.id.uuid())?;
        let text = inputs.secrets.into_iter().find(|(name, _)| name == SEALED).map(|(_, text)| text);
        text.ok_or_else(|| "its sealed text is gone".to_owned())
    };
    let parsed = match record.sealed {
        true => workflow::parse(sealed()?.expose()),
        false => workflow::parse(&record.yaml),
    };
    parsed.map(Arc::new).map_err(|e| e.to_string())
}

/// A workflow whose file or files are gone. Its jobs that run go on; nothing else of it starts.
fn lost(record: WorkflowRecord, why: String) -> Entry {
    diag::event!(Level::Error, "cannot go on with a workflow", workflowId = record.id, error = why);
    let message = format!("it cannot go on after the daemon was restarted: {why}");
    let end = WorkflowEnd {
        status: workflow::NodeStatus::Failed.as_str().to_owned(),
        started_ns: None,
        ended_ns: now_ns(),
        message,
        nodes: Vec::new(),
    };
    let record = WorkflowRecord { end: Some(end.clone()), ..record };
    Entry::new(record, Vec::new(), Body::Over(Over::new(end, Vec::new())))
}

/// The facts that are known of the elements, in the order of their times, and the places with an attempt that has ended
/// without a row.
fn history(core: &Core, rows: Vec<ElementRecord>, own: &[JobId]) -> (Vec<(Place, Known)>, Vec<Place>) {
    let ended: HashSet<JobId> = rows.iter().flat_map(|row| row.attempts.iter().copied()).collect();
    let mut events: Vec<Event> = rows.into_iter().filter_map(of_row).collect();
    for job in own.iter().filter(|id| !ended.contains(id)).filter_map(|id| core.jobs.get(*id)) {
        events.extend(of_job(job));
    }
    let with_row = |known: &Known| matches!(known, Known::Ended { earlier, .. } if !earlier.is_empty());
    let ends = events.iter().filter(|(.., known)| matches!(known, Known::Ended { .. }) && !with_row(known));
    let without_row = ends.map(|(_, _, place, _)| *place).collect();
    events.sort_by_key(|(at, attempt, ..)| (*at, *attempt));
    (events.into_iter().map(|(_, _, place, known)| (place, known)).collect(), without_row)
}

fn of_row(row: ElementRecord) -> Option<Event> {
    let place = Place { node: row.node as usize, element: row.element as usize };
    let ended = Ended {
        id: *row.attempts.last()?,
        ending: row.ending,
        started_ns: row.started_ns,
        ended_ns: row.ended_ns,
    };
    let attempt = row.attempts.len() as u32;
    Some((row.ended_ns, attempt, place, Known::Ended { ended, earlier: row.attempts }))
}

fn of_job(job: &Job) -> Vec<Event> {
    let Some(part) = job.spec.part else { return Vec::new() };
    let place = Place { node: part.node as usize, element: part.element as usize };
    let (id, attempt, times) = (job.id, part.attempt, &job.times);
    if let State::Finished(ending) = &job.state {
        let ended = Ended {
            id,
            ending: ending.clone(),
            started_ns: times.started_ns.filter(|_| ending.reason != ExitReason::StartFailed),
            ended_ns: times.ended_ns.unwrap_or(times.created_ns),
        };
        return vec![(ended.ended_ns, attempt, place, Known::Ended { ended, earlier: Vec::new() })];
    }
    let scheduled = job.state == State::Scheduled;
    let submitted = (times.created_ns, attempt, place, Known::Submitted { id, scheduled });
    let running = times.started_ns.map(|at_ns| (at_ns, attempt, place, Known::Running { id, at_ns }));
    [Some(submitted), running].into_iter().flatten().collect()
}
