//! The names of a job, which the resolver knows as long as it has its address.

use std::net::Ipv4Addr;

use super::{Adoption, Asked, Kind, Named, Node};
use crate::daemon::resolver::Resolver;
use crate::job::JobId;
use crate::network::Lease;
use crate::network::egress::List;

/// The entry of one job in the resolver. It is forgotten with [`Names::forget`] alone: where the daemon ends and its jobs go
/// on, the resolver goes on to know them.
#[derive(Debug)]
#[must_use = "the resolver knows the job until this is forgotten"]
pub(in crate::daemon) struct Names {
    resolver: Resolver,
    address: Ipv4Addr,
}

impl Names {
    /// Makes a job's names and its list known, before its payload runs; `None` where its network is gone.
    pub(in crate::daemon) fn make(
        node: &Node,
        id: JobId,
        name: &str,
        lease: &Lease,
        list: Option<&List>,
    ) -> Option<Self> {
        let is_known = node.wiring.name(id, name, lease, list);
        is_known.then(|| Names { resolver: node.resolver.clone(), address: lease.address })
    }

    /// Takes it out.
    pub(super) fn forget(self) {
        self.resolver.forget(self.address);
    }
}

impl Kind for Names {
    const NAME: &'static str = "names";
    const STEP: Named = Ok("make the job's names known to the resolver");
    const LAYER: Named = Ok("network.resolver");

    fn explain(node: &Node, asked: &Asked<'_>) -> Vec<String> {
        let is_wired = asked.supply.range(&asked.spec.network).is_some();
        is_wired.then(|| node.resolver.explain(node.tree.path())).into_iter().collect()
    }

    fn adopt(_: &mut Adoption<'_>) -> Option<Self> {
        // Known again when its router is: a job that has ended has none in the resolver of this daemon.
        None
    }
}
