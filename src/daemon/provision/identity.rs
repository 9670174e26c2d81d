//! The host id of a job, and the user namespace in which it alone exists.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Adoption, Asked, Kind, Node, StartError};
use crate::job::User;
use crate::sandbox::create::{user_namespace, volume_map};
use crate::sandbox::identity::Lease;

/// A leased host id, and the user that it is inside.
#[derive(Debug)]
pub(in crate::daemon) struct Identity {
    lease: Lease,
    user: User,
}

impl Identity {
    /// The identity of a job of this user that gets this lease.
    pub(in crate::daemon) fn new(lease: Lease, user: User) -> Self {
        Identity { lease, user }
    }

    /// The user that the job is inside.
    pub(in crate::daemon) fn user(&self) -> User {
        self.user
    }

    /// The uid and gid on the host, one number.
    pub(in crate::daemon) fn host_id(&self) -> u32 {
        self.lease.id
    }

    /// The lease, to be given back.
    pub(super) fn into_lease(self) -> Lease {
        self.lease
    }

    /// The user namespace, made once and kept by the lease for its next job.
    pub(super) fn namespace(&mut self) -> Result<Arc<OwnedFd>, StartError> {
        user_namespace(&mut self.lease, self.user).map_err(|e| StartError::from(&e))
    }
}

impl Identity {
    /// The map of its volumes' owner to the host id, made once and kept by the lease for its next job.
    pub(super) fn volume_map(&mut self) -> Result<Arc<OwnedFd>, StartError> {
        volume_map(&mut self.lease).map_err(|e| StartError::from(&e))
    }
}

impl Kind for Identity {
    const NAME: &'static str = "identity";
    const STEP: &'static str = "join the leased user namespace";
    const LAYER: &'static str = "ids.uid";

    fn explain(_: &Node, asked: &Asked<'_>) -> Vec<String> {
        let ids = asked.supply.identities.shown();
        let inside = asked.spec.user.id();
        vec![format!(
            "lease one host id of {ids}, with a user namespace in which it alone exists, as {inside}"
        )]
    }

    fn adopt(from: &mut Adoption<'_>) -> Option<Self> {
        let lease = from.supply.identities.reserve(from.host_id?)?;
        Some(Identity::new(lease, from.user))
    }
}
