//! The network of a job: a namespace, and the address and the wire that it may have there.

use std::os::fd::{AsFd, OwnedFd};

use log::Level;

use super::wiring::Lead;
use super::{Adoption, Asked, Kind, Named, Node, StartError, Supply};
use crate::diag;
use crate::job::{JobId, NetRate, NetworkMode, WireLease};
use crate::network::{Lease, Range};
use crate::sandbox::{self, Init};
use crate::sys::pidfd::network_namespace;

/// Network namespaces that are kept for next jobs; others are left to the kernel.
const KEPT_MAX: usize = 256;

/// Addresses that a network must have free for each warm sandbox, beside one for each job that may come: those of jobs that
/// have ended come back a little after their slots.
const ROOM: usize = 4;

/// Where a job's network comes from.
#[derive(Debug)]
pub(in crate::daemon) enum NetworkSource {
    /// A new namespace.
    New,
    /// A namespace that an earlier job left clean.
    Kept(OwnedFd),
    /// A new namespace with a wire of this rate, for which the lease is reserved.
    Wired(Lease, NetRate),
    /// The host's namespace.
    Host,
}

impl NetworkSource {
    /// Whether there is to be a wire.
    pub(in crate::daemon) fn is_wired(&self) -> bool {
        matches!(self, NetworkSource::Wired(..))
    }

    /// The part of it that the job holds from now on.
    pub(in crate::daemon) fn held(&self) -> Option<Network> {
        match self {
            NetworkSource::Wired(lease, _) => Some(Network::wired(lease.clone())),
            _ => None,
        }
    }

    /// The rate that its wire gets.
    pub(in crate::daemon) fn rate(&self) -> NetRate {
        match self {
            NetworkSource::Wired(_, rate) => *rate,
            _ => NetRate::default(),
        }
    }

    /// The same with a rate, where there is to be a wire.
    pub(in crate::daemon) fn with_rate(self, rate: NetRate) -> Self {
        match self {
            NetworkSource::Wired(lease, _) => NetworkSource::Wired(lease, rate),
            other => other,
        }
    }

    /// The wire, if there is to be one.
    pub(super) fn lead(&self, node: &Node, id: JobId, hostname: &str) -> Result<Option<Lead>, StartError> {
        let NetworkSource::Wired(lease, rate) = self else { return Ok(None) };
        let note = node.egress.make_note(id)?;
        let lead = node.wiring.lead(lease, hostname, *rate, note);
        lead.map(Some).map_err(|why| StartError::from(format!("network setup failed: {why}")))
    }

    /// The same for the sandbox, which borrows it for the clone.
    pub(super) fn as_network<'a>(&'a self, lead: Option<&'a Lead>) -> sandbox::Network<'a> {
        match (self, lead) {
            (_, Some(lead)) => sandbox::Network::Wired(lead.as_wire()),
            (NetworkSource::Kept(namespace), None) => sandbox::Network::Kept(namespace.as_fd()),
            (NetworkSource::Host, None) => sandbox::Network::Host,
            (NetworkSource::New | NetworkSource::Wired(..), None) => sandbox::Network::Own,
        }
    }
}

/// The network that a job holds.
#[derive(Debug)]
pub(in crate::daemon) enum Network {
    /// A namespace that may be used again.
    Kept(OwnedFd),
    /// An address and a wire.
    Wired {
        /// The lease that the job has, or is about to have.
        lease: Lease,
        /// The address that the wire had before, until the kernel has taken it away.
        old: Option<Lease>,
    },
}

impl Network {
    fn wired(lease: Lease) -> Self {
        Network::Wired { lease, old: None }
    }

    /// The lease that the wire has before its job gets another one.
    pub(in crate::daemon) fn old(&self) -> Option<&Lease> {
        match self {
            Network::Wired { old, .. } => old.as_ref(),
            Network::Kept(_) => None,
        }
    }

    /// The address and the wire, if it has any.
    pub(in crate::daemon) fn lease(&self) -> Option<&Lease> {
        match self {
            Network::Wired { lease, .. } => Some(lease),
            Network::Kept(_) => None,
        }
    }

    /// The same as it is recorded.
    pub(in crate::daemon) fn recorded(&self) -> Option<WireLease> {
        let Lease { network, address, wire, ipv6, .. } = self.lease()?;
        Some(WireLease { network: network.clone(), address: *address, wire: *wire, ipv6: *ipv6 })
    }
}

/// The network of a job that was created. A namespace that is not kept is new for the next job.
pub(super) fn acquire(source: NetworkSource, init: &Init, reuse: bool) -> Option<Network> {
    match source {
        NetworkSource::Kept(namespace) => Some(Network::Kept(namespace)),
        NetworkSource::New if reuse => {
            network_namespace(init.pidfd.as_fd(), init.pid).ok().map(Network::Kept)
        }
        NetworkSource::Wired(lease, _) => Some(Network::wired(lease)),
        NetworkSource::New | NetworkSource::Host => None,
    }
}

/// Network namespaces in which nothing is left of the jobs that had them.
#[derive(Debug, Default)]
pub(in crate::daemon) struct KeptNetworks(Vec<OwnedFd>);

impl KeptNetworks {
    /// Where a job without a network gets its namespace from.
    pub(in crate::daemon) fn own(&mut self) -> NetworkSource {
        self.0.pop().map_or(NetworkSource::New, NetworkSource::Kept)
    }

    /// Keeps a namespace for a next job.
    pub(in crate::daemon) fn keep(&mut self, namespace: OwnedFd) {
        if self.0.len() < KEPT_MAX {
            self.0.push(namespace);
        }
    }
}

