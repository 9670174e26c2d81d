//! The network namespace of a job.

use std::os::fd::{AsFd, OwnedFd};

use super::{Adoption, Asked, Kind, Node};
use crate::job::NetworkMode;
use crate::sandbox::{self, Init};
use crate::sys::pidfd::network_namespace;

/// Network namespaces that are kept for next jobs; others are left to the kernel.
const KEPT_MAX: usize = 256;

/// Where a job's network comes from.
#[derive(Debug)]
pub(in crate::daemon) enum NetworkSource {
    /// A new namespace.
    New,
    /// A namespace that an earlier job left clean.
    Kept(OwnedFd),
    /// The host's namespace.
    Host,
}

impl NetworkSource {
    /// The same for the sandbox, which borrows it for the clone.
    pub(super) fn as_network(&self) -> sandbox::Network<'_> {
        match self {
            NetworkSource::New => sandbox::Network::Own,
            NetworkSource::Kept(namespace) => sandbox::Network::Kept(namespace.as_fd()),
            NetworkSource::Host => sandbox::Network::Host,
        }
    }
}

/// A network namespace that may be used again.
#[derive(Debug)]
pub(in crate::daemon) struct Network(OwnedFd);

impl Network {
    /// The namespace, to be looked into and kept.
    pub(super) fn into_namespace(self) -> OwnedFd {
        self.0
    }
}

/// The namespace of a job that was created, if it may be used again. Without it the next one is new.
pub(super) fn acquire(source: NetworkSource, init: &Init, reuse: bool) -> Option<Network> {
    match source {
        NetworkSource::Kept(namespace) => Some(Network(namespace)),
        NetworkSource::New if reuse => network_namespace(init.pidfd.as_fd(), init.pid).ok().map(Network),
        NetworkSource::New | NetworkSource::Host => None,
    }
}

/// Network namespaces in which nothing is left of the jobs that had them.
#[derive(Debug, Default)]
pub(in crate::daemon) struct KeptNetworks(Vec<OwnedFd>);

impl KeptNetworks {
    /// Where a job of this mode gets its network from.
    pub(in crate::daemon) fn source(&mut self, mode: NetworkMode) -> NetworkSource {
        match mode {
            NetworkMode::Host => NetworkSource::Host,
            NetworkMode::None => self.0.pop().map_or(NetworkSource::New, NetworkSource::Kept),
        }
    }

    /// Keeps a namespace for a next job.
    pub(in crate::daemon) fn keep(&mut self, namespace: OwnedFd) {
        if self.0.len() < KEPT_MAX {
            self.0.push(namespace);
        }
    }
}

impl Kind for Network {
    const NAME: &'static str = "network";
    const STEP: &'static str = "bring the loopback interface up";
    const LAYER: &'static str = "namespace.net";

    fn explain(node: &Node, asked: &Asked<'_>) -> Vec<String> {
        let namespaces = match asked.spec.network {
            NetworkMode::None => "pid, mount, ipc, uts, cgroup and network namespaces (network mode none)",
            NetworkMode::Host => {
                "pid, mount, ipc, uts and cgroup namespaces, in the host's network (mode host)"
            }
        };
        // Known only when there is a job.
        let or = if asked.spec.network == NetworkMode::None && node.reuse_networks {
            ", or a network namespace that a finished job left clean"
        } else {
            ""
        };
        vec![format!("clone PID 1 into the group, in new {namespaces}{or}")]
    }

    fn adopt(_: &mut Adoption<'_>) -> Option<Self> {
        // Whether an earlier daemon would have used it again is not recorded: the kernel takes it.
        None
    }
}
