//! The mount namespace of a job.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Adoption, Asked, Kind, Named, Node};

/// A mount namespace. While it is held the kernel does not take the mounts apart, for which the end of PID 1 would wait
/// otherwise (up to a millisecond of RCU).
#[derive(Debug)]
pub(in crate::daemon) struct Mounts(OwnedFd);

impl Mounts {
    /// The mounts behind this descriptor of a namespace.
    pub(in crate::daemon) fn new(namespace: OwnedFd) -> Self {
        Mounts(namespace)
    }

    /// The namespace, to be closed where nobody waits.
    pub(super) fn into_namespace(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for Mounts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Kind for Mounts {
    const NAME: &'static str = "mounts";
    const STEP: Named = Ok("mount proc at /proc");
    const LAYER: Named = Ok("namespace.mnt");

    fn explain(_: &Node, _: &Asked<'_>) -> Vec<String> {
        // Every mount is a step of the child, which the plan names.
        Vec::new()
    }

    fn adopt(_: &mut Adoption<'_>) -> Option<Self> {
        // Opened when PID 1 is found: it is that one's.
        None
    }
}