impl Supply {
    /// The range of a mode that has a wire.
    pub(super) fn range(&self, mode: &NetworkMode) -> Option<Range> {
        self.addresses.range(mode.as_str()).filter(|_| mode.is_wired())
    }

    /// Why no job can have this network: there is none of that name, or not yet or not any more.
    pub(in crate::daemon) fn lacks_network(&self, mode: &NetworkMode) -> Option<String> {
        (!self.networks.takes_jobs(mode)).then(|| {
            let name = mode.as_str();
            format!(
                "network \"{name}\" does not exist; make it with: rnx network create {name} --cidr 10.50.0.0/16, or \
                 choose one of: rnx network list"
            )
        })
    }

    /// The network of warm sandboxes with a wire, where the last such job had this one: it, unless the sandboxes could take
    /// addresses that `jobs` more jobs need. They can have an address of any network.
    pub(in crate::daemon) fn warm_network(
        &self,
        usual: &NetworkMode,
        sandboxes: usize,
        jobs: usize,
    ) -> Option<NetworkMode> {
        let has_room = |mode: &NetworkMode| {
            let free = self.addresses.free(mode.as_str()).unwrap_or(0);
            self.networks.takes_jobs(mode) && free > jobs + ROOM * sandboxes
        };
        [usual.clone(), NetworkMode::Bridge, NetworkMode::Isolated].into_iter().find(has_room)
    }

    /// Gives a warm sandbox of one network an address of another.
    ///
    /// # Errors
    /// No address of that network is free; the sandbox is as it was.
    pub(in crate::daemon) fn renew(&mut self, held: &mut Network, mode: &NetworkMode) -> Result<(), String> {
        let Network::Wired { lease, old } = held else { return Err("it has no wire".to_owned()) };
        let new = self.addresses.renew(lease, mode.as_str()).map_err(|why| why.to_string())?;
        *old = Some(std::mem::replace(lease, new));
        Ok(())
    }

    /// Gives the address back that a wire had before, once its start is over.
    pub(in crate::daemon) fn release_old(&mut self, held: &mut Network) {
        if let Network::Wired { old, .. } = held
            && let Some(old) = old.take()
        {
            self.addresses.release_address(&old);
        }
    }

    /// Where a job of this mode gets its network from.
    ///
    /// # Errors
    /// No address of that network is free, or no wire.
    pub(in crate::daemon) fn network(&mut self, mode: &NetworkMode) -> Result<NetworkSource, String> {
        match mode {
            NetworkMode::Host => Ok(NetworkSource::Host),
            NetworkMode::None => Ok(self.namespaces.own()),
            NetworkMode::Isolated | NetworkMode::Bridge | NetworkMode::Custom(_) => {
                let lease = self.addresses.lease(mode.as_str()).map_err(|why| why.to_string())?;
                let lease = Lease { ipv6: self.ipv6.is_on(), ..lease };
                Ok(NetworkSource::Wired(lease, NetRate::default()))
            }
        }
    }
}

/// The sentence of the clone, with which a job gets its namespaces.
pub(super) fn explain_clone(node: &Node, mode: &NetworkMode) -> String {
    let namespaces = match mode {
        NetworkMode::Host => {
            "pid, mount, ipc, uts and cgroup namespaces, in the host's network (mode host)".to_owned()
        }
        mode => {
            let mode = mode.as_str();
            format!("pid, mount, ipc, uts, cgroup and network namespaces (network mode {mode})")
        }
    };
    // Known only when there is a job.
    let or = if *mode == NetworkMode::None && node.reuse_networks {
        ", or a network namespace that a finished job left clean"
    } else {
        ""
    };
    format!("clone PID 1 into the group, in new {namespaces}{or}")
}

impl Kind for Network {
    const NAME: &'static str = "network";
    const STEP: Named = Ok("bring the loopback interface up");
    const LAYER: Named = Ok("namespace.net");

    fn explain(node: &Node, asked: &Asked<'_>) -> Vec<String> {
        let mode = &asked.spec.network;
        let mut plan = Vec::new();
        if let Some(range) = asked.supply.range(mode) {
            let name = mode.as_str();
            let too = if asked.supply.ipv6.is_on() { ", its IPv6 address" } else { "" };
            plan.push(format!(
                "lease an address of network {name}, {range}{too}, and a wire into the router"
            ));
        }
        if let Some(list) = &asked.spec.egress {
            plan.push(format!("let the job reach outside only {}", list.texts().join(", ")));
        }
        if !asked.spec.rate.is_unlimited() && node.rates.is_ok() {
            plan.push(format!("limit the rate of the wire: {}", asked.spec.rate));
        }
        plan
    }

    fn adopt(from: &mut Adoption<'_>) -> Option<Self> {
        // Whether an earlier daemon would have used a namespace again is not recorded: the kernel takes it.
        let WireLease { network, address, wire, ipv6 } = from.wire.clone()?;
        let Some(range) = from.supply.addresses.range(&network) else {
            diag::event!(
                Level::Warn,
                "a job's network is not configured any more",
                jobId = from.id,
                network = network
            );
            return None;
        };
        let lease = Lease { network, range, address, wire, again: false, ipv6 };
        let reserved = from.supply.addresses.reserve(&lease);
        if let Err(why) = &reserved {
            diag::event!(Level::Warn, "cannot reserve a job's address", jobId = from.id, error = why);
        }
        reserved.ok().map(|()| Network::wired(lease))
    }
}
