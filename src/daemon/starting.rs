//! Spawner threads: from an accepted request to a payload behind its walls.
//!
//! A start touches the disk (spool, exit record), the cgroup file system and the uploads, and may wait for a clone;
//! so it does not happen on the loop. Each spawner takes one job at a time from a bounded queue and answers with
//! [`StartResult`]. Most of it has been done before, where a berth was ready (`sandbox.rs`).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::thread::JoinHandle;

use crossbeam_channel::Receiver;
use log::Level;

use super::DaemonError;
use super::pool::{CreateError, CreateRequest, WarmSandbox};
use crate::cgroup::{CgroupTree, Disk, JobCgroup};
use crate::diag::{self, disk_remedy};
use crate::job::{JobId, JobSpec, Limits};
use crate::output::{Collector, Watermark};
use crate::sandbox::identity::Lease;
use crate::sandbox::work::WorkDisk;
use crate::sandbox::{CloneContext, ExecRequest, Init, Sandbox, SandboxError};
use crate::state::{self, Record, intent, not_recorded};
use crate::sys::pidfd::kill_and_reap;
use crate::sys::thread::schedule_first as schedule;
use crate::upload::{self, JobInputs, Stage, Upload, UploadError};

/// A job to start.
#[derive(Debug)]
pub(super) struct StartRequest {
    /// Where.
    pub(super) place: JobSandbox,
    /// What.
    pub(super) spec: Arc<JobSpec>,
    /// What the job brought.
    pub(super) inputs: InputSource,
    /// The job's record, if it is to be remembered. No payload runs before it is written.
    pub(super) record: Option<Box<Record>>,
}

/// Files and variables of a job.
#[derive(Debug)]
pub(super) enum InputSource {
    /// Here they are.
    Given(JobInputs),
    /// They were put aside while it waited.
    Staged,
}

/// Where a job is started.
#[derive(Debug)]
pub(super) enum JobSandbox {
    /// In a berth that was ready.
    Warm(WarmSandbox),
    /// In one that has to be made first.
    Cold(CreateRequest),
}

impl JobSandbox {
    /// The id of the job that is started there, and what tells of its output.
    pub(super) fn whose(&self) -> (JobId, Arc<Watermark>) {
        match self {
            JobSandbox::Warm(sandbox) => (sandbox.id, sandbox.watermark.clone()),
            JobSandbox::Cold(request) => (request.id, request.watermark.clone()),
        }
    }

    /// What a later daemon finds its processes by: the host id, and its PID 1 if there is one yet.
    pub(super) fn traces(&self) -> (Option<u32>, Option<state::record::Process>) {
        match self {
            JobSandbox::Warm(WarmSandbox { lease, init, .. }) => (Some(lease.id), init.trace()),
            JobSandbox::Cold(request) => (Some(request.lease.id), None),
        }
    }
}

impl Init {
    /// Its number and its birth.
    pub(super) fn trace(&self) -> Option<state::record::Process> {
        let start_time = self.start_time?;
        Some(state::record::Process { pid: self.pid, start_time })
    }
}

/// What became of an order.
#[derive(Debug)]
pub(super) struct StartResult {
    /// Whose.
    pub(super) id: JobId,
    /// The lease, with its namespace now.
    pub(super) lease: Lease,
    /// The group, if it came so far.
    pub(super) cgroup: Option<JobCgroup>,
    /// PID 1, or why there is none. The output is with the collector already.
    pub(super) result: Result<Process, StartError>,
}

/// Why a job could not be started.
#[derive(Debug, Default)]
pub(super) struct StartError {
    /// The sentence.
    pub(super) why: String,
    /// The node has too little of something now: RESOURCE_EXHAUSTED.
    pub(super) is_shortage: bool,
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

/// The loop's part of a started PID 1.
#[derive(Debug)]
pub(super) struct Process {
    /// Refers to it.
    pub(super) pidfd: OwnedFd,
    /// Its number on the host.
    pub(super) pid: i32,
    /// Its start, clock ticks since boot.
    pub(super) start_time: Option<u64>,
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
    /// SandboxParts.
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
        orders: Receiver<StartRequest>,
        launched: impl Fn(StartResult) + Send + 'static,
    ) -> Result<JoinHandle<()>, DaemonError> {
        let spawner = self.clone();
        let work = move || {
            schedule_first();
            let mut context = spawner.sandbox.adopt_thread();
            for order in orders {
                launched(spawner.launch(&mut context, order));
            }
        };
        let thread = std::thread::Builder::new().name("spawner".into());
        thread.spawn(work).map_err(|source| DaemonError::Thread { name: "spawner", source })
    }

