//! Putting the daemon together and taking it apart.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use log::Level;
use mio::{Poll, Waker};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::command::{Command, CommandSender, QUEUE};
use super::core::{Clock, Core, Shutdown};
use super::egress::Egress;
use super::event_loop::EventLoop;
use super::events::WorkerEvent;
use super::history;
use super::install::Installer;
use super::jobs::{JobTable, Schedule, Slots, Sweep};
use super::ledger::Ledger;
use super::lifecycle;
use super::networks::Known;
use super::pool::Usual;
use super::provision::{Node, PortTable, Supply, SupplyParts, Wiring};
use super::resolver::Resolver;
use super::settings::{
    backlog_limits, history_dirs, kept_limits, sandbox_config, settings, share, workflow_limits,
};
use super::sources::{Sources, WAKE};
use super::spawner::Spawner;
use super::staging;
use super::threads::{StoredVolumes, Threads, join_all};
use super::workflows::Workflows;
use super::{DaemonError, directories, predecessor};
use crate::cgroup::{CgroupTree, Disk, Share};
use crate::config::daemon::{Backend, DaemonConfig, VolumeBackend, WorkBackend};
use crate::diag;
use crate::exporter::Counts;
use crate::forward::Relay;
use crate::gpu::Board;
use crate::gpu::{DriverWish, driver_files};
use crate::input::Inputs;
use crate::job::limits::CoreSet;
use crate::job::volume::OWNER;
use crate::job::{Controller, Enforcement, Limits, NetRate, NetworkMode, Profile, User};
use crate::network::rate;
use crate::sandbox::create::exit_files;
use crate::sandbox::identity::{Leases, check_range, make_volume_map};
use crate::sandbox::work::{Leftover, WorkDisk};
use crate::sandbox::{Sandbox, SandboxError};
use crate::state::salvage::{Salvaged, salvage};
use crate::state::{Database, Record};
use crate::sys::clock::now_ns;
use crate::sys::mailbox::mailbox;
use crate::upload::{Stage, Store};
use crate::volume::{self, VolumeError};

/// Answers of worker threads that may wait for the loop. A thread that has more waits for the loop, which never waits
/// for a thread.
const ANSWERS: usize = 4096;

/// How long the end waits for the threads. They remove what was deleted, and write the last records.
const THREADS_WAIT: Duration = Duration::from_secs(10);
/// How long a new daemon waits for the lock of one that is gone.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// How long it waits before it looks for what keeps that one.
const LOCK_LOOK: Duration = Duration::from_millis(500);

/// A daemon that is ready to run.
pub struct Daemon {
    commands: CommandSender,
    cores: CoreSet,
    share: Option<Share>,
    uploads: (Arc<Store>, Installer),
    event_loop: EventLoop,
    threads: Vec<JoinHandle<()>>,
    _lock: File,
}

/// Blocks the signals that the loop reads. Before any thread is started: threads inherit the mask.
///
/// # Errors
/// The kernel's refusal.
pub fn block_signals() -> Result<SignalFd, DaemonError> {
    let failed = |doing| move |e: nix::Error| DaemonError::Loop { doing, source: e.into() };
    let mut set = SigSet::empty();
    let ends = [Signal::SIGTERM, Signal::SIGINT];
    // These would end us by default, and mean nothing here (SIGHUP is read elsewhere).
    let ignored = [Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];
    for signal in ends.into_iter().chain(ignored) {
        set.add(signal);
    }
    set.thread_block().map_err(failed("block signals"))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(failed("open a signalfd"))
}

/// The beginning of the shutdown: nothing more is accepted.
fn closing(commands: CommandSender, begins: impl Fn() + 'static) -> Box<dyn Fn()> {
    Box::new(move || {
        commands.close();
        begins();
    })
}

/// The poll that the loop waits with, and everything that wakes it.
fn poll() -> Result<(Poll, Arc<Waker>), DaemonError> {
    let poll = Poll::new().map_err(setting_up("open an epoll instance"))?;
    let waker = Waker::new(poll.registry(), WAKE).map_err(setting_up("make a waker"))?;
    Ok((poll, Arc::new(waker)))
}

/// Raises the soft limit of open files to the hard one: each job has a handful, each log stream three. A
/// tuning: what cannot be raised is only said.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(why) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        diag::event!(Level::Warn, "cannot raise the limit of open files", error = why);
    }
}

