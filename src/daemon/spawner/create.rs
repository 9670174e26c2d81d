//! Creating a sandbox: the first, long half of a start.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use log::Level;

use super::{Spawner, StartError};
use crate::daemon::provision::{Acquired, Identity, Network, NetworkSource, Resources, RootWish};
use crate::diag;
use crate::job::{JobId, Limits, NetRate, NetworkMode, Profile, User};
use crate::output::{JobOutput, Release, Watermark};
use crate::sandbox::{CloneContext, Init, RuntimeRoot, SandboxError};
use crate::sys::netlink::Socket;

/// A sandbox to create.
#[derive(Debug)]
pub(in crate::daemon) struct CreateRequest {
    /// The id that its job has or will have.
    pub(in crate::daemon) id: JobId,
    /// Limits that are in force from the start.
    pub(in crate::daemon) limits: Limits,
    /// Where its network comes from.
    pub(in crate::daemon) network: NetworkSource,
    /// Its root; `None`: the host's paths.
    pub(in crate::daemon) root: Option<Arc<RuntimeRoot>>,
    /// Whether its job may write that.
    pub(in crate::daemon) writable: bool,
    /// The resources that it holds already: its identity.
    pub(in crate::daemon) held: Resources,
    /// How far its output has come.
    pub(in crate::daemon) output: Arc<Watermark>,
}

/// A sandbox that waits for its job: everything that a job needs, and a joblet-init behind finished walls.
#[derive(Debug)]
pub(in crate::daemon) struct WarmSandbox {
    /// The id of the job that takes it.
    pub(in crate::daemon) id: JobId,
    /// Limits in force.
    pub(in crate::daemon) limits: Limits,
    /// How far its output has come.
    pub(in crate::daemon) output: Arc<Watermark>,
    /// Its PID 1, which waits for a payload.
    pub(in crate::daemon) init: Init,
    /// The root of its /work, to be filled.
    pub(in crate::daemon) work: OwnedFd,
    /// The resources that it holds.
    pub(in crate::daemon) held: Resources,
    /// Its root; `None`: the host's paths.
    pub(in crate::daemon) root: Option<Arc<RuntimeRoot>>,
    /// Whether its job may write that.
    pub(in crate::daemon) writable: bool,
    /// The rate of its wire, if it has one.
    pub(in crate::daemon) rate: NetRate,
    /// A socket of its network namespace, where it was made ahead and has a wire: its job may have another network.
    pub(in crate::daemon) inside: Option<Socket>,
}

impl WarmSandbox {
    /// Whether it has a wire, which nobody can take from it.
    pub(in crate::daemon) fn is_wired(&self) -> bool {
        self.held.network.as_ref().and_then(Network::lease).is_some()
    }

    /// The network of its job.
    pub(in crate::daemon) fn network(&self) -> Option<NetworkMode> {
        match self.held.network.as_ref().and_then(Network::lease) {
            Some(lease) => lease.network.parse().ok(),
            None => Some(NetworkMode::None),
        }
    }

    /// Whether a job of this network and rate can have it: with a socket inside its wire can get another address, and a
    /// limit or another one. None is ever taken away: it is the node's.
    pub(in crate::daemon) fn suits(&self, network: &NetworkMode, rate: NetRate) -> bool {
        let is_there = self.network().as_ref() == Some(network) && self.rate == rate;
        is_there || (network.is_wired() && self.is_wired() && self.inside.is_some())
    }

    /// Whether a job of this user and profile, of so many processes, can have it. Only with one id can the number change.
    pub(in crate::daemon) fn is_for(&self, user: User, profile: Profile, pids: u32) -> bool {
        let is_its = |identity: &Identity| identity.user() == user && identity.profile() == profile;
        let counts = profile == Profile::Strict || self.limits.pids == pids;
        counts && self.held.identity.as_ref().is_some_and(is_its)
    }
}

/// A sandbox that could not be created.
#[derive(Debug)]
pub(in crate::daemon) struct CreateError {
    /// The id that its job would have had.
    pub(in crate::daemon) id: JobId,
    /// The resources that it had acquired.
    pub(in crate::daemon) held: Resources,
    /// The reason for its client.
    pub(in crate::daemon) why: StartError,
}

impl Spawner {
    /// Creates a sandbox ahead of its job.
    pub(super) fn create_ahead(
        &self,
        context: &mut Result<CloneContext, SandboxError>,
        request: Box<CreateRequest>,
    ) -> Result<WarmSandbox, Box<CreateError>> {
        let mut sandbox = self.create(context, request)?;
        if sandbox.is_wired() {
            match self.node.wiring.inside(&sandbox.init) {
                Ok(socket) => sandbox.inside = Some(socket),
                // It is still good for a job of its network.
                Err(why) => diag::limited!(Level::Warn, "a warm sandbox has one network only", error = why),
            }
        }
        Ok(sandbox)
    }

    /// Creates a sandbox. Its output goes to the collector from now on.
    pub(super) fn create(
        &self,
        context: &mut Result<CloneContext, SandboxError>,
        request: Box<CreateRequest>,
    ) -> Result<WarmSandbox, Box<CreateError>> {
        let CreateRequest { id, limits, network, root, writable, mut held, output } = *request;
        let rate = network.rate();
        let acquired = match context {
            Ok(context) => {
                let root = RootWish { root: root.as_deref(), writable };
                held.acquire(&self.node, context, id, &limits, network, root)
            }
            Err(why) => Err(StartError::from(&*why)),
        };
        match acquired {
            Ok(Acquired { init, stdout, stderr, work, spool }) => {
                let release = Arc::new(Release { control: init.control.clone(), wake: None });
                let watermark = output.clone();
                self.collector.add(JobOutput {
                    id,
                    stdout,
                    stderr,
                    release: Some(release),
                    spool,
                    watermark,
                });
                Ok(WarmSandbox { id, limits, output, init, work, held, root, writable, rate, inside: None })
            }
            Err(why) => Err(Box::new(CreateError { id, held, why })),
        }
    }
}
