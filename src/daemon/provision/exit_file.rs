//! The exit file of a job, which its PID 1 writes at the end.

use std::path::{Path, PathBuf};

use super::{Adoption, Asked, Kind, Named, Node};
use crate::job::JobId;
use crate::sandbox::create::exit_file_path;

/// The path of an exit file.
#[derive(Debug)]
pub(in crate::daemon) struct ExitPath(PathBuf);

impl ExitPath {
    /// That of a job.
    pub(super) fn of(node: &Node, id: JobId) -> Self {
        ExitPath(exit_file_path(&node.run_dir, &id.to_string()))
    }

    /// The path of the file on the host.
    pub(in crate::daemon) fn as_path(&self) -> &Path {
        &self.0
    }

    /// The path, to be removed.
    pub(super) fn into_path(self) -> PathBuf {
        self.0
    }
}

impl Kind for ExitPath {
    const NAME: &'static str = "exit_file";
    const STEP: Named = Err("PID 1 is born with it, before any step of its own");
    const LAYER: Named =
        Err("no path of the job leads to it, and no wall depends on it: joblet-init alone has it open");

    fn explain(_: &Node, _: &Asked<'_>) -> Vec<String> {
        Vec::new()
    }

    fn adopt(from: &mut Adoption<'_>) -> Option<Self> {
        Some(ExitPath::of(from.node, from.id))
    }
}
