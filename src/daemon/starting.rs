//! Spawner threads: from an accepted request to a payload behind its walls.
//!
//! A start touches the disk (spool, exit record), the cgroup file system and the uploads, and may wait for a clone;
//! so it does not happen on the loop. Each spawner takes one job at a time from a bounded queue and answers with
//! [`Launch`]. Most of it has been done before, where a berth was ready (`berth.rs`).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::thread::JoinHandle;

use crossbeam_channel::Receiver;
use log::Level;

use super::DaemonError;
use super::berth::{Berth, NoBerth, Plot};
use super::keeping::not_recorded;
use crate::cgroup::{CgroupTree, Disk, JobCgroup};
use crate::diag::{self, disk_remedy};
use crate::job::{JobId, JobSpec, Limits};
use crate::output::{Collector, Progress};
use crate::sandbox::identity::Lease;
use crate::sandbox::work::WorkDisk;
use crate::sandbox::{Cradle, Init, Payload, Sandbox, SandboxError};
use crate::state::{self, Record, intent};
use crate::sys::pidfd::kill_and_reap;
use crate::sys::thread::schedule_first as schedule;
use crate::upload::{self, Belongings, Stage, Upload, UploadError};

/// A job to start.
#[derive(Debug)]
pub(super) struct Order {
    /// Where.
    pub(super) place: Place,
    /// What.
    pub(super) spec: Arc<JobSpec>,
    /// What the job brought.
    pub(super) brought: Brought,
    /// The job's record, if it is to be remembered. No payload runs before it is written.
    pub(super) record: Option<Box<Record>>,
}

/// Files and variables of a job.
#[derive(Debug)]
pub(super) enum Brought {
    /// Here they are.
    Given(Belongings),
    /// They were put aside while it waited.
    Staged,
}

/// Where a job is started.
#[derive(Debug)]
pub(super) enum Place {
    /// In a berth that was ready.
    Ready(Berth),
    /// In one that has to be made first.
    Bare(Plot),
}

impl Place {
    /// The id of the job that is started there, and what tells of its output.
    pub(super) fn whose(&self) -> (JobId, Arc<Progress>) {
        match self {
            Place::Ready(berth) => (berth.id, berth.progress.clone()),
            Place::Bare(plot) => (plot.id, plot.progress.clone()),
        }
    }

    /// What a later daemon finds its processes by: the host id, and its PID 1 if there is one yet.
    pub(super) fn traces(&self) -> (Option<u32>, Option<state::record::Process>) {
        match self {
            Place::Ready(Berth { lease, init, .. }) => (Some(lease.id), init.trace()),
            Place::Bare(plot) => (Some(plot.lease.id), None),
        }
    }
}

impl Init {
    /// Its number and its birth.
    pub(super) fn trace(&self) -> Option<state::record::Process> {
        let birth = self.birth?;
        Some(state::record::Process { pid: self.pid, birth })
    }
}

/// What became of an order.
#[derive(Debug)]
pub(super) struct Launch {
    /// Whose.
    pub(super) id: JobId,
    /// The lease, with its namespace now.
    pub(super) lease: Lease,
    /// The group, if it came so far.
    pub(super) cgroup: Option<JobCgroup>,
    /// PID 1, or why there is none. The output is with the collector already.
    pub(super) result: Result<Process, NoStart>,
}

/// Why a job could not be started.
#[derive(Debug, Default)]
pub(super) struct NoStart {
    /// The sentence.
    pub(super) why: String,
    /// The node has too little of something now: RESOURCE_EXHAUSTED.
    pub(super) is_shortage: bool,
}

impl From<String> for NoStart {
    fn from(why: String) -> Self {
        NoStart { why, is_shortage: false }
    }
}

impl From<&SandboxError> for NoStart {
    fn from(error: &SandboxError) -> Self {
        NoStart { why: error.to_string(), is_shortage: error.is_shortage() }
    }
}

/// The loop's part of a started PID 1.
#[derive(Debug)]
pub(super) struct Process {
    /// Refers to it.
    pub(super) pidfd: OwnedFd,
    /// Its number on the host.
    pub(super) pid: i32,
    /// Its start, clock ticks since boot.
    pub(super) birth: Option<u64>,
    /// Read end of the report pipe.
    pub(super) report: OwnedFd,
    /// The exit record.
    pub(super) record: std::fs::File,
    /// Its mount namespace.
    pub(super) mounts: OwnedFd,
    /// Its network namespace, where that is to be used again.
    pub(super) network: Option<OwnedFd>,
}

