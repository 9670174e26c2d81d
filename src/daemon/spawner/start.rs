//! Starting a job: its sandbox is configured for it, then joblet-init executes the payload.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use super::payload::{environment, exec_request};
use super::{CreateError, CreateRequest, Spawner, StartError, Token, WarmSandbox};
use crate::daemon::egress::Watched;
use crate::daemon::inputs::{self, Keeper};
use crate::daemon::outputs::Inputs;
use crate::daemon::provision::{
    Gpus, Identity, Names, Network, Ports, Resources, Runtime, Volumes, hostname, scratch_bytes,
    volume_mounts,
};
use crate::daemon::runtimes::{BUILD_PLACES, BUILD_TREE, PATH};
use crate::diag::disk_remedy;
use crate::exporter::Took;
use crate::init_abi::order::PAYLOAD;
use crate::input::Store;
use crate::job::{Found, GpuLease, JobId, JobSpec, NetRate, WireLease};
use crate::output::{Release, Watermark};
use crate::runtime::Use;
use crate::sandbox::session::{Input, Receiver};
use crate::sandbox::start::ExecRequest;
use crate::sandbox::work::WorkDisk;
use crate::sandbox::{CloneContext, Init, SandboxError};
use crate::state::record::Process;
use crate::state::{Record, intent, not_recorded};
use crate::sys::clock::now_ns;
use crate::sys::pidfd::kill_and_reap;
use crate::upload::outputs;
use crate::upload::{self, Claim, JobInputs, Upload, UploadError, Wanted};
use crate::volume::Volume;

/// Most bytes and files that a start may copy before ordinary load: some milliseconds' worth.
const LARGE: (u64, usize) = (16 << 20, 1024);

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
    /// Where it is counted what the job was refused.
    pub(in crate::daemon) counted: Arc<AtomicU64>,
    /// Files of other jobs that it gets.
    pub(in crate::daemon) data: Option<Inputs>,
    /// Whether its root is to be made first, which takes as long as a runtime is complicated.
    pub(in crate::daemon) is_new_root: bool,
    /// Its volumes, in the order of the request.
    pub(in crate::daemon) volumes: Vec<Arc<Volume>>,
    /// Whether its /work is to be read when it has ended.
    pub(in crate::daemon) keeps_work: bool,
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
    Staged {
        /// Their bytes, with those of the request.
        bytes: u64,
    },
}

impl StartRequest {
    /// Whether its client decides how long the start takes: copying the files does, and a journal that is replayed.
    pub(super) fn is_large(&self) -> bool {
        let mounts = self.volumes.iter().any(|volume| !volume.is_mounted());
        self.is_new_root
            || mounts
            || !self.claims.is_empty()
            || self.data.is_some()
            || self.inputs.are_large(&self.spec)
    }
}

impl InputSource {
    fn are_large(&self, spec: &JobSpec) -> bool {
        match self {
            InputSource::Staged { bytes } => *bytes > LARGE.0 || spec.upload_paths.len() > LARGE.1,
            InputSource::Given(inputs) => {
                let uploads = &inputs.uploads;
                let bytes = || uploads.iter().map(|upload| upload.content.len() as u64).sum::<u64>();
                uploads.len() > LARGE.1 || bytes() > LARGE.0
            }
        }
    }
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

    /// The same with ports of the host that are to reach its job.
    pub(in crate::daemon) fn with_ports(mut self, ports: Option<Ports>) -> Self {
        if let Some(ports) = &ports {
            ports.belong_to(self.id());
        }
        match &mut self {
            JobSandbox::Warm(sandbox) => sandbox.held.ports = ports,
            JobSandbox::Cold(request) => request.held.ports = ports,
        }
        self
    }

    /// The same with GPUs for its job.
    pub(in crate::daemon) fn with_gpus(mut self, gpus: Option<Gpus>) -> Self {
        match &mut self {
            JobSandbox::Warm(sandbox) => sandbox.held.gpus = gpus,
            JobSandbox::Cold(request) => request.held.gpus = gpus,
        }
        self
    }

    /// The same with the runtime of its job.
    pub(in crate::daemon) fn with_runtime(mut self, runtime: Option<Runtime>) -> Self {
        match &mut self {
            JobSandbox::Warm(sandbox) => sandbox.held.runtime = runtime,
            JobSandbox::Cold(request) => request.held.runtime = runtime,
        }
        self
    }

    /// The version of its runtime.
    fn runtime(&self) -> Option<&Use> {
        self.held().runtime.as_ref().and_then(Runtime::installed)
    }

    /// The GPUs of the job.
    pub(in crate::daemon) fn gpus(&self) -> Vec<GpuLease> {
        self.held().gpus.as_ref().map(|gpus| gpus.leases().to_vec()).unwrap_or_default()
    }