    fn launch(&self, context: &mut Result<CloneContext, SandboxError>, order: StartRequest) -> StartResult {
        let StartRequest { place, spec, inputs, record } = order;
        let sandbox = match place {
            JobSandbox::Warm(sandbox) => sandbox,
            JobSandbox::Cold(request) => match self.create(context, request) {
                Ok(sandbox) => sandbox,
                Err(CreateError { id, lease, cgroup, why }) => {
                    return StartResult { id, lease, cgroup, result: Err(why) };
                }
            },
        };
        let result = self.configure(&sandbox, &spec, inputs, record);
        let WarmSandbox { id, lease, cgroup, init, mounts, network, .. } = sandbox;
        let result = match result {
            Ok(()) => Ok(process(init, mounts, network)),
            Err(why) => {
                // Nothing but joblet-init was ever in there, and that ends at once.
                kill_and_reap(init.pidfd.as_fd());
                Err(why.into())
            }
        };
        StartResult { id, lease, cgroup: Some(cgroup), result }
    }

    /// Makes a berth this job's own, then has its payload started. Limits are in force and the record is written before
    /// that.
    fn configure(
        &self,
        sandbox: &WarmSandbox,
        spec: &JobSpec,
        inputs: InputSource,
        record: Option<Box<Record>>,
    ) -> Result<(), String> {
        let inputs = match inputs {
            InputSource::Given(inputs) => inputs,
            InputSource::Staged => self
                .stage
                .take(&sandbox.id.to_string())
                .map_err(|e| format!("failed to create isolated environment: {e}"))?,
        };
        if sandbox.limits != spec.limits {
            self.tree.limit(&sandbox.cgroup, &spec.limits, &self.disks).map_err(|e| e.to_string())?;
            let room = scratch_bytes(&spec.limits, self.work_quota);
            let in_memory = self.disk.is_none().then_some(room);
            self.sandbox.resize(sandbox.mounts.as_fd(), room, in_memory).map_err(|e| e.to_string())?;
        }
        self.stage_files(sandbox, spec, &inputs.uploads)?;
        let request = ExecRequest {
            argv: strings(std::iter::once(&spec.command).chain(&spec.args).cloned())?,
            environment: strings(environment(sandbox.id, spec, &inputs).into_iter())?,
            work_dir: strings(std::iter::once(spec.work_dir.clone()))?.swap_remove(0),
        };
        if let Some(record) = record {
            intent::put(&sandbox.init.exit_file, &record).map_err(|e| {
                let path = self.sandbox.exit_file_path(&sandbox.id.to_string());
                not_recorded(format_args!("cannot write {}: {e}; {}", path.display(), disk_remedy(&e)))
            })?;
        }
        sandbox.init.start(&request).map_err(|e| e.to_string())
    }

    /// Puts the uploads into /work, and the working directory if that is below.
    fn stage_files(&self, sandbox: &WarmSandbox, spec: &JobSpec, uploads: &[Upload]) -> Result<(), String> {
        let (work, owner) = (sandbox.work.as_fd(), sandbox.lease.id);
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
fn process(init: Init, mounts: OwnedFd, network: Option<OwnedFd>) -> Process {
    let Init { pidfd, pid, start_time, report, exit_file: record, .. } = init;
    Process { pidfd, pid, start_time, report, record, mounts, network }
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
fn environment(id: JobId, spec: &JobSpec, inputs: &JobInputs) -> Vec<String> {
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
    let plain = inputs.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let secret = inputs.secrets.iter().map(|(name, value)| (name.as_str(), value.expose()));
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
    fn client_overrides_path_and_secret_overrides_plain_variable() {
        let inputs = JobInputs {
            environment: vec![("PATH".into(), "/x".into()), ("TOKEN".into(), "plain".into())],
            secrets: vec![("TOKEN".into(), Secret::new("hidden"))],
            ..JobInputs::default()
        };
        let all = environment(JobId::random(), &JobSpec::bare(), &inputs);
        assert!(all.contains(&"PATH=/x".to_owned()) && all.contains(&"TOKEN=hidden".to_owned()));
        assert_eq!(all.iter().filter(|v| v.starts_with("PATH=")).count(), 1);
        assert!(!all.iter().any(|v| v.contains("plain")));
        assert!(all.contains(&"JOB_TYPE=standard".to_owned()));
    }
}
