//! Berths: everything that a job needs to be started, made before there is the job.
//!
//! Raising walls takes most of a start's time and needs nothing of the job but its id, and ids are ours to choose.
//! So the loop keeps a few berths ready (`joblet.warmSandboxes`), each with an id, a group, a spool, an exit record, a
//! leased host id and a joblet-init that waits behind its walls for an order. A job takes one, its id with it, and
//! a new one is made when the job runs. A berth is used once and has the very walls that a job gets for which none
//! was ready: they come from the same call ([`Spawner::create`]), which then runs first.
//!
//! Making one keeps a processor busy for about a millisecond, mostly in the kernel, where nothing pushes it off. So
//! they are made when no job starts or ends ([`QUIET`]), and earlier only when few are left.
//!
//! Berths are made for the limits of the last job: the next one most likely asks for the same. Where it does not,
//! the limits are changed before its payload is started.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use log::Level;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::DaemonError;
use super::cleanup::CleanupTask;
use super::event_loop::{Loop, Timer};
use super::starting::{Spawner, StartError, scratch_bytes, work_name};
use crate::cgroup::JobCgroup;
use crate::diag;
use crate::job::{JobId, Limits, NetworkMode};
use crate::output::{JobOutput, SpoolWriter, Watermark};
use crate::sandbox::identity::Lease;
use crate::sandbox::{
    CloneContext, Created, Init, Network, SandboxError, SandboxParts, SandboxSpec, create::exit_file_path,
    create::user_namespace,
};
use crate::sys::pidfd::network_namespace;

/// What a berth is made from.
#[derive(Debug)]
pub(super) struct CreateRequest {
    /// The id that its job will have.
    pub(super) id: JobId,
    /// Limits that are in force from the start.
    pub(super) limits: Limits,
    /// Where its network is.
    pub(super) network: Source,
    /// Host id.
    pub(super) lease: Lease,
    /// For the output collector.
    pub(super) watermark: Arc<Watermark>,
}

/// Where a job's network comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// A new namespace.
    New,
    /// One that an earlier job left clean.
    Kept(OwnedFd),
    /// The host's.
    Host,
}

/// A place that is ready for a job.
#[derive(Debug)]
pub(super) struct WarmSandbox {
    /// The id of the job that takes it.
    pub(super) id: JobId,
    /// Limits in force.
    pub(super) limits: Limits,
    /// Host id, with its user namespace.
    pub(super) lease: Lease,
    /// How far its output has come.
    pub(super) watermark: Arc<Watermark>,
    /// Its group.
    pub(super) cgroup: JobCgroup,
    /// Its PID 1, which waits.
    pub(super) init: Init,
    /// Its mount namespace.
    pub(super) mounts: OwnedFd,
    /// Its /work, to be filled.
    pub(super) work: OwnedFd,
    /// Its network namespace, where that is to be used again.
    pub(super) network: Option<OwnedFd>,
}

/// A berth that could not be made, and what there is to give back.
#[derive(Debug)]
pub(super) struct CreateError {
    /// Whose it would have been.
    pub(super) id: JobId,
    /// Host id.
    pub(super) lease: Lease,
    /// The group, if it came so far.
    pub(super) cgroup: Option<JobCgroup>,
    /// Why.
    pub(super) why: StartError,
}