    fn held(&self) -> &Resources {
        match self {
            JobSandbox::Warm(sandbox) => &sandbox.held,
            JobSandbox::Cold(request) => &request.held,
        }
    }

    /// The address and the wire of the job, if it has any.
    pub(in crate::daemon) fn wire(&self) -> Option<WireLease> {
        self.held().network.as_ref().and_then(Network::recorded)
    }

    /// The host id that the job runs as.
    pub(in crate::daemon) fn host_id(&self) -> Option<u32> {
        self.held().identity.as_ref().map(|identity| identity.host_id())
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

/// The /work of a job that leaves files for others, and the joblet-init that keeps it.
#[derive(Debug)]
pub(in crate::daemon) struct HeldWork {
    /// The root of /work, until its files are being taken.
    pub(in crate::daemon) root: Option<OwnedFd>,
    /// Lets joblet-init end, and with it /work; `None`: it does not wait for that, as an earlier version's.
    pub(in crate::daemon) release: Option<Arc<Release>>,
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
    /// Its /work, where that is to be read.
    pub(in crate::daemon) work: Option<HeldWork>,
    /// When its payload was permitted.
    pub(in crate::daemon) at: Instant,
}

/// The program of a job.
#[derive(Clone, Copy)]
struct Payload<'a> {
    spec: &'a JobSpec,
    runtime: Option<&'a Use>,
    // Its user, where its root knows that.
    found: Option<&'a Found>,
}

impl Spawner {
    /// Starts a job, in a new sandbox where it has none.
    pub(super) fn start(
        &self,
        context: &mut Result<CloneContext, SandboxError>,
        request: StartRequest,
    ) -> StartResult {
        let StartRequest {
            sandbox,
            spec,
            inputs,
            claims,
            data,
            is_new_root: _,
            volumes,
            keeps_work,
            counted,
            record,
            under_way,
        } = request;
        let began = Instant::now();
        let is_warm = matches!(sandbox, JobSandbox::Warm(_));
        if let Some(runtime) = sandbox.runtime() {
            runtime.runtime().note_use(now_ns());
        }
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
        let mut sandbox = sandbox;
        let created = Instant::now();
        let configured = self
            .renew_wire(&mut sandbox, self.node.kept_rate(spec.rate))
            .and_then(|()| self.watch_egress(&mut sandbox, &spec, counted))
            .and_then(|()| self.attach_volumes(&mut sandbox, &spec, volumes))
            .and_then(|()| self.expose_gpus(&mut sandbox))
            .and_then(|()| self.find_user(&sandbox, &spec))
            .and_then(|found| {
                let runtime = sandbox.held.runtime.as_ref().and_then(Runtime::installed);
                let payload = Payload { spec: &spec, runtime, found: found.as_ref() };
                self.configure(&sandbox, payload, inputs, (&claims, data.as_ref()), record)
            });
        let WarmSandbox { id, init, held, work, .. } = sandbox;
        let at = Instant::now();
        let result = match configured {
            Ok(()) => {
                let create = (!is_warm).then(|| created - began);
                self.counts.prepared(Took { create, configure: at - created });
                let process = trace(&init);
                let Init { pidfd, pid, report, exit_file, oom_score, control, .. } = init;
                let release = keeps_work.then(|| Arc::new(Release { control, wake: None }));
                let work = keeps_work.then(|| HeldWork { root: Some(work), release });
                Ok(Started { pidfd, pid, process, report, exit_file, oom_score, work, at })
            }
            Err(why) => {
                // Nothing but joblet-init was ever in there, and that ends at once.
                kill_and_reap(init.pidfd.as_fd());
                Err(why.into())
            }
        };
        StartResult { id, held, result, under_way }
    }

    /// Puts the job's egress list into force and makes its names known, where it has a network.
    fn watch_egress(
        &self,
        sandbox: &mut WarmSandbox,
        spec: &JobSpec,
        counted: Arc<AtomicU64>,
    ) -> Result<(), String> {
        let Some(lease) = sandbox.held.network.as_ref().and_then(Network::lease) else { return Ok(()) };
        let (list, is_build) = (spec.egress.clone().map(Arc::new), spec.build.is_some());
        let job = Watched { id: sandbox.id, network: lease.network.clone(), list, is_build, counted };
        let begun = self.node.egress.begin(&self.node.wiring, lease.address, job);
        begun.map_err(|why| format!("network setup failed: {why}"))?;
        sandbox.held.names = Names::make(&self.node, sandbox.id, &spec.name, lease, spec.egress.as_ref());
        Ok(())
    }