impl Daemon {
    /// Prepares directories, groups, sandboxes and threads. `path` is the configuration file, for the history process;
    /// without it there is none. `shutdown_begins` is called on the loop when a shutdown begins.
    ///
    /// # Errors
    /// The host's refusal; nothing runs then.
    pub fn new(
        config: &DaemonConfig,
        path: Option<&Path>,
        signals: SignalFd,
        counts: &Counts,
        shutdown_begins: impl Fn() + 'static,
    ) -> Result<Daemon, DaemonError> {
        raise_open_files();
        let places = Places::make(config)?;
        let (lock, holders) = lock(&places.run_dir)?;
        let (database, records) = open_database(config)?;
        let workflows = database.as_ref().map(Database::workflows).transpose()?.unwrap_or_default();
        let (known, volumes) = known(config, &places, database.as_ref())?;
        let work = Arc::new(WorkDisk::open(&config.data_dir)?);
        let on_disk = work_on_disk(config, &work)?;
        let left = left_work(&work);
        let (resolver, names) = Resolver::new(config)?;
        let wiring = known.wiring(config, resolver.clone())?;
        let node = Arc::new(node(config, &places, on_disk.then(|| work.clone()), wiring, resolver)?);
        let cores = node.tree.cores()?;
        let share = share(config, &node.tree);
        let jobs = share.map_or(config.joblet.max_concurrent_jobs, |share| share.jobs) as usize;
        let (poll, waker) = poll()?;
        let (commands_end, commands) = mailbox::<Command>(QUEUE, waker.clone());
        let (to_loop, workers) = mailbox::<WorkerEvent>(ANSWERS, waker);
        let sender = CommandSender::new(commands_end);
        let begins = closing(sender.clone(), shutdown_begins);
        let sources = Sources::new(poll.registry().try_clone().map_err(setting_up("copy the poll"))?);
        let schedule = Schedule::new(&sources).map_err(setting_up("make the timer of scheduled jobs"))?;
        let mut threads = Threads::new(to_loop);
        let mut streams = threads.start_streams(config, places.outputs)?;
        if let Some(path) = path.filter(|_| config.ipc.enabled) {
            let wishes = database.as_ref().map(Database::deletions).transpose()?.unwrap_or_default();
            streams.keep_history(threads.start_history(config, path, wishes, streams.collector())?);
        }
        threads.start_resolver(names, config, places.run_dir.clone(), &node)?;
        let stage = Stage::new(places.staged, config.data_dir.join("staged.key"));
        let spawner = Arc::new(Spawner {
            node: node.clone(),
            collector: streams.collector().clone(),
            inputs: streams.inputs().clone(),
            stage: stage.clone(),
            counts: counts.clone(),
        });
        let ledger = threads.start_ledger(database)?;
        let supply = supply(config, known, volumes, &node, &ledger, &mut threads)?;
        let uploads = (staging::open_store(config, places.uploads)?, supply.runtimes().installer(config));
        let core = Core {
            settings: settings(config),
            node: node.clone(),
            jobs: JobTable::new(kept_limits(config)),
            sweep: Sweep::default(),
            slots: Slots::new(jobs),
            schedule,
            staging: threads.start_staging(stage, uploads.0.clone(), backlog_limits(config))?,
            supply,
            starts: threads.start_spawners(&spawner, jobs)?,
            pool: threads.start_pool(&spawner, config.joblet.warm_sandboxes as usize)?,
            ledger,
            execs: threads.start_execs(node.execs.clone(), &streams)?,
            workflows: Workflows::new(workflow_limits(config)),
            cleanup: threads.start_cleanup(work)?,
            streams,
            clock: Clock::new(sources),
            shutdown: Shutdown::new(begins),
            counts: counts.clone(),
        };
        let mut event_loop =
            EventLoop::new(poll, signals, workers, commands, core).map_err(setting_up("watch signals"))?;
        lifecycle::takeover::take_over(event_loop.core(), records, workflows, left, &holders);
        event_loop.core().node.resolver.open();
        let threads = threads.into_handles();
        Ok(Daemon { commands: sender, cores, share, uploads, event_loop, threads, _lock: lock })
    }

    /// The way in.
    pub fn commands(&self) -> CommandSender {
        self.commands.clone()
    }

    /// The uploads that come ahead of jobs.
    pub fn uploads(&self) -> Arc<Store> {
        self.uploads.0.clone()
    }

    /// The way to install runtimes.
    pub fn installer(&self) -> Installer {
        self.uploads.1.clone()
    }

    /// The board with the state and the figures of each GPU.
    pub fn gpus(&mut self) -> Board {
        self.event_loop.core().supply.gpus().board().clone()
    }

    /// The relay of connections to the ports of jobs.
    pub fn relay(&mut self) -> Relay {
        self.event_loop.core().supply.ports().relay().clone()
    }

