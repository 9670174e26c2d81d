//! The things of a node that the jobs of a file name, each once: so nobody goes through ten thousand jobs to look a few up.

use std::collections::HashMap;
use std::hash::Hash;

use super::entry::WorkflowJob;
use crate::job::{GpuWish, RuntimeSpec, VolumeUse};

/// Things of the node that jobs name: each once, with the number of the first job that names it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// Networks that they name.
    pub networks: Vec<(usize, String)>,
    /// Volumes, with the use that the job makes of each.
    pub volumes: Vec<(usize, VolumeUse)>,
    /// Runtimes; twice where jobs may write their root and others not.
    pub runtimes: Vec<(usize, RuntimeSpec)>,
    /// Wishes for GPUs.
    pub gpus: Vec<(usize, GpuWish)>,
    /// For each job the places of what it names, in the lists above.
    pub of: Vec<NeedsOf>,
}

/// The names of one job, by the places in [`Needs`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NeedsOf {
    /// Its network; `None`: the usual one.
    pub network: Option<usize>,
    /// The volumes that it names.
    pub volumes: Vec<usize>,
    /// The runtime that it names.
    pub runtime: Option<usize>,
}

impl Needs {
    /// The names in these jobs.
    pub(super) fn of(jobs: &[WorkflowJob]) -> Needs {
        let mut needs = Needs::default();
        let (mut networks, mut volumes) = (HashMap::new(), HashMap::new());
        let (mut runtimes, mut gpus) = (HashMap::new(), HashMap::new());
        for (n, job) in jobs.iter().enumerate() {
            let network = job
                .network
                .as_ref()
                .map(|name| place(&mut networks, name.as_str(), || needs.networks.push((n, name.clone()))));
            let of_volume = |used: &VolumeUse| {
                place(&mut volumes, used.name.to_string(), || needs.volumes.push((n, used.clone())))
            };
            let of_volumes = job.volumes.iter().map(of_volume).collect();
            let runtime = job.runtime.as_ref().map(|asked| {
                let key = (asked.to_string(), job.writable);
                place(&mut runtimes, key, || needs.runtimes.push((n, asked.clone())))
            });
            if let Some(wish) = job.resources.gpus {
                place(&mut gpus, wish, || needs.gpus.push((n, wish)));
            }
            needs.of.push(NeedsOf { network, volumes: of_volumes, runtime });
        }
        needs
    }
}

/// The place of a key; a new one is added behind all others.
fn place<K: Hash + Eq>(places: &mut HashMap<K, usize>, key: K, add: impl FnOnce()) -> usize {
    let next = places.len();
    *places.entry(key).or_insert_with(|| {
        add();
        next
    })
}
