//! The file that tells a job what its network has refused.

use std::path::PathBuf;

use super::{Adoption, Asked, Kind, Named, Node};
use crate::job::JobId;

/// The path of that file on the host.
#[derive(Debug)]
pub(in crate::daemon) struct Note(PathBuf);

impl Note {
    /// That of a job.
    pub(super) fn of(node: &Node, id: JobId) -> Self {
        Note(node.egress.note_of(id))
    }

    /// The path, to be removed.
    pub(super) fn into_path(self) -> PathBuf {
        self.0
    }
}

impl Kind for Note {
    const NAME: &'static str = "note";
    const STEP: Named = Ok("mount what the network has refused");
    const LAYER: Named = Err("it tells what the layer network.egress keeps away, and is no wall itself");

    fn explain(_: &Node, _: &Asked<'_>) -> Vec<String> {
        // Its mount is a step of the child, which the plan names.
        Vec::new()
    }

    fn adopt(from: &mut Adoption<'_>) -> Option<Self> {
        from.wire.is_some().then(|| Note::of(from.node, from.id))
    }
}