    /// The standard inputs of jobs.
    pub fn inputs(&mut self) -> Inputs {
        self.event_loop.core().streams.inputs().clone()
    }

    /// Cores that jobs may run on.
    pub fn cores(&self) -> &CoreSet {
        &self.cores
    }

    /// The most processes that a job may have here; `None`: what the configuration says.
    pub fn most_processes(&self) -> Option<u32> {
        self.share.map(|share| share.processes)
    }

    /// Waits until the history process answers, if there is one. A signal ends the wait, and the loop at once.
    ///
    /// # Errors
    /// It does not answer.
    pub fn wait_for_history(&mut self, config: &DaemonConfig) -> Result<(), DaemonError> {
        if !self.event_loop.core().streams.history().is_kept() {
            return Ok(());
        }
        history::wait_for_answer(&config.persist.server.grpc_socket, self.event_loop.signals())
    }

    /// Fills the pool with sandboxes for jobs with these limits, this user and this network, until jobs have asked for others.
    pub fn make_ready(&mut self, limits: Limits, user: User, network: NetworkMode) {
        // None is made ahead in the host's network.
        let network = if network == NetworkMode::Host { NetworkMode::None } else { network };
        lifecycle::expect_jobs(
            self.event_loop.core(),
            Usual { limits, user, profile: Profile::Strict, network, root: None, writable: false },
        );
    }

    /// Runs until a signal asks for the end and all jobs are given back.
    pub fn run(mut self) {
        self.event_loop.run();
        self.close();
    }

    /// Ends the threads and removes our cgroup: the end of [`Daemon::run`], and all that is left to do when
    /// the API cannot be served.
    pub fn close(self) {
        let Daemon { mut event_loop, threads, .. } = self;
        let core = event_loop.core();
        lifecycle::end_holders(core);
        core.streams.sampler().stop();
        core.streams.history().stop();
        core.supply.ports().relay().stop();
        core.streams.inputs().stop();
        let node = core.node.clone();
        let goes_on = core.jobs.iter().any(|job| job.trace.wire.is_some() && !job.state.is_finished());
        node.resolver.stop(goes_on);
        // Its queue ends go with it; the threads see that and end.
        drop(event_loop);
        join_all(threads, THREADS_WAIT);
        node.wiring.close(goes_on);
        let tree = &node.tree;
        if let Err(why) = tree.remove() {
            diag::event!(Level::Warn, "cannot remove our cgroup", path = tree.path().display(), error = why);
        }
    }
}

/// Saves what can be read of the job database of a daemon that does not run, and rebuilds what cannot.
///
/// # Errors
/// A daemon runs on this dataDir; the database cannot be opened, or is newer; or the new one cannot be written.
pub fn recover(config: &DaemonConfig) -> Result<Salvaged, DaemonError> {
    let run_dir = directories::make(&config.data_dir, "run")?;
    let spool = directories::make(&config.data_dir, "spool")?;
    let _lock = lock(&run_dir)?;
    Ok(salvage(&config.data_dir, &exit_files(&run_dir), &spool, now_ns())?)
}

fn setting_up(doing: &'static str) -> impl Fn(io::Error) -> DaemonError {
    move |source| DaemonError::Loop { doing, source }
}

/// The directories below dataDir.
struct Places {
    run_dir: PathBuf,
    spool: PathBuf,
    denials: PathBuf,
    staged: PathBuf,
    uploads: PathBuf,
    outputs: PathBuf,
    execs: PathBuf,
    volumes: PathBuf,
}

impl Places {
    fn make(config: &DaemonConfig) -> Result<Places, DaemonError> {
        let make = |name| directories::make(&config.data_dir, name);
        Ok(Places {
            run_dir: make("run")?,
            spool: make("spool")?,
            denials: make("run/denials")?,
            staged: make("staged")?,
            uploads: make("uploads")?,
            outputs: make("workflows")?,
            execs: make("execs")?,
            volumes: make("volumes")?,
        })
    }
}

/// The networks of the configuration and of the database, and the volumes with their directory.
fn known(
    config: &DaemonConfig,
    places: &Places,
    database: Option<&Database>,
) -> Result<(Known, StoredVolumes), DaemonError> {
    let networks = database.map(Database::networks).transpose()?.unwrap_or_default();
    let volumes = database.map(Database::volumes).transpose()?.unwrap_or_default();
    let store = volume::Store::new(places.volumes.clone(), volume_backend(config, &places.volumes)?);
    Ok((Known::new(config, networks)?, (store, volumes)))
}

