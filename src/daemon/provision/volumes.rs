//! The volumes of a job: mounts for it alone, attached before its payload runs.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::{Adoption, Asked, Identity, Kind, Named, Node, StartError, Supply};
use crate::daemon::token::Token;
use crate::job::{Profile, VolumeUse};
use crate::volume::Volume;

/// The volumes of a job. Its mounts of them are in its mount namespace, and go with that.
#[derive(Debug)]
#[expect(dead_code, reason = "each counts as long as it lives")]
pub(in crate::daemon) enum Volumes {
    /// Volumes that this daemon has mounted.
    Mounted(Vec<Arc<Volume>>),
    /// Volumes that an earlier daemon has mounted.
    Inherited(Vec<Token>),
}

/// The mounts of a job, each with its place. `volumes` are those of `uses`, in their order.
pub(in crate::daemon) fn mounts(
    identity: &mut Identity,
    uses: &[VolumeUse],
    volumes: &[Arc<Volume>],
) -> Result<Vec<(String, OwnedFd)>, StartError> {
    let ids = identity.volume_map()?;
    let mount = |(used, volume): (&VolumeUse, &Arc<Volume>)| {
        let mount = volume.mount_for(ids.as_fd(), used.read_only);
        mount.map(|mount| (used.place(), mount)).map_err(|why| StartError::from(why.to_string()))
    };
    uses.iter().zip(volumes).map(mount).collect()
}

impl Supply {
    /// Why no job can have these volumes now.
    pub(in crate::daemon) fn lacks_volume(&self, uses: &[VolumeUse]) -> Option<String> {
        self.volumes.lacks(uses)
    }
}

impl Kind for Volumes {
    const NAME: &'static str = "volumes";
    const STEP: Named = Ok("mount the volume");
    const LAYER: Named = Ok("mount /volumes");

    fn explain(_: &Node, asked: &Asked<'_>) -> Vec<String> {
        let step = |used: &VolumeUse| {
            let (name, place, access) = (&used.name, used.place(), used.access());
            let ids = match asked.spec.profile {
                Profile::Strict => "owner mapped to the host id",
                Profile::Container => "owners mapped to the host ids",
            };
            format!("mount the volume {name} with its {ids}, for {place} ({access})")
        };
        asked.spec.volumes.iter().map(step).collect()
    }

    fn adopt(from: &mut Adoption<'_>) -> Option<Self> {
        let volumes = &from.supply.volumes;
        let inherited: Vec<Token> =
            from.spec.volumes.iter().filter_map(|used| volumes.inherit(used)).collect();
        (!inherited.is_empty()).then_some(Volumes::Inherited(inherited))
    }
}
