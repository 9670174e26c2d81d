//! ChangeEgress: another list for a running job. The loop decides on the list, the inspection thread puts it into force,
//! and the loop records it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use log::Level;

use super::request::{Answer, CommandError, EgressWish};
use crate::daemon::core::Core;
use crate::daemon::egress::EgressChange;
use crate::daemon::jobs::Job;
use crate::daemon::lifecycle::save;
use crate::daemon::provision::Network;
use crate::diag;
use crate::job::egress::List;
use crate::job::{ClientId, JobId, JobRef, State};

/// Changes the list of a job, or shows it where nothing is wished.
pub(super) fn handle(
    core: &mut Core,
    wanted: &JobRef,
    wish: EgressWish,
    answer: Answer<(JobId, Vec<String>)>,
) {
    if let Some(why) = core.streams.inspection().is_full() {
        let _ = answer.send(Err(CommandError::Exhausted(why)));
        return;
    }
    let decided = core.jobs.find(wanted).and_then(|job| {
        if wish.add.is_empty() && wish.remove.is_empty() {
            return Ok((job.id, None));
        }
        decide(job, &wish).map(|decided| (job.id, Some(decided)))
    });
    match decided {
        Err(why) => drop(answer.send(Err(why))),
        Ok((id, None)) => drop(answer.send(Ok((id, shown(core, id))))),
        Ok((id, Some((address, list)))) => {
            if let Some(job) = core.jobs.get_mut(id) {
                job.reach.changing = true;
            }
            let (node, report) = (core.node.clone(), core.streams.report().clone());
            let before = core.jobs.get(id).and_then(Job::list).cloned();
            core.streams.inspection().run(move || {
                // Names that are not allowed any more are in the router by their addresses.
                let narrows = !wish.remove.is_empty() || wish.add.iter().any(|text| text.starts_with('!'));
                // Front first, so that it opens nothing by the old list; and again, because it remembers what it has opened.
                node.resolver.set_list(address, Some(&list));
                let result = node.egress.change(&node.wiring, address, &list, narrows);
                let kept = if result.is_ok() { Some(&*list) } else { before.as_ref() };
                node.resolver.set_list(address, kept);
                let result = result.map_err(|why| why.to_string());
                report.egress_changed(EgressChange { id, list, wish, result, answer });
            });
        }
    }
}

/// The list that a job has from now on, and its address.
fn decide(job: &Job, wish: &EgressWish) -> Result<(Ipv4Addr, Arc<List>), CommandError> {
    let wrong = |why: String| Err(CommandError::WrongState(why));
    if job.reach.changing {
        return Err(CommandError::Exhausted(format!(
            "the egress list of job {} is being changed; try again",
            job.id
        )));
    }
    let running = matches!(job.state, State::Running | State::StopRequested(_) | State::Stopping(_));
    if !running {
        let status = job.status().as_str();
        return wrong(format!("job is not running: {} (current status: {status})", job.id));
    }
    let Some(lease) = job.held.network.as_ref().and_then(Network::lease) else {
        let mode = job.spec.network.as_str();
        return wrong(format!("job {} has no egress list: its network is \"{mode}\"", job.id));
    };
    let none = List::default();
    let list = job.list().unwrap_or(&none);
    let changed = list
        .changed(&wish.add, &wish.remove)
        .and_then(|list| wish.maximum.as_ref().map_or(Ok(()), |maximum| list.within(maximum)).map(|()| list));
    let changed = changed.map_err(|why| CommandError::WrongState(why.to_string()))?;
    Ok((lease.address, Arc::new(changed)))
}

fn shown(core: &Core, id: JobId) -> Vec<String> {
    let Some(job) = core.jobs.get(id) else { return Vec::new() };
    let list = job.reach.changed.as_deref().or(job.spec.egress.as_ref());
    list.map(|list| list.texts().to_vec()).unwrap_or_default()
}

/// A change is in force: it is recorded and logged. Or it was refused, and the list is as before.
pub(in crate::daemon) fn on_changed(core: &mut Core, change: EgressChange) {
    let EgressChange { id, list, wish, result, answer } = change;
    if let Some(job) = core.jobs.get_mut(id) {
        job.reach.changing = false;
    }
    if let Err(why) = result {
        let _ =
            answer.send(Err(CommandError::SetUp(format!("the egress list of job {id} is as before: {why}"))));
        return;
    }
    log_change(id, wish.client, &wish);
    if let Some(job) = core.jobs.get_mut(id) {
        job.reach.changed = Some(list.clone());
        save(core, id);
    }
    let _ = answer.send(Ok((id, list.texts().to_vec())));
}

fn log_change(id: JobId, client: ClientId, wish: &EgressWish) {
    diag::event!(
        Level::Info,
        "egress list changed",
        jobId = id,
        client = client,
        added = wish.add.join(","),
        removed = wish.remove.join(",")
    );
}
