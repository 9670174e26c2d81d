//! The needs of a workflow's jobs that are not submitted yet, counted along: a client that asks for networks or volumes
//! has nobody go through all jobs of all workflows.

use crate::job::RuntimeSpec;
use crate::workflow::{Needs, NeedsOf};

/// Elements that are not submitted, by what they need. The counts of things stand at their places in the file's [`Needs`].
#[derive(Debug, Default)]
pub(super) struct Awaited {
    usual_network: usize,
    networks: Vec<usize>,
    volumes: Vec<usize>,
    runtimes: Vec<usize>,
}

impl Awaited {
    /// Nothing of this file is awaited.
    pub(super) fn new(needs: &Needs) -> Awaited {
        Awaited {
            usual_network: 0,
            networks: vec![0; needs.networks.len()],
            volumes: vec![0; needs.volumes.len()],
            runtimes: vec![0; needs.runtimes.len()],
        }
    }

    /// So many elements of a job with these needs were awaited, and so many are now.
    pub(super) fn change(&mut self, of: &NeedsOf, was: usize, is: usize) {
        // The old number is in the count.
        let put = |count: &mut usize| *count = *count + is - was;
        match of.network {
            Some(at) => put(&mut self.networks[at]),
            None => put(&mut self.usual_network),
        }
        of.volumes.iter().for_each(|at| put(&mut self.volumes[*at]));
        of.runtime.iter().for_each(|at| put(&mut self.runtimes[*at]));
    }

    /// The networks; `None`: the usual one.
    pub(super) fn networks<'n>(&self, needs: &'n Needs) -> impl Iterator<Item = (Option<&'n str>, usize)> {
        let named = needs.networks.iter().map(|(_, name)| Some(name.as_str()));
        let counted = named.zip(self.networks.iter().copied());
        std::iter::once((None, self.usual_network)).chain(counted).filter(|(_, count)| *count > 0)
    }

    /// The volumes that the jobs want, and how many want each.
    pub(super) fn volumes<'n>(&self, needs: &'n Needs) -> impl Iterator<Item = (&'n str, usize)> {
        let named = needs.volumes.iter().map(|(_, used)| used.name.as_str());
        named.zip(self.volumes.iter().copied()).filter(|(_, count)| *count > 0)
    }

    /// The runtimes, as the file names them; one may come up twice.
    pub(super) fn runtimes<'n>(&self, needs: &'n Needs) -> impl Iterator<Item = (&'n RuntimeSpec, usize)> {
        let named = needs.runtimes.iter().map(|(_, asked)| asked);
        named.zip(self.runtimes.iter().copied()).filter(|(_, count)| *count > 0)
    }
}
