//! Berths: everything that a job needs to be started, made before there is the job.
//!
//! Raising walls takes most of a start's time and needs nothing of the job but its id, and ids are ours to choose.
//! So the loop keeps a few berths ready (`joblet.readyBerths`), each with an id, a group, a spool, an exit record, a
//! leased host id and a joblet-init that waits behind its walls for an order. A job takes one, its id with it, and
//! a new one is made when the job runs. A berth is used once and has the very walls that a job gets for which none
//! was ready: they come from the same call ([`Spawner::raise`]), which then runs first.
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
use super::event_loop::{Due, Loop};
use super::starting::{NoStart, Spawner, scratch_bytes, work_name};
use super::workers::Chore;
use crate::cgroup::JobCgroup;
use crate::diag;
use crate::job::{JobId, Limits, NetworkMode};
use crate::output::{JobOutput, Progress, SpoolWriter};
use crate::sandbox::identity::Lease;
use crate::sandbox::{
    Cradle, Init, Network, SandboxError, Started, Walls, spawn::record_path, spawn::user_namespace,
};
use crate::sys::pidfd::network_namespace;

/// What a berth is made from.
#[derive(Debug)]
pub(super) struct Plot {
    /// The id that its job will have.
    pub(super) id: JobId,
    /// Limits that are in force from the start.
    pub(super) limits: Limits,
    /// Where its network is.
    pub(super) network: Source,
    /// Host id.
    pub(super) lease: Lease,
    /// For the output collector.
    pub(super) progress: Arc<Progress>,
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
pub(super) struct Berth {
    /// The id of the job that takes it.
    pub(super) id: JobId,
    /// Limits in force.
    pub(super) limits: Limits,
    /// Host id, with its user namespace.
    pub(super) lease: Lease,
    /// How far its output has come.
    pub(super) progress: Arc<Progress>,
    /// Its group.
    pub(super) cgroup: JobCgroup,
    /// Its PID 1, which waits.
    pub(super) init: Init,
    /// Its /work, to be filled.
    pub(super) work: OwnedFd,
    /// Its network namespace, where that is to be used again.
    pub(super) network: Option<OwnedFd>,
}

/// A berth that could not be made, and what there is to give back.
#[derive(Debug)]
pub(super) struct NoBerth {
    /// Whose it would have been.
    pub(super) id: JobId,
    /// Host id.
    pub(super) lease: Lease,
    /// The group, if it came so far.
    pub(super) cgroup: Option<JobCgroup>,
    /// Why.
    pub(super) why: NoStart,
}

impl Spawner {
    /// Starts the thread that makes berths ahead of jobs, until the queue's senders are gone.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn start_ahead(
        self: &Arc<Self>,
        plots: Receiver<Plot>,
        raised: impl Fn(Result<Berth, NoBerth>) + Send + 'static,
    ) -> Result<JoinHandle<()>, DaemonError> {
        let spawner = self.clone();
        let work = move || {
            let mut cradle = spawner.sandbox.adopt_thread();
            for plot in plots {
                raised(spawner.raise(&mut cradle, plot));
            }
        };
        let thread = std::thread::Builder::new().name("berths".into());
        thread.spawn(work).map_err(|source| DaemonError::Thread { name: "berths", source })
    }

    /// Makes a berth. Its output goes to the collector from now on.
    pub(super) fn raise(
        &self,
        cradle: &mut Result<Cradle, SandboxError>,
        plot: Plot,
    ) -> Result<Berth, NoBerth> {
        let Plot { id, limits, network, mut lease, progress } = plot;
        let mut cgroup = None;
        let made = match cradle {
            Ok(cradle) => self.build(cradle, id, &limits, &network, &mut lease, &mut cgroup),
            Err(why) => Err(NoStart::from(&*why)),
        };
        match (made, cgroup) {
            (Ok((Started { init, stdout, stderr }, work, spool)), Some(cgroup)) => {
                let control = init.control.clone();
                let (progress_of_output, wake) = (progress.clone(), None);
                let output =
                    JobOutput { id, stdout, stderr, control, spool, progress: progress_of_output, wake };
                self.collector.add(output);
                let network = self.kept(network, &init);
                Ok(Berth { id, limits, lease, progress, cgroup, init, work, network })
            }
            (made, cgroup) => Err(NoBerth { id, lease, cgroup, why: made.err().unwrap_or_default() }),
        }
    }

