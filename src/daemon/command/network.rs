//! NetworkService: networks that clients make, and the jobs in each.

use std::collections::HashMap;

use super::request::{Answer, CommandError, NetworkJobView, NetworkView};
use crate::daemon::core::Core;
use crate::daemon::jobs::Job;
use crate::daemon::lifecycle::discard_of_network;
use crate::daemon::networks::{Users, unknown};
use crate::job::NetworkName;
use crate::network::ipv6::image;

/// Has a network made.
pub(super) fn create(
    core: &mut Core,
    name: NetworkName,
    cidr: &str,
    internal: bool,
    answer: Answer<NetworkView>,
) {
    if core.shutdown.has_begun() {
        let _ = answer.send(Err(CommandError::ShuttingDown));
        return;
    }
    core.supply.networks_mut().create(name, cidr, internal, answer);
}

/// Has a network removed that no job has, also none that waits for its start or in a workflow.
pub(super) fn remove(core: &mut Core, name: &str, answer: Answer<()>) {
    if core.shutdown.has_begun() {
        let _ = answer.send(Err(CommandError::ShuttingDown));
        return;
    }
    let users = Users { jobs: jobs_of(core, name).count(), in_workflows: in_workflows(core, name) };
    core.supply.networks_mut().remove(name, users, answer);
    discard_of_network(core, name);
}

/// The networks that are there, with the numbers of their jobs.
pub(super) fn list(core: &Core, answer: Answer<Vec<NetworkView>>) {
    let mut jobs: HashMap<&str, usize> = HashMap::new();
    for job in core.jobs.iter_live() {
        *jobs.entry(job.spec.network.as_str()).or_default() += 1;
    }
    for (network, count) in core.workflows.awaited_networks() {
        *jobs.entry(network).or_default() += count;
    }
    let with_jobs = |network: NetworkView| NetworkView {
        jobs: jobs.get(network.name.as_str()).copied().unwrap_or(0),
        ..network
    };
    let _ = answer.send(Ok(core.supply.networks().list().map(with_jobs).collect()));
}

/// One network, and its jobs, oldest first; those that wait in workflows are counted only.
pub(super) fn get(core: &Core, name: &str, answer: Answer<(NetworkView, Vec<NetworkJobView>)>) {
    let found = core.supply.networks().list().find(|network| network.name == name);
    let shown = found.ok_or_else(|| unknown(name)).map(|network| {
        let jobs: Vec<NetworkJobView> = jobs_of(core, name).map(view).collect();
        (NetworkView { jobs: jobs.len() + in_workflows(core, name), ..network }, jobs)
    });
    let _ = answer.send(shown);
}

/// The jobs of workflows that are to have a network and are not submitted yet.
fn in_workflows(core: &Core, name: &str) -> usize {
    core.workflows.awaited_networks().filter(|(network, _)| *network == name).map(|(_, count)| count).sum()
}

/// The jobs that have a network, or wait to have it.
fn jobs_of<'a>(core: &'a Core, name: &'a str) -> impl Iterator<Item = &'a Job> {
    core.jobs.iter_live().filter(move |job| job.spec.network.as_str() == name)
}

fn view(job: &Job) -> NetworkJobView {
    let wire = job.trace.wire.as_ref();
    let address6 = wire.filter(|wire| wire.ipv6).map(|wire| image(wire.address));
    NetworkJobView {
        id: job.id,
        name: job.spec.name.clone(),
        address: wire.map(|wire| wire.address),
        address6,
    }
}