    /// Gives a sandbox of another network or rate those of its job. Its payload does not run yet.
    fn renew_wire(&self, sandbox: &mut WarmSandbox, rate: NetRate) -> Result<(), String> {
        let Some(network) = &sandbox.held.network else { return Ok(()) };
        let Some(new) = network.lease() else { return Ok(()) };
        let (old, rate) = (network.old(), Some(rate).filter(|rate| *rate != sandbox.rate));
        if old.is_none() && rate.is_none() {
            return Ok(());
        }
        let Some(inside) = &mut sandbox.inside else {
            return Err("network setup failed: the warm sandbox has no socket inside".to_owned());
        };
        let renewed = self.node.wiring.renew(inside, old, new, rate);
        renewed.map_err(|why| format!("network setup failed: {why}"))?;
        if old.is_none() {
            return Ok(());
        }
        let mounts = sandbox.held.mounts.as_ref().ok_or("network setup failed: the sandbox has no mounts")?;
        let renamed = self.node.sandbox.rename_address(mounts.as_fd(), &hostname(sandbox.id), new.address);
        renamed.map_err(|why| why.to_string())
    }

    /// Attaches the job's volumes. All of them are there before its payload runs, or it does not run.
    fn attach_volumes(
        &self,
        sandbox: &mut WarmSandbox,
        spec: &JobSpec,
        volumes: Vec<Arc<Volume>>,
    ) -> Result<(), String> {
        if volumes.is_empty() {
            return Ok(());
        }
        let Resources { identity: Some(identity), mounts: Some(mounts), .. } = &mut sandbox.held else {
            return Err("the sandbox has no identity or no mounts".to_owned());
        };
        let attached = volume_mounts(identity, &spec.volumes, &volumes).map_err(|failed| failed.why)?;
        self.node.sandbox.attach(mounts.as_fd(), &attached).map_err(|e| e.to_string())?;
        sandbox.held.volumes = Some(Volumes::Mounted(volumes));
        Ok(())
    }

    /// Puts the nodes of the job's GPUs into its /dev.
    fn expose_gpus(&self, sandbox: &mut WarmSandbox) -> Result<(), String> {
        let Some(gpus) = &mut sandbox.held.gpus else { return Ok(()) };
        let (Some(cgroup), Some(mounts)) = (&sandbox.held.cgroup, &sandbox.held.mounts) else {
            return Err("the sandbox has no cgroup or no mounts".to_owned());
        };
        gpus.expose(&self.node, cgroup, mounts)
    }

    /// Makes a sandbox this job's own, then has its payload executed. Limits are in force and the record is written
    /// before that.
    fn configure(
        &self,
        sandbox: &WarmSandbox,
        payload: Payload<'_>,
        inputs: InputSource,
        (claims, data): (&[Claim], Option<&Inputs>),
        record: Option<Box<Record>>,
    ) -> Result<(), String> {
        let Payload { spec, runtime, found } = payload;
        let inputs = match inputs {
            InputSource::Given(inputs) => inputs,
            InputSource::Staged { .. } => self
                .stage
                .take(&sandbox.id.to_string())
                .map_err(|e| format!("failed to create isolated environment: {e}"))?,
        };
        if sandbox.limits != spec.limits {
            self.set_limits(sandbox, spec)?;
        }
        self.stage_files(sandbox, payload, &inputs.uploads, claims, data)?;
        self.open_places(sandbox, spec)?;
        let variables =
            runtime.map(|runtime| runtime.runtime().description.variables(PATH)).unwrap_or_default();
        let gpus = sandbox.held.gpus.as_ref().map_or(&[][..], |gpus| gpus.leases());
        let gpus = (gpus, self.node.sandbox.driver_parts());
        let variables = environment(sandbox.id, spec, found, variables, gpus, &inputs);
        let request = exec_request(spec, found, variables)?;
        if let Some(mut record) = record {
            // That of a cold sandbox was not known when the record was made.
            record.process = trace(&sandbox.init);
            intent::put(&sandbox.init.exit_file, &record).map_err(|e| {
                let path = self.node.sandbox.exit_file_path(&sandbox.id.to_string());
                not_recorded(format_args!("cannot write {}: {e}; {}", path.display(), disk_remedy(&e)))
            })?;
        }
        self.begin(sandbox, spec, &request)
    }