/// The bound of new volumes, as configured and possible.
fn volume_backend(config: &DaemonConfig, dir: &Path) -> Result<volume::Backend, DaemonError> {
    let wanted = config.volumes.backend;
    if wanted == VolumeBackend::Image {
        return Ok(volume::Backend::Image);
    }
    let ids = make_volume_map(OWNER, 1).map_err(|why| why.to_string());
    match ids.and_then(|ids| volume::Store::probe_quota(dir, ids.as_fd())) {
        Ok(()) => {
            diag::event!(Level::Info, "new volumes get a project quota", path = dir.display());
            Ok(volume::Backend::Quota)
        }
        Err(why) if wanted == VolumeBackend::Quota => {
            Err(VolumeError::NoQuota { path: dir.to_owned(), why }.into())
        }
        Err(why) => {
            diag::event!(Level::Info, "new volumes get an image", path = dir.display(), reason = why);
            Ok(volume::Backend::Image)
        }
    }
}

/// The stock of things that are lent to jobs.
fn supply(
    config: &DaemonConfig,
    known: Known,
    volumes: StoredVolumes,
    node: &Arc<Node>,
    ledger: &Ledger,
    threads: &mut Threads,
) -> Result<Supply, DaemonError> {
    Ok(Supply::new(SupplyParts {
        identities: leases(config)?,
        addresses: known.addresses()?,
        ipv6: node.wiring.ipv6(),
        networks: threads.start_networks(known, config, node.clone(), ledger)?,
        volumes: threads.start_volumes(volumes, ledger)?,
        gpus: threads.start_gpus(config)?,
        runtimes: threads.start_runtimes(config, node.clone())?,
        egress: node.egress.clone(),
        keeper: threads.start_keeper(node)?,
        ports: PortTable::new(Relay::start().map_err(setting_up("start the relay of jobs' ports"))?),
    }))
}

/// The part of the node that all jobs share.
fn node(
    config: &DaemonConfig,
    places: &Places,
    disk: Option<Arc<WorkDisk>>,
    wiring: Wiring,
    resolver: Resolver,
) -> Result<Node, DaemonError> {
    Ok(Node {
        tree: Arc::new(tree(config)?),
        sandbox: sandbox(config, &places.run_dir)?,
        disks: Disk::behind([Path::new("/"), Path::new("/usr"), config.data_dir.as_path()]),
        spool: places.spool.clone(),
        execs: places.execs.clone(),
        live_only: !config.ipc.enabled,
        run_dir: places.run_dir.clone(),
        disk,
        work_quota: config.filesystem.work_quota,
        reuse_networks: config.network.reuse_namespaces,
        wiring,
        resolver,
        egress: Arc::new(Egress::new(places.denials.clone())),
        rate: NetRate { up: config.network.rate.up, down: config.network.rate.down },
        rates: rate::probe().map_err(|why| why.to_string()),
        history: history_dirs(config),
    })
}

/// The parts of all sandboxes, with those of jobs with GPUs where the configuration wants GPUs. A driver that is ill does not keep
/// the daemon from its other jobs.
fn sandbox(config: &DaemonConfig, run_dir: &Path) -> Result<Sandbox, DaemonError> {
    let mut sandbox = Sandbox::new(sandbox_config(config, run_dir))?;
    if !config.gpu.enabled {
        return Ok(sandbox);
    }
    let path = std::env::var_os("PATH");
    let (libraries, cuda_paths) = (&config.gpu.libraries, &config.gpu.cuda_paths);
    let (files, mut notes) = driver_files(DriverWish { libraries, cuda_paths, path: path.as_deref() });
    match sandbox.prepare_gpus(&files) {
        Ok(more) => notes.extend(more),
        Err(why) => diag::event!(Level::Error, "jobs with GPUs cannot start", error = why),
    }
    for note in notes {
        diag::event!(Level::Warn, "files of the GPU driver", reason = note);
    }
    Ok(sandbox)
}

/// The records of an earlier daemon, and where ours go; `None`: nowhere.
fn open_database(config: &DaemonConfig) -> Result<(Option<Database>, Vec<Record>), DaemonError> {
    match config.state.backend {
        Backend::Memory => Ok((None, Vec::new())),
        Backend::Sqlite => {
            let (database, records) = Database::open(&config.data_dir)?;
            Ok((Some(database), records))
        }
    }
}

