//! VolumeService: volumes that clients make and remove.

use std::collections::HashMap;

use super::request::{Answer, CommandError};
use super::volume_view::{OpenVolume, VolumeJobView, VolumeView};
use crate::daemon::core::Core;
use crate::daemon::jobs::Job;
use crate::daemon::volumes::unknown;
use crate::job::{VolumeKind, VolumeName};

/// Has a volume made.
pub(super) fn create(
    core: &mut Core,
    name: VolumeName,
    kind: VolumeKind,
    bytes: u64,
    answer: Answer<VolumeView>,
) {
    if core.shutdown.has_begun() {
        let _ = answer.send(Err(CommandError::ShuttingDown));
        return;
    }
    core.supply.volumes_mut().create(name, kind, bytes, answer);
}

/// Has a volume removed that no job has, also none that waits for its start or in a workflow.
pub(super) fn remove(core: &mut Core, name: &str, answer: Answer<()>) {
    if core.shutdown.has_begun() {
        let _ = answer.send(Err(CommandError::ShuttingDown));
        return;
    }
    let jobs = counts(core).get(name).copied().unwrap_or(0);
    core.supply.volumes_mut().remove(name, jobs, answer);
}

/// The volumes that are there, with the numbers of their jobs.
pub(super) fn list(core: &Core, answer: Answer<Vec<VolumeView>>) {
    let jobs = counts(core);
    let with_jobs = |volume: VolumeView| VolumeView {
        jobs: jobs.get(volume.name.as_str()).copied().unwrap_or(0),
        ..volume
    };
    let _ = answer.send(Ok(core.supply.volumes().list().map(with_jobs).collect()));
}

/// One volume, what its files take, and its jobs, oldest first; those that wait in workflows are counted only.
pub(super) fn get(core: &Core, name: &str, answer: Answer<(VolumeView, Vec<VolumeJobView>)>) {
    let volumes = core.supply.volumes();
    let found = volumes.list().find(|volume| volume.name.as_str() == name);
    let Some(volume) = found else { return drop(answer.send(Err(unknown(name)))) };
    let shown = {
        let count = counts(core).get(name).copied().unwrap_or(0);
        let all = core.jobs.iter_live();
        let of_job = |job: &Job| {
            let used = job.spec.volumes.iter().find(|used| used.name.as_str() == name)?;
            let (id, status, read_only) = (job.id, job.state.status(), used.read_only);
            Some(VolumeJobView { id, name: job.spec.name.clone(), status, read_only })
        };
        (VolumeView { jobs: count, ..volume }, all.filter_map(of_job).collect())
    };
    volumes.show(shown, answer);
}

/// Opens a volume to copy its files.
pub(super) fn open(core: &Core, name: &str, answer: Answer<OpenVolume>) {
    let opened = if core.shutdown.has_begun() {
        Err(CommandError::ShuttingDown)
    } else {
        core.supply.volumes().open(name).map(|(volume, copy)| OpenVolume::new(volume, copy))
    };
    let _ = answer.send(opened);
}

/// Has a volume given another size.
pub(super) fn resize(core: &mut Core, name: &str, bytes: u64, answer: Answer<(VolumeView, u64)>) {
    if core.shutdown.has_begun() {
        let _ = answer.send(Err(CommandError::ShuttingDown));
        return;
    }
    core.supply.volumes_mut().resize(name, bytes, answer);
}

/// The number of jobs that have each volume, or wait to have it, also those that workflows have not submitted yet.
fn counts(core: &Core) -> HashMap<&str, usize> {
    let mut jobs = HashMap::new();
    for job in core.jobs.iter_live() {
        for used in &job.spec.volumes {
            *jobs.entry(used.name.as_str()).or_default() += 1;
        }
    }
    for (volume, count) in core.workflows.awaited_volumes() {
        *jobs.entry(volume).or_default() += count;
    }
    jobs
}
