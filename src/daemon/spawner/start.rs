//! Starting a job: its sandbox is configured for it, then joblet-init executes the payload.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::payload::{environment, exec_request};
use super::{CreateError, CreateRequest, Spawner, StartError, Token, WarmSandbox};
use crate::daemon::provision::{Resources, scratch_bytes};
use crate::diag::disk_remedy;
use crate::job::{JobId, JobSpec};
use crate::output::Watermark;
use crate::sandbox::work::WorkDisk;
use crate::sandbox::{CloneContext, Init, SandboxError};
use crate::state::record::Process;
use crate::state::{Record, intent, not_recorded};
use crate::sys::pidfd::kill_and_reap;
use crate::upload::{self, Claim, JobInputs, Upload, UploadError};

/// A job to start.
#[derive(Debug)]
pub(in crate::daemon) struct StartRequest {
    /// Where it starts.
    pub(in crate::daemon) sandbox: JobSandbox,
    /// The job's request.
    pub(in crate::daemon) spec: Arc<JobSpec>,
    /// Its files and variables.
    pub(in crate::daemon) inputs: InputSource,
    /// Its files that came ahead.
    pub(in crate::daemon) claims: Arc<Vec<Claim>>,
    /// The job's record, if jobs are remembered on disk. No payload runs before it is written.
    pub(in crate::daemon) record: Option<Box<Record>>,
    /// Counts it among those under way; comes back with the answer.
    pub(in crate::daemon) under_way: Token,
}

/// Where the files and variables of a job are.
#[derive(Debug)]
pub(in crate::daemon) enum InputSource {
    /// They came with the request.
    Given(JobInputs),
    /// They are in the staging directory, because the job had to wait.
    Staged,
}

/// The sandbox of a job that starts.
#[derive(Debug)]
pub(in crate::daemon) enum JobSandbox {
    /// One that was ready.
    Warm(Box<WarmSandbox>),
    /// One that has to be created first.
    Cold(Box<CreateRequest>),
}

impl JobSandbox {
    /// The id of the job that is started there.
    pub(in crate::daemon) fn id(&self) -> JobId {
        match self {
            JobSandbox::Warm(sandbox) => sandbox.id,
            JobSandbox::Cold(request) => request.id,
        }
    }

    /// How far the output of that job has come.
    pub(in crate::daemon) fn output(&self) -> Arc<Watermark> {
        match self {
            JobSandbox::Warm(sandbox) => sandbox.output.clone(),
            JobSandbox::Cold(request) => request.output.clone(),
        }
    }

    /// The host id that the job runs as.
    pub(in crate::daemon) fn host_id(&self) -> Option<u32> {
        let held = match self {
            JobSandbox::Warm(sandbox) => &sandbox.held,
            JobSandbox::Cold(request) => &request.held,
        };
        held.identity.as_ref().map(|identity| identity.host_id())
    }

    /// Its PID 1, if there is one yet.
    pub(in crate::daemon) fn process(&self) -> Option<Process> {
        match self {
            JobSandbox::Warm(sandbox) => trace(&sandbox.init),
            JobSandbox::Cold(_) => None,
        }
    }
}

/// By what a later daemon finds a PID 1.
fn trace(init: &Init) -> Option<Process> {
    let start_time = init.start_time?;
    Some(Process { pid: init.pid, start_time })
}

/// The result of a start.
#[derive(Debug)]
pub(in crate::daemon) struct StartResult {
    /// The job's identity.
    pub(in crate::daemon) id: JobId,
    /// The resources that it holds, whatever became of it.
    pub(in crate::daemon) held: Resources,
    /// PID 1, or why there is none. The output is with the collector already.
    pub(in crate::daemon) result: Result<Started, StartError>,
    /// Counted it among those under way.
    pub(in crate::daemon) under_way: Token,
}

/// The loop's part of a started PID 1. The file of the exec request is closed by now.
#[derive(Debug)]
pub(in crate::daemon) struct Started {
    /// PID 1 of the job.
    pub(in crate::daemon) pidfd: OwnedFd,
    /// Its number on the host.
    pub(in crate::daemon) pid: i32,
    /// By what a later daemon finds it.
    pub(in crate::daemon) process: Option<Process>,
    /// Read end of the report pipe.
    pub(in crate::daemon) report: OwnedFd,
    /// The exit file, which PID 1 writes at the end.
    pub(in crate::daemon) exit_file: File,
    /// `/proc/PID/oom_score_adj` of PID 1.
    pub(in crate::daemon) oom_score: Option<File>,
}