    /// In this order: what costs nothing to undo first, the clone last, because the child is born in its group.
    fn build(
        &self,
        cradle: &mut Cradle,
        id: JobId,
        limits: &Limits,
        network: &Source,
        lease: &mut Lease,
        cgroup: &mut Option<JobCgroup>,
    ) -> Result<(Started, OwnedFd, SpoolWriter), NoStart> {
        let name = id.to_string();
        let namespace = user_namespace(lease).map_err(|e| NoStart::from(&e))?;
        let spool = SpoolWriter::create(&self.spool.join(&name)).map_err(|e| e.to_string())?;
        let group = self.tree.create(id, limits, &self.disks).map_err(|e| e.to_string())?;
        let group = cgroup.insert(group);
        let scratch_bytes = scratch_bytes(limits, self.work_quota);
        let work = match &self.disk {
            Some(disk) => disk.create(&work_name(id), self.work_quota, lease.id),
            None => self.sandbox.work_tmpfs(scratch_bytes, lease.id),
        };
        let work = work.map_err(|e| NoStart::from(&e))?;
        let walls = Walls {
            id: &name,
            hostname: &format!("job-{}", id.short()),
            work: work.as_fd(),
            scratch_bytes,
            pids: limits.pids,
            network: match network {
                Source::New => Network::Own,
                Source::Kept(namespace) => Network::Kept(namespace.as_fd()),
                Source::Host => Network::Host,
            },
            user_namespace: namespace.as_fd(),
            cgroup: group.dir_fd(),
        };
        let started = self.sandbox.raise(cradle, &walls).map_err(|e| NoStart::from(&e))?;
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
pub(super) struct Stock {
    ready: Vec<Berth>,
    networks: Vec<OwnedFd>,
    // With the thread that makes them.
    raising: usize,
    usual: Option<Limits>,
    // When nothing has started or ended for long enough; a timer looks as long as it is set.
    quiet_at: Option<Instant>,
}

impl Loop {
    /// A job starts or ends: not now, unless few berths are left.
    pub(super) fn restock_later(&mut self) {
        if self.stock.ready.len() + self.stock.raising <= self.settings.ready_berths / 4 {
            self.restock();
            return;
        }
        let quiet_at = Instant::now() + QUIET;
        if self.stock.quiet_at.replace(quiet_at).is_none() {
            self.timers.set(quiet_at, Due::Quiet);
        }
    }

    /// The timer's look: is it quiet now?
    pub(super) fn quiet(&mut self) {
        match self.stock.quiet_at {
            Some(at) if at > Instant::now() => self.timers.set(at, Due::Quiet),
            _ => {
                self.stock.quiet_at = None;
                self.restock();
            }
        }
    }

    /// A berth for a job with these limits and its own network; `None` when none is ready.
    pub(super) fn take_berth(&mut self, limits: &Limits) -> Option<Berth> {
        self.stock.usual = Some(limits.clone());
        loop {
            let ready = &self.stock.ready;
            let same = ready.iter().position(|berth| berth.limits == *limits);
            let fit = same.or_else(|| ready.iter().position(|berth| limits.covers(&berth.limits)))?;
            let berth = self.stock.ready.swap_remove(fit);
            if waits(&berth.init) {
                return Some(berth);
            }
            diag::limited!(Level::Warn, "a joblet-init was killed before it had a job", pid = berth.init.pid);
            self.scrap(berth);
        }
    }

    /// Makes berths ready for jobs with these limits.
    pub(super) fn expect_jobs(&mut self, usual: Limits) {
        self.stock.usual = Some(usual);
        self.restock();
    }

    /// Has berths made until enough are ready or on their way.
    fn restock(&mut self) {
        let Some(limits) = self.stock.usual.clone().filter(|_| !self.is_ending()) else { return };
        while self.stock.ready.len() + self.stock.raising < self.settings.ready_berths
            && let Some(lease) = self.leases.take()
        {
            let id = JobId::random();
            let progress = Progress::new(id, self.tells.output.clone());
            let network = self.network_for(NetworkMode::None);
            let plot = Plot { id, limits: limits.clone(), network, lease, progress };
            if let Err(back) = self.queues.plots.send(plot) {
                self.leases.give_back(back.into_inner().lease);
                diag::limited!(Level::Error, "the thread that makes berths is gone");
                return;
            }
            self.stock.raising += 1;
            self.watch_starts();
        }
    }

    /// Where a job of this mode gets its network from.
    pub(super) fn network_for(&mut self, mode: NetworkMode) -> Source {
        match mode {
            NetworkMode::Host => Source::Host,
            NetworkMode::None => self.stock.networks.pop().map_or(Source::New, Source::Kept),
        }
    }

    /// Keeps a network namespace in which nothing is left of the job that had it.
    pub(super) fn keep_network(&mut self, namespace: OwnedFd) {
        if self.stock.networks.len() < NETWORKS_MAX {
            self.stock.networks.push(namespace);
        }
    }

    /// Takes a new berth in. One that could not be made is not tried again before the next job: that one's own
    /// start tells its client why.
    pub(super) fn collect_berth(&mut self, raised: Result<Berth, NoBerth>) {
        self.stock.raising -= 1;
        match raised {
            Ok(berth) if self.is_ending() => self.scrap(berth),
            Ok(berth) => self.stock.ready.push(berth),
            Err(NoBerth { id, lease, cgroup, why }) => {
                diag::limited!(Level::Warn, "cannot make a berth for a next job", error = why.why);
                self.chore(Chore::Directory(self.settings.spool.join(id.to_string())));
                self.give_back(id, lease);
                if let Some(group) = cgroup {
                    self.tidy(group);
                }
            }
        }
    }

    /// Whether berths are on their way.
    pub(super) fn raises_berths(&self) -> bool {
        self.stock.raising > 0
    }

    /// Gives all berths up: the daemon ends.
    pub(super) fn scrap_all(&mut self) {
        for berth in std::mem::take(&mut self.stock.ready) {
            self.scrap(berth);
        }
    }

    /// Gives a berth up.
    pub(super) fn scrap(&mut self, berth: Berth) {
        let Berth { id, lease, cgroup, init, .. } = berth;
        let _ = pidfd_send_signal(&init.pidfd, Signal::KILL);
        self.chore(Chore::Process(init.pidfd));
        self.chore(Chore::Close(init.mounts));
        self.chore(Chore::File(record_path(&self.settings.run_dir, &id.to_string())));
        self.chore(Chore::Directory(self.settings.spool.join(id.to_string())));
        self.give_back(id, lease);
        self.tidy(cgroup);
    }
}

/// Whether a joblet-init is alive; a dead one is not reaped by asking.
fn waits(init: &Init) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::PidFd(init.pidfd.as_fd()), look), Ok(None))
}