/// One daemon per dataDir: two would kill each other's jobs when it takes over. The lock is on the directory itself,
/// so there is no file to leave behind. Also returns the PID 1s of jobs that kept the earlier daemon from its end.
fn lock(run_dir: &Path) -> Result<(File, Vec<i32>), DaemonError> {
    let path = run_dir.to_owned();
    let open =
        || File::open(run_dir).map_err(|source| DaemonError::MakeDirectory { path: path.clone(), source });
    let (dir, asked) = (open()?, open()?);
    // A daemon that was killed may have a child that has not left its descriptors yet: that one takes a moment, a
    // daemon that lives has the lock for good. A thread that waits in vain ends with this process.
    let (locked, lock) = bounded(1);
    let wait = move || {
        let _ = dir.lock().and_then(|()| locked.send(dir).map_err(io::Error::other));
    };
    let thread = std::thread::Builder::new().name("lock".into()).spawn(wait);
    thread.map_err(|source| DaemonError::Thread { name: "lock", source })?;
    let (deadline, mut holders) = (Instant::now() + LOCK_WAIT, Vec::new());
    loop {
        match lock.recv_timeout(LOCK_LOOK) {
            Ok(dir) => return Ok((dir, holders)),
            Err(_) if Instant::now() < deadline => holders.extend(predecessor::end_holders(&asked)),
            Err(_) => return Err(DaemonError::Locked { path }),
        }
    }
}

fn leases(config: &DaemonConfig) -> Result<Leases, DaemonError> {
    let (base, count) = (config.process.subid_base, config.process.subid_count);
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let texts = ["/etc/passwd", "/etc/group", "/etc/subuid", "/etc/subgid"].map(|path| (path, read(path)));
    check_range(base - 1, count + 1, texts.each_ref().map(|(path, text)| (*path, text.as_str())))?;
    Ok(Leases::new(base, count, config.process.ids_per_job))
}

/// Whether /work is on disk, as configured and possible.
fn work_on_disk(config: &DaemonConfig, work: &WorkDisk) -> Result<bool, DaemonError> {
    let wanted = config.filesystem.work_backend;
    if wanted == WorkBackend::Tmpfs {
        return Ok(false);
    }
    let path = work.path();
    // The last id: the first ones may be those of jobs that an earlier daemon started.
    match work.probe(config.process.subid_base + config.process.subid_count - 1) {
        Ok(()) => {
            diag::event!(Level::Info, "/work is on disk, with a project quota", path = path.display());
            Ok(true)
        }
        Err(why) if wanted == WorkBackend::Disk => {
            Err(SandboxError::NoQuota { path: path.to_owned(), why }.into())
        }
        Err(why) => {
            diag::event!(
                Level::Info,
                "/work is a tmpfs: no project quotas on disk",
                path = path.display(),
                reason = why
            );
            Ok(false)
        }
    }
}

/// The directories that an earlier daemon left in `<dataDir>/work`.
fn left_work(work: &WorkDisk) -> Vec<Leftover> {
    work.leftovers().unwrap_or_else(|why| {
        let path = work.path().display();
        diag::event!(Level::Warn, "cannot look for files of an earlier daemon", path = path, error = why);
        Vec::new()
    })
}

/// Our groups, and a word about what they cannot do.
fn tree(config: &DaemonConfig) -> Result<CgroupTree, DaemonError> {
    let wanted = config.cgroup.enable_controllers.iter().copied().collect();
    let name = format!("joblet-{:08x}", fnv1a(config.data_dir.as_os_str().as_encoded_bytes()));
    let tree = CgroupTree::of_this_process(config.cgroup.base_dir.as_deref(), &name, wanted)?;
    if let Some(why) = tree.unguarded() {
        let remedy = "give the daemon CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN";
        let what = "no program decides about devices of jobs: their /dev alone keeps others away";
        diag::event!(Level::Warn, what, reason = why, remedy = remedy);
    }
    let strict = config.cgroup.enforcement == Enforcement::Strict;
    for (controller, why) in tree.missing() {
        let what = match (strict, controller) {
            (true, _) => "jobs with this limit are refused",
            (false, Controller::Pids) => "this limit is kept by RLIMIT_NPROC alone",
            (false, _) => "this limit is not enforced",
        };
        diag::event!(Level::Warn, what, controller = controller.name(), reason = why, remedy = why.remedy());
    }
    Ok(tree)
}

/// Tells data directories apart in the name of a group; FNV-1a, 32 bits.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_directories_have_groups_of_their_own() {
        assert_ne!(fnv1a(b"/opt/joblet"), fnv1a(b"/opt/joblet2"));
        assert_eq!(fnv1a(b""), 0x811c_9dc5);
    }

    #[test]
    fn a_second_daemon_on_the_same_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = lock(dir.path()).unwrap();
        assert!(lock(dir.path()).unwrap_err().to_string().contains("another joblet"));
    }
}