impl Spawner {
    /// Starts a job, in a new sandbox where it has none.
    pub(super) fn start(
        &self,
        context: &mut Result<CloneContext, SandboxError>,
        request: StartRequest,
    ) -> StartResult {
        let StartRequest { sandbox, spec, inputs, claims, record, under_way } = request;
        let sandbox = match sandbox {
            JobSandbox::Warm(sandbox) => *sandbox,
            JobSandbox::Cold(request) => match self.create(context, request) {
                Ok(sandbox) => sandbox,
                Err(error) => {
                    let CreateError { id, held, why } = *error;
                    return StartResult { id, held, result: Err(why), under_way };
                }
            },
        };
        let configured = self.configure(&sandbox, &spec, inputs, &claims, record);
        let WarmSandbox { id, init, held, .. } = sandbox;
        let result = match configured {
            Ok(()) => {
                let process = trace(&init);
                let Init { pidfd, pid, report, exit_file, oom_score, .. } = init;
                Ok(Started { pidfd, pid, process, report, exit_file, oom_score })
            }
            Err(why) => {
                // Nothing but joblet-init was ever in there, and that ends at once.
                kill_and_reap(init.pidfd.as_fd());
                Err(why.into())
            }
        };
        StartResult { id, held, result, under_way }
    }

    /// Makes a sandbox this job's own, then has its payload executed. Limits are in force and the record is written
    /// before that.
    fn configure(
        &self,
        sandbox: &WarmSandbox,
        spec: &JobSpec,
        inputs: InputSource,
        claims: &[Claim],
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
            self.set_limits(sandbox, spec)?;
        }
        self.stage_files(sandbox, spec, &inputs.uploads, claims)?;
        let request = exec_request(spec, environment(sandbox.id, spec, &inputs))?;
        if let Some(record) = record {
            intent::put(&sandbox.init.exit_file, &record).map_err(|e| {
                let path = self.node.sandbox.exit_file_path(&sandbox.id.to_string());
                not_recorded(format_args!("cannot write {}: {e}; {}", path.display(), disk_remedy(&e)))
            })?;
        }
        sandbox.init.start(&request).map_err(|e| e.to_string())
    }

    /// Changes the limits that the sandbox was created with to those of its job.
    fn set_limits(&self, sandbox: &WarmSandbox, spec: &JobSpec) -> Result<(), String> {
        let node = &self.node;
        let (Some(cgroup), Some(mounts)) = (&sandbox.held.cgroup, &sandbox.held.mounts) else {
            return Err("the sandbox has no cgroup or no mounts".to_owned());
        };
        node.tree.limit(cgroup, &spec.limits, &node.disks).map_err(|e| e.to_string())?;
        let room = scratch_bytes(&spec.limits, node.work_quota);
        let in_memory = node.disk.is_none().then_some(room);
        node.sandbox.resize(mounts.as_fd(), room, in_memory).map_err(|e| e.to_string())
    }

    /// Puts the uploads into /work, and the working directory if that is below.
    fn stage_files(
        &self,
        sandbox: &WarmSandbox,
        spec: &JobSpec,
        uploads: &[Upload],
        claims: &[Claim],
    ) -> Result<(), String> {
        let failed = |e: UploadError| format!("failed to create isolated environment: {e}");
        let work = sandbox.work.as_fd();
        let owner = sandbox.held.identity.as_ref().map_or(0, |identity| identity.host_id());
        let inline = uploads.iter().map(|upload| upload.content.len() as u64);
        let bytes = inline.chain(claims.iter().map(|claim| claim.stored().size())).sum();
        // A quota does not hold the daemon back, and what does not fit is not copied in vain.
        if bytes > self.node.work_quota {
            return Err(failed(UploadError::Fill { bytes, quota: self.node.work_quota }));
        }
        for claim in claims {
            upload::write_stored(work, claim.stored(), owner, owner).map_err(failed)?;
        }
        upload::write_beneath(work, uploads, owner, owner).map_err(failed)?;
        if let Some(below) = spec.work_dir.strip_prefix("/work/") {
            let dir = Upload { path: below.into(), is_directory: true, ..Upload::default() };
            match upload::write_beneath(work, &[dir], owner, owner) {
                // An uploaded link, or a file: joblet-init enters it from within, where a link leads nowhere else, and
                // reports what is no directory.
                Err(e) if e.is_in_the_way() => {}
                written => drop(written.map_err(failed)?),
            }
        }
        let entries = uploads.len() + claims.iter().map(|claim| claim.stored().entries()).sum::<usize>();
        if let Some(disk) = self.node.disk.as_ref().filter(|_| entries > 0) {
            within_quota(disk, owner, bytes, entries)
                .map_err(|e| format!("failed to create isolated environment: {e}"))?;
        }
        Ok(())
    }
}

/// A quota does not hold the daemon back (quotactl(2): CAP_SYS_RESOURCE), only its jobs.
fn within_quota(disk: &WorkDisk, project: u32, bytes: u64, entries: usize) -> Result<(), String> {
    let usage = disk.usage(project).map_err(|e| format!("cannot read the quota of /work: {e}"))?;
    let full = if usage.bytes > usage.byte_limit {
        UploadError::Fill { bytes, quota: usage.byte_limit }
    } else if usage.inodes > usage.inode_limit {
        UploadError::FillInodes { entries, inodes: usage.inode_limit }
    } else {
        return Ok(());
    };
    Err(full.to_string())
}
