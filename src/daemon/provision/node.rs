//! The part of the node that all jobs share, and the reason why a job could not be started.

use std::path::PathBuf;
use std::sync::Arc;

use super::wiring::Wiring;
use crate::cgroup::{CgroupTree, Disk};
use crate::daemon::egress::Egress;
use crate::daemon::resolver::Resolver;
use crate::job::{JobId, NetRate};
use crate::sandbox::work::WorkDisk;
use crate::sandbox::{Sandbox, SandboxError};

/// The part of the node that all jobs share.
#[derive(Debug)]
pub(in crate::daemon) struct Node {
    /// Template root, joblet-init and policy of every sandbox.
    pub(in crate::daemon) sandbox: Sandbox,
    /// The cgroups of all jobs.
    pub(in crate::daemon) tree: Arc<CgroupTree>,
    /// Disks that `io.max` is written for.
    pub(in crate::daemon) disks: Vec<Disk>,
    /// `<dataDir>/spool`, with a directory for each job's output.
    pub(in crate::daemon) spool: PathBuf,
    /// `<dataDir>/execs`, with a directory for the commands of each job.
    pub(in crate::daemon) execs: PathBuf,
    /// `ipc.enabled: false`: whether the output of new jobs goes with their end.
    pub(in crate::daemon) live_only: bool,
    /// `<dataDir>/run`, with the exit files.
    pub(in crate::daemon) run_dir: PathBuf,
    /// Holds each job's /work; `None` where that is a tmpfs.
    pub(in crate::daemon) disk: Option<Arc<WorkDisk>>,
    /// `filesystem.workQuota`: bound of a job's /work, bytes.
    pub(in crate::daemon) work_quota: u64,
    /// `network.reuseNamespaces`: whether clean network namespaces are kept.
    pub(in crate::daemon) reuse_networks: bool,
    /// The router that jobs' wires lead to.
    pub(in crate::daemon) wiring: Wiring,
    /// The egress lists of jobs, and what they were refused.
    pub(in crate::daemon) egress: Arc<Egress>,
    /// `network.rate`: the rate of a job that asks for none.
    pub(in crate::daemon) rate: NetRate,
    /// Why the kernel has no rates of networks, if it has none.
    pub(in crate::daemon) rates: Result<(), String>,
    /// Answers jobs' questions for names.
    pub(in crate::daemon) resolver: Resolver,
    /// Directories of history, with one for each job in each of them.
    pub(in crate::daemon) history: Vec<PathBuf>,
}

impl Node {
    /// The words for a rate that this kernel cannot keep; `None` where it can, or none is wanted.
    pub(in crate::daemon) fn lacks_rate(&self, rate: NetRate) -> Option<String> {
        lacks_rate(&self.rates, rate)
    }

    /// The part of a rate that this kernel keeps.
    pub(in crate::daemon) fn kept_rate(&self, rate: NetRate) -> NetRate {
        if self.rates.is_ok() { rate } else { NetRate::default() }
    }

    /// The directories that keep what a job gave.
    pub(in crate::daemon) fn kept(&self, id: JobId) -> Vec<PathBuf> {
        let name = id.to_string();
        [&self.spool, &self.execs].into_iter().chain(&self.history).map(|dir| dir.join(&name)).collect()
    }
}

/// `rates`: why the kernel keeps none, if it keeps none.
fn lacks_rate(rates: &Result<(), String>, rate: NetRate) -> Option<String> {
    let why = rates.as_ref().err().filter(|_| !rate.is_unlimited())?;
    Some(format!("the network rate is not enforced: {why}"))
}

/// Why a job could not be started.
#[derive(Debug, Default)]
pub(in crate::daemon) struct StartError {
    /// The sentence for the client.
    pub(in crate::daemon) why: String,
    /// Whether the node has too little of something now (RESOURCE_EXHAUSTED).
    pub(in crate::daemon) is_shortage: bool,
}

impl From<String> for StartError {
    fn from(why: String) -> Self {
        StartError { why, is_shortage: false }
    }
}

impl From<&SandboxError> for StartError {
    fn from(error: &SandboxError) -> Self {
        StartError { why: error.to_string(), is_shortage: error.is_shortage() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_that_the_kernel_cannot_keep_is_named_with_the_reason() {
        let (none, some) = (NetRate::default(), NetRate { up: 1 << 20, down: 0 });
        let refused = Err("no sch_tbf".to_owned());
        assert_eq!(lacks_rate(&Ok(()), some), None);
        assert_eq!(lacks_rate(&refused, none), None);
        let words = lacks_rate(&refused, some).unwrap();
        assert!(
            words.starts_with("the network rate is not enforced: ") && words.contains("sch_tbf"),
            "{words}"
        );
    }
}
