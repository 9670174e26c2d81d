//! `RunJob` with `explain`: what a start would do, in its order, and nothing done. The steps are those of the very
//! plan that the child would walk ([`Sandbox::explain`](crate::sandbox::Sandbox::explain)).

use super::commands::{Answer, CommandError, Explained};
use super::event_loop::Loop;
use super::starting::{Spawner, scratch_bytes};
use crate::cgroup::Unenforced;
use crate::job::{Controller, JobSpec, NetworkMode};
use crate::sandbox::{Network, SandboxSpec, filter};
use crate::upload::Upload;

/// What stands in the plan for the id that a job would get.
const ID: &str = "<id>";

impl Loop {
    /// Answers with the plan of a job that is not started: no id, no record, nothing on disk.
    pub(super) fn explain(&self, spec: Box<JobSpec>, uploads: &[Upload], answer: Answer<Explained>) {
        let explained = self.tree.enforce(&spec.limits, self.settings.enforcement);
        let explained =
            explained.map_err(|why| CommandError::SetUp(why.to_string())).and_then(|unenforced| {
                let plan = self.spawner.explain(&spec, uploads, &unenforced, &self.leases.shown());
                let plan = plan.map_err(|why| CommandError::SetUp(why.to_string()))?;
                let named = unenforced.iter().filter(|missing| missing.controller != Controller::Pids);
                let unenforced = named.map(ToString::to_string).collect();
                Ok(Explained { spec, unenforced, plan })
            });
        let _ = answer.send(explained);
    }
}

impl Spawner {
    /// Sentences in the order of a start.
    fn explain(
        &self,
        spec: &JobSpec,
        uploads: &[Upload],
        unenforced: &[Unenforced],
        ids: &str,
    ) -> Result<Vec<String>, crate::sandbox::SandboxError> {
        let room = scratch_bytes(&spec.limits, self.work_quota);
        let group = self.tree.path().join(format!("job-{ID}"));
        let mut plan = vec![format!("make the group {}", group.display())];
        plan.extend(self.tree.settings(&spec.limits, &self.disks));
        plan.extend(unenforced.iter().map(|missing| match missing.controller {
            Controller::Pids => format!("{missing}; RLIMIT_NPROC keeps it"),
            _ => missing.to_string(),
        }));
        plan.push(format!(
            "lease one host id of {ids}, with a user namespace in which it alone exists, as 0"
        ));
        plan.push(match &self.disk {
            Some(disk) => {
                format!(
                    "make /work: a directory in {}, quota {} bytes",
                    disk.path().display(),
                    self.work_quota
                )
            }
            None => format!("make /work: a tmpfs of {room} bytes"),
        });
        let own = spec.network == NetworkMode::None;
        let namespaces = match spec.network {
            NetworkMode::None => "pid, mount, ipc, uts, cgroup and network namespaces (network mode none)",
            NetworkMode::Host => {
                "pid, mount, ipc, uts and cgroup namespaces, in the host's network (mode host)"
            }
        };
        // Which it will be is known when there is a job.
        let or = if own && self.reuse_networks {
            ", or a network namespace that a finished job left clean"
        } else {
            ""
        };
        plan.push(format!("clone PID 1 into the group, in new {namespaces}{or}"));
        plan.extend(self.sandbox.explain(SandboxSpec {
            hostname: &format!("job-{ID}"),
            scratch_bytes: room,
            pids: spec.limits.pids,
            network: match spec.network {
                NetworkMode::None => Network::Own,
                NetworkMode::Host => Network::Host,
            },
        })?);
        plan.push(format!("system call policy: {}", filter::JOB.summary()));
        if !uploads.is_empty() {
            let bytes: usize = uploads.iter().map(|upload| upload.content.len()).sum();
            plan.push(format!(
                "put {} uploaded files and directories, {bytes} bytes, into /work",
                uploads.len()
            ));
        }
        plan.push(command(spec));
        Ok(plan)
    }
}

/// What runs then. Values of variables, secret or not, are nobody's plan.
fn command(spec: &JobSpec) -> String {
    let words: Vec<_> =
        std::iter::once(&spec.command).chain(&spec.args).map(|word| format!("{word:?}")).collect();
    let variables = spec.environment.len() + spec.secrets.len();
    let bound = spec.timeout.map(|bound| format!(", for at most {bound:?}")).unwrap_or_default();
    format!("start {} in {}, with {variables} variables of yours{bound}", words.join(" "), spec.work_dir)
}