    /// Has the payload executed, with a standard input where it has one.
    fn begin(&self, sandbox: &WarmSandbox, spec: &JobSpec, request: &ExecRequest) -> Result<(), String> {
        let Init { pidfd, pid, .. } = &sandbox.init;
        if !spec.stdin {
            return sandbox.init.start(request, false).map_err(|e| e.to_string());
        }
        let failed = |why| format!("cannot make its standard input: {why}");
        let (store, stdin) = Store::create().map_err(failed)?;
        let keeper = Keeper { pidfd: pidfd.try_clone().map_err(failed)?, pid: *pid, place: PAYLOAD, tag: 0 };
        let input = Input { stdin: stdin.as_fd(), file: store.file(), pipe: store.pipe(), tag: 0 };
        let receiver = Receiver { pidfd: pidfd.as_fd(), pid: *pid };
        receiver.feed(input).map_err(|e| e.to_string())?;
        sandbox.init.start(request, true).map_err(|e| e.to_string())?;
        inputs::open(&self.inputs, sandbox.id, store, keeper);
        Ok(())
    }

    /// Lets a job that builds a runtime write where that is made.
    fn open_places(&self, sandbox: &WarmSandbox, spec: &JobSpec) -> Result<(), String> {
        if spec.build.is_none() {
            return Ok(());
        }
        let mounts = sandbox.held.mounts.as_ref().ok_or("the sandbox has no mounts")?;
        let shown = self.node.sandbox.show_at(mounts.as_fd(), BUILD_TREE, &BUILD_PLACES);
        shown.map_err(|why| why.to_string())
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
        Payload { spec, found, .. }: Payload<'_>,
        uploads: &[Upload],
        claims: &[Claim],
        data: Option<&Inputs>,
    ) -> Result<(), String> {
        let failed = |e: UploadError| format!("failed to create isolated environment: {e}");
        let work = sandbox.work.as_fd();
        let identity = sandbox.held.identity.as_ref();
        let owner = identity.map_or(0, Identity::owner);
        let (owner, group) = identity.zip(found).map_or((owner, owner), |(identity, found)| {
            (identity.root() + found.uid, identity.root() + found.gid)
        });
        // A job of a workflow gets the files that it names.
        let wanted = match spec.part {
            Some(_) => Wanted::Named(&spec.upload_paths),
            None => Wanted::All,
        };
        let inline = uploads.iter().map(|upload| upload.content.len() as u64);
        let mut bytes: u64 = inline.sum();
        for claim in claims {
            bytes += claim.stored().bytes_of(&wanted).map_err(failed)?;
        }
        // A quota does not hold the daemon back, and what does not fit is not copied in vain.
        if bytes > self.node.work_quota {
            return Err(failed(UploadError::Fill { bytes, quota: self.node.work_quota }));
        }
        for claim in claims {
            upload::write_stored(work, claim.stored(), &wanted, owner, group).map_err(failed)?;
        }
        upload::write_beneath(work, uploads, owner, group).map_err(failed)?;
        let mut entries = uploads.len() + claims.iter().map(|claim| claim.stored().entries()).sum::<usize>();
        for input in data.into_iter().flat_map(Inputs::iter) {
            let written = outputs::give(work, &input, owner).map_err(failed)?;
            bytes += written.bytes;
            entries += written.files;
        }
        if let Some(below) = spec.work_dir.strip_prefix("/work/") {
            let dir = Upload { path: below.into(), is_directory: true, ..Upload::default() };
            match upload::write_beneath(work, &[dir], owner, group) {
                // An uploaded link, or a file: joblet-init enters it from within, where a link leads nowhere else, and
                // reports what is no directory.
                Err(e) if e.is_in_the_way() => {}
                written => drop(written.map_err(failed)?),
            }
        }
        if let Some(disk) = self.node.disk.as_ref().filter(|_| entries > 0) {
            within_quota(disk, identity.map_or(0, Identity::host_id), bytes, entries)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten starts with fifty thousand files each held up all other starts for two seconds.
    #[test]
    fn start_with_many_bytes_or_files_is_large() {
        let file = |bytes| Upload { path: b"f".into(), content: vec![0; bytes], ..Upload::default() };
        let given = |uploads| InputSource::Given(JobInputs { uploads, ..JobInputs::default() });
        let spec = |files| JobSpec { upload_paths: vec!["f".into(); files], ..JobSpec::bare() };
        let (most, files) = (16 << 20, 1024);
        for (large, source, spec) in [
            (false, given(vec![]), spec(0)),
            (false, given(vec![file(most)]), spec(1)),
            (true, given(vec![file(most), file(1)]), spec(2)),
            (false, given(vec![file(0); files]), spec(files)),
            (true, given(vec![file(0); files + 1]), spec(files + 1)),
            (false, InputSource::Staged { bytes: 16 << 20 }, spec(files)),
            (true, InputSource::Staged { bytes: (16 << 20) + 1 }, spec(1)),
            (true, InputSource::Staged { bytes: 1 }, spec(files + 1)),
        ] {
            assert_eq!(source.are_large(&spec), large, "{} files", spec.upload_paths.len());
        }
    }
}