/// What all spawners share.
#[derive(Debug)]
pub(super) struct Spawner {
    /// Walls.
    pub(super) sandbox: Sandbox,
    /// Groups.
    pub(super) tree: Arc<CgroupTree>,
    /// Disks that `io.max` is written for.
    pub(super) disks: Vec<Disk>,
    /// `<dataDir>/spool`.
    pub(super) spool: PathBuf,
    /// Holds each job's /work; `None`: it is a tmpfs.
    pub(super) disk: Option<Arc<WorkDisk>>,
    /// `filesystem.workQuota`, bytes.
    pub(super) work_quota: u64,
    /// `network.reuseNamespaces`.
    pub(super) reuse_networks: bool,
    /// Takes the pipes of started jobs.
    pub(super) collector: Collector,
    /// Has what waiting jobs brought.
    pub(super) stage: Stage,
}

impl Spawner {
    /// Starts a spawner thread that works until the queue's senders are gone.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn start(
        self: &Arc<Self>,
        orders: Receiver<Order>,
        launched: impl Fn(Launch) + Send + 'static,
    ) -> Result<JoinHandle<()>, DaemonError> {
        let spawner = self.clone();
        let work = move || {
            schedule_first();
            let mut cradle = spawner.sandbox.adopt_thread();
            for order in orders {
                launched(spawner.launch(&mut cradle, order));
            }
        };
        let thread = std::thread::Builder::new().name("spawner".into());
        thread.spawn(work).map_err(|source| DaemonError::Thread { name: "spawner", source })
    }

    fn launch(&self, cradle: &mut Result<Cradle, SandboxError>, order: Order) -> Launch {
        let Order { place, spec, brought, record } = order;
        let berth = match place {
            Place::Ready(berth) => berth,
            Place::Bare(plot) => match self.raise(cradle, plot) {
                Ok(berth) => berth,
                Err(NoBerth { id, lease, cgroup, why }) => {
                    return Launch { id, lease, cgroup, result: Err(why) };
                }
            },
        };
        let result = self.settle(&berth, &spec, brought, record);
        let Berth { id, lease, cgroup, init, network, .. } = berth;
        let result = match result {
            Ok(()) => Ok(process(init, network)),
            Err(why) => {
                // Nothing but joblet-init was ever in there, and that ends at once.
                kill_and_reap(init.pidfd.as_fd());
                Err(why.into())
            }
        };
        Launch { id, lease, cgroup: Some(cgroup), result }
    }

    /// Makes a berth this job's own, then has its payload started. Limits are in force and the record is written before
    /// that.
    fn settle(
        &self,
        berth: &Berth,
        spec: &JobSpec,
        brought: Brought,
        record: Option<Box<Record>>,
    ) -> Result<(), String> {
        let belongings = match brought {
            Brought::Given(belongings) => belongings,
            Brought::Staged => self
                .stage
                .take(&berth.id.to_string())
                .map_err(|e| format!("failed to create isolated environment: {e}"))?,
        };
        if berth.limits != spec.limits {
            self.tree.limit(&berth.cgroup, &spec.limits, &self.disks).map_err(|e| e.to_string())?;
            let room = scratch_bytes(&spec.limits, self.work_quota);
            let in_memory = self.disk.is_none().then_some(room);
            self.sandbox.resize(&berth.init, room, in_memory).map_err(|e| e.to_string())?;
        }
        self.fill(berth, spec, &belongings.uploads)?;
        let payload = Payload {
            argv: strings(std::iter::once(&spec.command).chain(&spec.args).cloned())?,
            environment: strings(environment(berth.id, spec, &belongings).into_iter())?,
            work_dir: strings(std::iter::once(spec.work_dir.clone()))?.swap_remove(0),
        };
        if let Some(record) = record {
            intent::put(&berth.init.record, &record).map_err(|e| {
                let path = self.sandbox.record_path(&berth.id.to_string());
                not_recorded(format_args!("cannot write {}: {e}; {}", path.display(), disk_remedy(&e)))
            })?;
        }
        berth.init.launch(&payload).map_err(|e| e.to_string())
    }

    /// Puts the uploads into /work, and the working directory if that is below.
    fn fill(&self, berth: &Berth, spec: &JobSpec, uploads: &[Upload]) -> Result<(), String> {
        let (work, owner) = (berth.work.as_fd(), berth.lease.id);
        let failed = |e: UploadError| format!("failed to create isolated environment: {e}");
        upload::write_beneath(work, uploads, owner, owner).map_err(failed)?;
        if let Some(below) = spec.work_dir.strip_prefix("/work/") {
            let dir = Upload { path: below.to_owned(), is_directory: true, ..Upload::default() };
            upload::write_beneath(work, &[dir], owner, owner).map_err(failed)?;
        }
        if let Some(disk) = self.disk.as_ref().filter(|_| !uploads.is_empty()) {
            within_quota(disk, owner, uploads)
                .map_err(|e| format!("failed to create isolated environment: {e}"))?;
        }
        Ok(())
    }
}

