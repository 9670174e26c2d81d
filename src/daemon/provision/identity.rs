//! The host ids of a job, and the user namespace in which they alone exist.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Adoption, Asked, Kind, Named, Node, StartError};
use crate::job::{CONTAINER_IDS, Profile, User};
use crate::sandbox::create::{user_namespace, volume_map};
use crate::sandbox::identity::Lease;

/// Leased host ids, and the user that the job is inside.
#[derive(Debug)]
pub(in crate::daemon) struct Identity {
    lease: Lease,
    user: User,
    profile: Profile,
}

impl Identity {
    /// The identity of a job of this user and profile that gets this lease.
    pub(in crate::daemon) fn new(lease: Lease, user: User, profile: Profile) -> Self {
        Identity { lease, user, profile }
    }

    /// The user that the job is inside.
    pub(in crate::daemon) fn user(&self) -> User {
        self.user
    }

    /// The profile of its walls.
    pub(in crate::daemon) fn profile(&self) -> Profile {
        self.profile
    }

    /// The uid and gid on the host, one number; the first where it has many.
    pub(in crate::daemon) fn host_id(&self) -> u32 {
        self.lease.id
    }

    /// The uid and gid on the host of its user: the owner of /work and of the files there.
    pub(in crate::daemon) fn owner(&self) -> u32 {
        match self.profile {
            Profile::Strict => self.lease.id,
            Profile::Container => self.lease.id + self.user.id(),
        }
    }

    /// The uid and gid on the host of root inside, or of its one user: the owner of a root that it may write.
    pub(in crate::daemon) fn root(&self) -> u32 {
        self.lease.id
    }

    /// The user namespace whose root owns what belongs to root in the layers of a runtime. A job of one id has these files as
    /// its own, whichever number it has inside.
    pub(super) fn layers(&mut self, pids: u32) -> Result<Arc<OwnedFd>, StartError> {
        let made = user_namespace(&mut self.lease, User::Root, self.profile, pids);
        made.map_err(|e| StartError::from(&e))
    }

    /// The lease, to be given back.
    pub(super) fn into_lease(self) -> Lease {
        self.lease
    }

    /// The user namespace for a job of so many processes, made once and kept by the lease for its next job.
    pub(super) fn namespace(&mut self, pids: u32) -> Result<Arc<OwnedFd>, StartError> {
        let made = user_namespace(&mut self.lease, self.user, self.profile, pids);
        made.map_err(|e| StartError::from(&e))
    }
}

impl Identity {
    /// The map of its volumes' owners to the host ids, made once and kept by the lease for its next job.
    pub(super) fn volume_map(&mut self) -> Result<Arc<OwnedFd>, StartError> {
        volume_map(&mut self.lease, self.profile).map_err(|e| StartError::from(&e))
    }
}

impl Kind for Identity {
    const NAME: &'static str = "identity";
    const STEP: Named = Ok("join the leased user namespace");
    const LAYER: Named = Ok("ids.uid");

    fn explain(_: &Node, asked: &Asked<'_>) -> Vec<String> {
        let ids = asked.supply.identities.shown();
        vec![match asked.spec.profile {
            Profile::Strict => format!(
                "lease one host id of {ids}, with a user namespace in which it alone exists, as {}",
                asked.spec.user.id()
            ),
            Profile::Container => format!(
                "lease {CONTAINER_IDS} host ids of {ids}, with a user namespace in which they alone exist, as 0 to {}",
                CONTAINER_IDS - 1
            ),
        }]
    }

    fn adopt(from: &mut Adoption<'_>) -> Option<Self> {
        let lease = from.supply.identities.reserve(from.host_id?, from.spec.profile.ids())?;
        Some(Identity::new(lease, from.spec.user, from.spec.profile))
    }
}
