//! The cgroup of a job: its limits are in force before its first instruction.

use log::Level;

use super::{Adoption, Asked, Kind, Named, Node};
use crate::cgroup::JobCgroup;
use crate::diag;
use crate::job::{Controller, JobId, Limits};

/// The name that stands in a plan for the id that a job would get.
const ID: &str = "<id>";

/// Makes the cgroup of a job with its limits.
pub(super) fn acquire(node: &Node, id: JobId, limits: &Limits) -> Result<JobCgroup, String> {
    node.tree.create(id, limits, &node.disks).map_err(|e| e.to_string())
}

impl Kind for JobCgroup {
    const NAME: &'static str = "cgroup";
    // Not a step of the child: clone3(2) puts it there.
    const STEP: Named = Ok("clone PID 1 into the group");
    const LAYER: Named = Ok("namespace.cgroup");

    fn explain(node: &Node, asked: &Asked<'_>) -> Vec<String> {
        let group = node.tree.path().join(format!("job-{ID}"));
        let mut plan = vec![format!("make the group {}", group.display())];
        plan.extend(node.tree.settings(&asked.spec.limits, &node.disks));
        plan.extend(asked.unenforced.iter().map(|missing| match missing.controller {
            Controller::Pids => format!("{missing}; RLIMIT_NPROC keeps it"),
            _ => missing.to_string(),
        }));
        plan
    }

    fn adopt(from: &mut Adoption<'_>) -> Option<Self> {
        from.node.tree.reopen(from.id).unwrap_or_else(|why| {
            diag::event!(Level::Warn, "cannot open a job's cgroup", jobId = from.id, error = why);
            None
        })
    }
}