/// Lets the calling thread run before ordinary load, which is what a node that runs jobs is full of: a start passes
/// through several threads, and each would wait its turn. What it clones is scheduled ordinarily. A tuning: said once
/// where the host refuses it.
pub(super) fn schedule_first() {
    if let Err(why) = schedule() {
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            diag::event!(
                Level::Warn,
                "starts of jobs wait their turn when the host is busy: SCHED_RR is refused",
                error = why,
                remedy = "give the daemon CAP_SYS_NICE"
            );
        });
    }
}

/// What the loop keeps of a joblet-init. Its order is closed here: nobody else needs to know it.
fn process(init: Init, network: Option<OwnedFd>) -> Process {
    let Init { pidfd, pid, birth, report, record, mounts, .. } = init;
    Process { pidfd, pid, birth, report, record, mounts, network }
}

/// Name of a job's directory in `<dataDir>/work`.
pub(super) fn work_name(id: JobId) -> CString {
    CString::new(id.to_string()).expect("digits and hyphens have no NUL")
}

/// A quota does not hold the daemon back (quotactl(2): CAP_SYS_RESOURCE), only its jobs.
fn within_quota(disk: &WorkDisk, project: u32, uploads: &[Upload]) -> Result<(), String> {
    let usage = disk.usage(project).map_err(|e| format!("cannot read the quota of /work: {e}"))?;
    let full = if usage.bytes > usage.byte_limit {
        let bytes = uploads.iter().map(|upload| upload.content.len() as u64).sum();
        UploadError::Fill { bytes, quota: usage.byte_limit }
    } else if usage.inodes > usage.inode_limit {
        UploadError::FillInodes { entries: uploads.len(), inodes: usage.inode_limit }
    } else {
        return Ok(());
    };
    Err(full.to_string())
}

/// Bytes that a /work in memory, and each of /tmp and /dev/shm, may take: what is written there is the job's
/// memory, so at most half of its limit.
pub(super) fn scratch_bytes(limits: &Limits, quota: u64) -> u64 {
    limits.memory.map_or(quota, |memory| quota.min(memory.bytes() / 2))
}

/// The whole environment of a payload: ours, then the client's, then its secrets; later wins. Nothing of the
/// daemon's.
fn environment(id: JobId, spec: &JobSpec, belongings: &Belongings) -> Vec<String> {
    let limits = &spec.limits;
    let number = |n: Option<u32>| n.unwrap_or(0).to_string();
    let ours = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("HOME", "/work".to_owned()),
        ("USER", "root".to_owned()),
        ("LOGNAME", "root".to_owned()),
        ("SHELL", "/bin/sh".to_owned()),
        ("PWD", spec.work_dir.clone()),
        ("LANG", "C.UTF-8".to_owned()),
        ("HOSTNAME", format!("job-{}", id.short())),
        ("JOB_ID", id.to_string()),
        ("JOB_TYPE", "standard".to_owned()),
        ("JOB_MAX_CPU", number(limits.cpu.map(|c| c.get()))),
        ("JOB_MAX_MEMORY", number(limits.memory.map(|m| m.mib()))),
        ("JOB_MAX_IOBPS", number(limits.io.map(|i| i.get()))),
        ("JOB_CPU_CORES", limits.cores.as_ref().map(ToString::to_string).unwrap_or_default()),
    ];
    let mut all: Vec<(&str, &str)> = ours.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let plain = belongings.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let secret = belongings.secrets.iter().map(|(name, value)| (name.as_str(), value.expose()));
    for (name, value) in plain.chain(secret) {
        all.retain(|(other, _)| *other != name);
        all.push((name, value));
    }
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn strings(texts: impl Iterator<Item = String>) -> Result<Vec<CString>, String> {
    texts.map(|text| CString::new(text).map_err(|e| io::Error::other(e).to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Secret;

    #[test]
    fn the_client_overrides_path_and_a_secret_overrides_a_plain_variable() {
        let belongings = Belongings {
            environment: vec![("PATH".into(), "/x".into()), ("TOKEN".into(), "plain".into())],
            secrets: vec![("TOKEN".into(), Secret::new("hidden"))],
            ..Belongings::default()
        };
        let all = environment(JobId::random(), &JobSpec::bare(), &belongings);
        assert!(all.contains(&"PATH=/x".to_owned()) && all.contains(&"TOKEN=hidden".to_owned()));
        assert_eq!(all.iter().filter(|v| v.starts_with("PATH=")).count(), 1);
        assert!(!all.iter().any(|v| v.contains("plain")));
        assert!(all.contains(&"JOB_TYPE=standard".to_owned()));
    }
}