impl Spawner {
    /// Starts the thread that makes berths ahead of jobs, until the queue's senders are gone.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn start_ahead(
        self: &Arc<Self>,
        create_requests: Receiver<CreateRequest>,
        raised: impl Fn(Result<WarmSandbox, CreateError>) + Send + 'static,
    ) -> Result<JoinHandle<()>, DaemonError> {
        let spawner = self.clone();
        let work = move || {
            let mut context = spawner.sandbox.adopt_thread();
            for request in create_requests {
                raised(spawner.create(&mut context, request));
            }
        };
        let thread = std::thread::Builder::new().name("berths".into());
        thread.spawn(work).map_err(|source| DaemonError::Thread { name: "berths", source })
    }

    /// Makes a berth. Its output goes to the collector from now on.
    pub(super) fn create(
        &self,
        context: &mut Result<CloneContext, SandboxError>,
        request: CreateRequest,
    ) -> Result<WarmSandbox, CreateError> {
        let CreateRequest { id, limits, network, mut lease, watermark } = request;
        let mut cgroup = None;
        let made = match context {
            Ok(context) => self.build(context, id, &limits, &network, &mut lease, &mut cgroup),
            Err(why) => Err(StartError::from(&*why)),
        };
        match (made, cgroup) {
            (Ok((Created { init, mounts, stdout, stderr }, work, spool)), Some(cgroup)) => {
                let control = init.control.clone();
                let (progress_of_output, wake) = (watermark.clone(), None);
                let output =
                    JobOutput { id, stdout, stderr, control, spool, watermark: progress_of_output, wake };
                self.collector.add(output);
                let network = self.kept(network, &init);
                Ok(WarmSandbox { id, limits, lease, watermark, cgroup, init, mounts, work, network })
            }
            (made, cgroup) => Err(CreateError { id, lease, cgroup, why: made.err().unwrap_or_default() }),
        }
    }

    /// In this order: what costs nothing to undo first, the clone last, because the child is born in its group.
    fn build(
        &self,
        context: &mut CloneContext,
        id: JobId,
        limits: &Limits,
        network: &Source,
        lease: &mut Lease,
        cgroup: &mut Option<JobCgroup>,
    ) -> Result<(Created, OwnedFd, SpoolWriter), StartError> {
        let name = id.to_string();
        let namespace = user_namespace(lease).map_err(|e| StartError::from(&e))?;
        let spool = SpoolWriter::create(&self.spool.join(&name)).map_err(|e| e.to_string())?;
        let group = self.tree.create(id, limits, &self.disks).map_err(|e| e.to_string())?;
        let group = cgroup.insert(group);
        let scratch_bytes = scratch_bytes(limits, self.work_quota);
        let work = match &self.disk {
            Some(disk) => disk.create(&work_name(id), self.work_quota, lease.id),
            None => self.sandbox.work_tmpfs(scratch_bytes, lease.id),
        };
        let work = work.map_err(|e| StartError::from(&e))?;
        let parts = SandboxParts {
            id: &name,
            spec: SandboxSpec {
                hostname: &format!("job-{}", id.short()),
                scratch_bytes,
                pids: limits.pids,
                network: match network {
                    Source::New => Network::Own,
                    Source::Kept(namespace) => Network::Kept(namespace.as_fd()),
                    Source::Host => Network::Host,
                },
            },
            work: work.as_fd(),
            user_namespace: namespace.as_fd(),
            cgroup: group.dir_fd(),
        };
        let started = self.sandbox.create(context, &parts).map_err(|e| StartError::from(&e))?;
        Ok((started, work, spool))
    }
}

impl Spawner {
    /// The network namespace of a berth, if its like may be used again. Without it the next one is new.
    fn kept(&self, network: Source, init: &Init) -> Option<OwnedFd> {
        match network {
            Source::Kept(namespace) => Some(namespace),
            Source::New if self.reuse_networks => network_namespace(init.pidfd.as_fd(), init.pid).ok(),
            Source::New | Source::Host => None,
        }
    }
}

/// How long nothing starts or ends before berths are made.
const QUIET: Duration = Duration::from_millis(5);

/// Network namespaces that are kept for next jobs; others are left to the kernel.
const NETWORKS_MAX: usize = 256;

/// The loop's berths.
#[derive(Debug, Default)]
pub(super) struct Pool {
    ready: Vec<WarmSandbox>,
    networks: Vec<OwnedFd>,
    // With the thread that makes them.
    creating: usize,
    usual: Option<Limits>,
    // When nothing has started or ended for long enough; a timer looks as long as it is set.
    quiet_at: Option<Instant>,
}

impl Loop {
    /// A job starts or ends: not now, unless few berths are left.
    pub(super) fn refill_later(&mut self) {
        if self.pool.ready.len() + self.pool.creating <= self.settings.warm_sandboxes / 4 {
            self.refill();
            return;
        }
        let quiet_at = Instant::now() + QUIET;
        if self.pool.quiet_at.replace(quiet_at).is_none() {
            self.timers.set(quiet_at, Timer::Quiet);
        }
    }

    /// The timer's look: is it quiet now?
    pub(super) fn quiet(&mut self) {
        match self.pool.quiet_at {
            Some(at) if at > Instant::now() => self.timers.set(at, Timer::Quiet),
            _ => {
                self.pool.quiet_at = None;
                self.refill();
            }
        }
    }

