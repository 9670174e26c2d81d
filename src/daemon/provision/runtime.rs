//! The runtime of a job: neither removed nor replaced as long as the job has it, from its acceptance to its end.

use std::path::PathBuf;

use super::{Adoption, Asked, Kind, Named, Node, Supply};
use crate::job::JobSpec;
use crate::runtime::Use;

/// The right of a job to the root that it has.
#[derive(Debug)]
pub(in crate::daemon) enum Runtime {
    /// A version that is installed.
    Installed(Use),
    /// The directory in which a job builds one.
    Build(PathBuf),
}

impl Runtime {
    /// The right of a job that has this version, or that builds one.
    pub(in crate::daemon) fn of(spec: &JobSpec, installed: Option<Use>) -> Option<Self> {
        let build = || spec.build.clone().map(Runtime::Build);
        installed.map(Runtime::Installed).or_else(build)
    }

    /// The version, where one is installed.
    pub(in crate::daemon) fn installed(&self) -> Option<&Use> {
        match self {
            Runtime::Installed(installed) => Some(installed),
            Runtime::Build(_) => None,
        }
    }

    /// Gives it back: from here on it may be removed.
    pub(super) fn release(self, supply: &Supply) {
        match self {
            Runtime::Installed(installed) => drop(installed),
            Runtime::Build(dir) => supply.runtimes.forget_build(&dir),
        }
    }
}

impl Kind for Runtime {
    const NAME: &'static str = "runtime";
    const STEP: Named = Ok("show the root of the runtime");
    const LAYER: Named = Ok("mount /");

    fn explain(_: &Node, _: &Asked<'_>) -> Vec<String> {
        // Its root is a step of the child, which the plan names.
        Vec::new()
    }

    fn adopt(from: &mut Adoption<'_>) -> Option<Self> {
        Runtime::of(from.spec, from.supply.runtimes.adopt(from.spec))
    }
}
