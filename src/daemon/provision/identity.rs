//! The host id of a job, and the user namespace in which it alone exists.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Adoption, Asked, Kind, Node, StartError};
use crate::sandbox::create::user_namespace;
use crate::sandbox::identity::Lease;

/// A leased host id.
#[derive(Debug)]
pub(in crate::daemon) struct Identity(Lease);

impl Identity {
    /// The identity of a job that gets this lease.
    pub(in crate::daemon) fn new(lease: Lease) -> Self {
        Identity(lease)
    }

    /// The uid and gid on the host, one number.
    pub(in crate::daemon) fn host_id(&self) -> u32 {
        self.0.id
    }

    /// The lease, to be given back.
    pub(super) fn into_lease(self) -> Lease {
        self.0
    }

    /// The user namespace, made once and kept by the lease for its next job.
    pub(super) fn namespace(&mut self) -> Result<Arc<OwnedFd>, StartError> {
        user_namespace(&mut self.0).map_err(|e| StartError::from(&e))
    }
}

impl Kind for Identity {
    const NAME: &'static str = "identity";
    const STEP: &'static str = "join the leased user namespace";
    const LAYER: &'static str = "ids.uid";

    fn explain(_: &Node, asked: &Asked<'_>) -> Vec<String> {
        let ids = asked.supply.identities.shown();
        vec![format!("lease one host id of {ids}, with a user namespace in which it alone exists, as 0")]
    }

    fn adopt(from: &mut Adoption<'_>) -> Option<Self> {
        from.supply.identities.reserve(from.host_id?).map(Identity)
    }
}