    /// A berth for a job with these limits and its own network; `None` when none is ready.
    pub(super) fn take_warm(&mut self, limits: &Limits) -> Option<WarmSandbox> {
        self.pool.usual = Some(limits.clone());
        loop {
            let ready = &self.pool.ready;
            let same = ready.iter().position(|sandbox| sandbox.limits == *limits);
            let fit = same.or_else(|| ready.iter().position(|sandbox| limits.covers(&sandbox.limits)))?;
            let sandbox = self.pool.ready.swap_remove(fit);
            if waits(&sandbox.init) {
                return Some(sandbox);
            }
            diag::limited!(
                Level::Warn,
                "a joblet-init was killed before it had a job",
                pid = sandbox.init.pid
            );
            self.discard(sandbox);
        }
    }

    /// Makes berths ready for jobs with these limits.
    pub(super) fn expect_jobs(&mut self, usual: Limits) {
        self.pool.usual = Some(usual);
        self.refill();
    }

    /// Has berths made until enough are ready or on their way.
    fn refill(&mut self) {
        let Some(limits) = self.pool.usual.clone().filter(|_| !self.is_ending()) else { return };
        while self.pool.ready.len() + self.pool.creating < self.settings.warm_sandboxes
            && let Some(lease) = self.leases.take()
        {
            let id = JobId::random();
            let watermark = Watermark::new(id, self.notifiers.output.clone());
            let network = self.network_for(NetworkMode::None);
            let request = CreateRequest { id, limits: limits.clone(), network, lease, watermark };
            if let Err(back) = self.queues.create_requests.send(request) {
                self.leases.release(back.into_inner().lease);
                diag::limited!(Level::Error, "the thread that makes berths is gone");
                return;
            }
            self.pool.creating += 1;
            self.watch_starts();
        }
    }

    /// Where a job of this mode gets its network from.
    pub(super) fn network_for(&mut self, mode: NetworkMode) -> Source {
        match mode {
            NetworkMode::Host => Source::Host,
            NetworkMode::None => self.pool.networks.pop().map_or(Source::New, Source::Kept),
        }
    }

    /// Keeps a network namespace in which nothing is left of the job that had it.
    pub(super) fn keep_network(&mut self, namespace: OwnedFd) {
        if self.pool.networks.len() < NETWORKS_MAX {
            self.pool.networks.push(namespace);
        }
    }

    /// Takes a new berth in. One that could not be made is not tried again before the next job: that one's own
    /// start tells its client why.
    pub(super) fn collect_created(&mut self, raised: Result<WarmSandbox, CreateError>) {
        self.pool.creating -= 1;
        match raised {
            Ok(sandbox) if self.is_ending() => self.discard(sandbox),
            Ok(sandbox) => self.pool.ready.push(sandbox),
            Err(CreateError { id, lease, cgroup, why }) => {
                diag::limited!(Level::Warn, "cannot make a berth for a next job", error = why.why);
                self.cleanup(CleanupTask::Directory(self.settings.spool.join(id.to_string())));
                self.release(id, lease);
                if let Some(group) = cgroup {
                    self.remove_cgroup(group);
                }
            }
        }
    }

    /// Whether berths are on their way.
    pub(super) fn is_filling(&self) -> bool {
        self.pool.creating > 0
    }

    /// Gives all berths up: the daemon ends.
    pub(super) fn discard_all(&mut self) {
        for sandbox in std::mem::take(&mut self.pool.ready) {
            self.discard(sandbox);
        }
    }

    /// Gives a berth up.
    pub(super) fn discard(&mut self, sandbox: WarmSandbox) {
        let WarmSandbox { id, lease, cgroup, init, mounts, .. } = sandbox;
        let _ = pidfd_send_signal(&init.pidfd, Signal::KILL);
        self.cleanup(CleanupTask::Process(init.pidfd));
        self.cleanup(CleanupTask::Close(mounts));
        self.cleanup(CleanupTask::File(exit_file_path(&self.settings.run_dir, &id.to_string())));
        self.cleanup(CleanupTask::Directory(self.settings.spool.join(id.to_string())));
        self.release(id, lease);
        self.remove_cgroup(cgroup);
    }
}

/// Whether a joblet-init is alive; a dead one is not reaped by asking.
fn waits(init: &Init) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::PidFd(init.pidfd.as_fd()), look), Ok(None))
}
