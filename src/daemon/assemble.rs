//! Putting the daemon together and taking it apart.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use log::Level;
use mio::{Poll, Waker};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::cleanup::{self, Cleanup};
use super::command::{Command, CommandSender, QUEUE};
use super::core::{Clock, Core, Settings, Shutdown, Streams};
use super::drains::Drains;
use super::event_loop::EventLoop;
use super::events::WorkerEvent;
use super::evidence::Evidence;
use super::inspection::Inspection;
use super::jobs::{Backlog, BacklogLimits, JobTable, KeptLimits, Schedule, Slots};
use super::ledger::{Ledger, PendingWrite};
use super::lifecycle;
use super::pool::Pool;
use super::provision::{KeptNetworks, Node, Supply};
use super::sources::{Sources, WAKE};
use super::spawner::{CreateRequest, Spawner, StartRequest, Starts, schedule_first};
use super::staging::{self, Staging};
use super::timers::Timers;
use super::token::Token;
use super::{DaemonError, directories, predecessor};
use crate::cgroup::{CgroupTree, Disk, Share};
use crate::config::daemon::{Backend, DaemonConfig, OnShutdown, ProcMode, WorkBackend};
use crate::diag;
use crate::job::limits::CoreSet;
use crate::job::{Controller, Enforcement, Limits};
use crate::metrics::Sampler;
use crate::output::{Collector, CollectorEvent, SpoolLimits};
use crate::sandbox::create::{SandboxConfig, exit_files};
use crate::sandbox::identity::{Leases, check_range};
use crate::sandbox::work::{Leftover, WorkDisk};
use crate::sandbox::{Sandbox, SandboxError};
use crate::state::salvage::{Salvaged, salvage};
use crate::state::{self, Change, Database, Record};
use crate::sys::clock::now_ns;
use crate::sys::mailbox::{Mailbox, mailbox};
use crate::upload::{Stage, Store};

/// Spawner threads: as many as help on small machines; more only queue in the kernel.
const SPAWNERS: usize = 2;

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
    uploads: Arc<Store>,
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

/// Raises the soft limit of open files to the hard one: each job has a handful, each log stream three. A
/// tuning: what cannot be raised is only said.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(why) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        diag::event!(Level::Warn, "cannot raise the limit of open files", error = why);
    }
}

impl Daemon {
    /// Prepares directories, groups, sandboxes and threads. `shutdown_begins` is called on the loop when a
    /// shutdown begins.
    ///
    /// # Errors
    /// The host's refusal; nothing runs then.
    pub fn new(
        config: &DaemonConfig,
        signals: SignalFd,
        shutdown_begins: impl Fn() + 'static,
    ) -> Result<Daemon, DaemonError> {
        raise_open_files();
        let places = Places::make(config)?;
        let (lock, holders) = lock(&places.run_dir)?;
        let (database, records) = open_database(config)?;
        let supply = Supply { identities: leases(config)?, networks: KeptNetworks::default() };
        let work = Arc::new(WorkDisk::open(&config.data_dir)?);
        let on_disk = work_on_disk(config, &work)?;
        let left = left_work(&work);
        let node = Arc::new(node(config, &places, on_disk.then(|| work.clone()))?);
        let cores = node.tree.cores()?;
        let share = share(config, &node.tree);
        let jobs = share.map_or(config.joblet.max_concurrent_jobs, |share| share.jobs) as usize;

        let poll = Poll::new().map_err(setting_up("open an epoll instance"))?;
        let registry = poll.registry().try_clone().map_err(setting_up("copy the epoll instance"))?;
        let waker = Waker::new(poll.registry(), WAKE).map_err(setting_up("make a waker"))?;
        let waker = Arc::new(waker);
        let (commands_end, commands) = mailbox::<Command>(QUEUE, waker.clone());
        let (to_loop, workers) = mailbox::<WorkerEvent>(ANSWERS, waker);
        let sender = CommandSender::new(commands_end);
        let closing = sender.clone();
        let begins = Box::new(move || {
            closing.close();
            shutdown_begins();
        });

        let sources = Sources::new(registry);
        let schedule = Schedule::new(&sources).map_err(setting_up("make the timer of scheduled jobs"))?;
        let mut threads = Threads { to_loop, handles: Vec::new() };
        let streams = threads.start_streams(config)?;
        let store = staging::open_store(config, places.uploads)?;
        let stage = Stage::new(places.staged, config.data_dir.join("staged.key"));
        let spawner = Arc::new(Spawner {
            node: node.clone(),
            collector: streams.collector.clone(),
            stage: stage.clone(),
        });
        let core = Core {
            settings: settings(config),
            node,
            jobs: JobTable::new(kept_limits(config)),
            slots: Slots::new(jobs),
            schedule,
            staging: threads.start_staging(stage, store.clone(), backlog_limits(config))?,
            supply,
            starts: threads.start_spawners(&spawner, jobs)?,
            pool: threads.start_pool(&spawner, config.joblet.warm_sandboxes as usize)?,
            ledger: threads.start_ledger(database)?,
            cleanup: threads.start_cleanup(work)?,
            streams,
            clock: Clock {
                timers: Timers::new(),
                drains: Drains::default(),
                sources,
                watches_starts: false,
                oom_warned: false,
            },
            shutdown: Shutdown { begins, begun: false, gave_up: false },
        };
        let event_loop = EventLoop::new(poll, signals, workers, commands, core);
        let mut event_loop = event_loop.map_err(setting_up("watch signals"))?;
        lifecycle::takeover::take_over(event_loop.core(), records, left, &holders);
        let threads = threads.handles;
        Ok(Daemon { commands: sender, cores, share, uploads: store, event_loop, threads, _lock: lock })
    }

    /// The way in.
    pub fn commands(&self) -> CommandSender {
        self.commands.clone()
    }

    /// The uploads that come ahead of jobs.
    pub fn uploads(&self) -> Arc<Store> {
        self.uploads.clone()
    }

    /// Cores that jobs may run on.
    pub fn cores(&self) -> &CoreSet {
        &self.cores
    }

    /// The most processes that a job may have here; `None`: what the configuration says.
    pub fn most_processes(&self) -> Option<u32> {
        self.share.map(|share| share.processes)
    }

    /// Fills the pool with sandboxes for jobs with these limits, until jobs have asked for others.
    pub fn make_ready(&mut self, usual: Limits) {
        lifecycle::expect_jobs(self.event_loop.core(), usual);
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
        core.streams.sampler.stop();
        let tree = core.node.tree.clone();
        // Its queue ends go with it; the threads see that and end.
        drop(event_loop);
        join_all(threads, THREADS_WAIT);
        if let Err(why) = tree.remove() {
            diag::event!(Level::Warn, "cannot remove our cgroup", path = tree.path().display(), error = why);
        }
    }
}

/// Joins threads, so long at most. A thread that hangs in the kernel, such as on a disk that does not answer, ends with
/// the process; the next daemon does what it has left.
fn join_all(threads: Vec<JoinHandle<()>>, bound: Duration) {
    let (joined, end) = bounded(1);
    let names: Vec<(String, Arc<AtomicBool>)> =
        threads.iter().map(|t| (t.thread().name().unwrap_or_default().to_owned(), Arc::default())).collect();
    let over: Vec<Arc<AtomicBool>> = names.iter().map(|(_, over)| over.clone()).collect();
    let join = move || {
        for (thread, over) in threads.into_iter().zip(over) {
            if thread.join().is_err() {
                diag::event!(Level::Error, "a thread ended by a panic");
            }
            over.store(true, Ordering::SeqCst);
        }
        let _ = joined.send(());
    };
    if let Err(why) = std::thread::Builder::new().name("join".into()).spawn(join) {
        diag::event!(Level::Warn, "cannot wait for the threads", error = why);
        return;
    }
    if end.recv_timeout(bound).is_err() {
        let hangs = names.iter().find(|(_, over)| !over.load(Ordering::SeqCst));
        let name = hangs.map_or("", |(name, _)| name.as_str());
        diag::event!(
            Level::Error,
            "a thread does not end, leaving",
            thread = name,
            waited = format!("{bound:?}")
        );
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
    staged: PathBuf,
    uploads: PathBuf,
}

impl Places {
    fn make(config: &DaemonConfig) -> Result<Places, DaemonError> {
        let make = |name| directories::make(&config.data_dir, name);
        Ok(Places {
            run_dir: make("run")?,
            spool: make("spool")?,
            staged: make("staged")?,
            uploads: make("uploads")?,
        })
    }
}

/// The part of the node that all jobs share.
fn node(config: &DaemonConfig, places: &Places, disk: Option<Arc<WorkDisk>>) -> Result<Node, DaemonError> {
    Ok(Node {
        tree: Arc::new(tree(config)?),
        sandbox: Sandbox::new(sandbox_config(config, &places.run_dir))?,
        disks: Disk::behind([Path::new("/"), Path::new("/usr"), config.data_dir.as_path()]),
        spool: places.spool.clone(),
        run_dir: places.run_dir.clone(),
        disk,
        work_quota: config.filesystem.work_quota,
        reuse_networks: config.network.reuse_namespaces,
    })
}

/// Worker threads as they are started, each with its way to the loop.
struct Threads {
    to_loop: Mailbox<WorkerEvent>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// The way in which a thread answers the loop.
    fn answer(&self) -> impl Fn(WorkerEvent) + Send + Sync + Clone + 'static {
        let to_loop = self.to_loop.clone();
        move |event| {
            // The loop is gone only after all of its jobs are.
            let _ = to_loop.send(event);
        }
    }

    /// The threads that take what jobs give, their output and what they use, and that look at them.
    fn start_streams(&mut self, config: &DaemonConfig) -> Result<Streams, DaemonError> {
        let answer = self.answer();
        let collector = Collector::start(spool_limits(config), move |id, event| {
            answer(match event {
                CollectorEvent::OutputComplete => WorkerEvent::OutputComplete(id),
                CollectorEvent::OverLimit => WorkerEvent::OverLimit(id),
                CollectorEvent::PipeHeld => WorkerEvent::PipeHeld(id),
                CollectorEvent::PipeFree => WorkerEvent::PipeFree,
            });
        })?;
        let answer = self.answer();
        let (sampler, thread) =
            Sampler::start(config.job_metrics.default_sample_rate, move |id, evidence: Evidence| {
                answer(WorkerEvent::Evidence(id, Box::new(evidence)));
            })?;
        self.handles.push(thread);
        let (inspection, thread) = Inspection::start()?;
        self.handles.push(thread);
        Ok(Streams { collector, sampler, inspection })
    }

    /// The threads that start jobs. Their queue holds as many as may run at one time.
    fn start_spawners(&mut self, spawner: &Arc<Spawner>, jobs: usize) -> Result<Starts, DaemonError> {
        let (requests, queue): (_, Receiver<StartRequest>) = bounded(jobs);
        let (large, large_queue): (_, Receiver<StartRequest>) = bounded(jobs);
        // A large start copies as many bytes as its client likes, so its thread does not come first.
        for (queue, first) in std::iter::repeat_n((queue, true), SPAWNERS).chain([(large_queue, false)]) {
            let answer = self.answer();
            let started = move |result| answer(WorkerEvent::Started(Box::new(result)));
            self.handles.push(spawner.start_thread(queue, first, started)?);
        }
        Ok(Starts::new(requests, large))
    }

    /// The thread that creates sandboxes ahead of jobs.
    fn start_pool(&mut self, spawner: &Arc<Spawner>, size: usize) -> Result<Pool, DaemonError> {
        let (requests, queue): (_, Receiver<(Box<CreateRequest>, Token)>) = bounded(size);
        let answer = self.answer();
        let created = move |created: Result<_, _>, under_way| {
            answer(WorkerEvent::Created(created.map(Box::new), under_way));
        };
        self.handles.push(spawner.start_pool_thread(queue, created)?);
        Ok(Pool::new(size, requests))
    }

    /// The thread that writes records, if jobs are remembered on disk.
    fn start_ledger(&mut self, database: Option<Database>) -> Result<Ledger, DaemonError> {
        let answer = self.answer();
        let started = database.map(|database| {
            let written = move |outcome| answer(WorkerEvent::Recorded(outcome));
            state::writer::start(database, schedule_first, written)
        });
        let (changes, thread): (Option<Sender<Change<PendingWrite>>>, _) = started.transpose()?.unzip();
        self.handles.extend(thread);
        Ok(Ledger::new(changes))
    }

    /// The thread that writes the inputs of waiting jobs.
    fn start_staging(
        &mut self,
        stage: Stage,
        store: Arc<Store>,
        limits: BacklogLimits,
    ) -> Result<Staging, DaemonError> {
        let (requests, queue) = unbounded();
        let answer = self.answer();
        let thread = staging::start(stage.clone(), queue, move |staged| answer(WorkerEvent::Staged(staged)))?;
        self.handles.push(thread);
        Ok(Staging::new(stage, store, requests, Backlog::new(limits)))
    }

    /// The threads that remove what jobs leave.
    fn start_cleanup(&mut self, work: Arc<WorkDisk>) -> Result<Cleanup, DaemonError> {
        let (tasks, task_queue) = unbounded();
        let (removals, removal_queue) = unbounded();
        let answer = self.answer();
        let done = move |event| answer(WorkerEvent::Cleanup(event));
        self.handles.push(cleanup::start(task_queue, done.clone())?);
        cleanup::start_removal(work, removal_queue, done)?;
        Ok(Cleanup::new(tasks, removals))
    }
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
    check_range(base, count, texts.each_ref().map(|(path, text)| (*path, text.as_str())))?;
    Ok(Leases::new(base, count))
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

/// The share of each job in the host's processes, where no controller limits all jobs together.
fn share(config: &DaemonConfig, tree: &CgroupTree) -> Option<Share> {
    let joblet = &config.joblet;
    let share = tree.share(joblet.max_concurrent_jobs)?;
    if share.processes < joblet.default_pids_limit || share.jobs < joblet.max_concurrent_jobs {
        diag::event!(
            Level::Warn,
            "no pids controller: jobs have fewer processes, so that the host can always fork",
            processes = share.processes.min(joblet.default_pids_limit),
            jobs = share.jobs,
            remedy = "raise kernel.pid_max and kernel.threads-max, or lower joblet.maxConcurrentJobs"
        );
    }
    Some(share)
}

/// Tells data directories apart in the name of a group; FNV-1a, 32 bits.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn sandbox_config(config: &DaemonConfig, run_dir: &Path) -> SandboxConfig {
    SandboxConfig {
        mounts: config.filesystem.allowed_mounts.clone(),
        extra_mounts: config.filesystem.extra_mounts.clone(),
        proc_pids_only: config.filesystem.proc == ProcMode::Pid,
        run_dir: run_dir.to_owned(),
        orphan_linger_s: config.joblet.orphan_linger.as_secs(),
    }
}

fn settings(config: &DaemonConfig) -> Settings {
    const DAY_NS: i64 = 24 * 3600 * 1_000_000_000;
    Settings {
        max_queued: config.joblet.max_queued_jobs as usize,
        retention_max: config.state.retention.max as usize,
        retention_ns: i64::from(config.state.retention.days) * DAY_NS,
        keep_jobs: config.joblet.on_shutdown == OnShutdown::Keep,
        stop_grace: config.joblet.stop_grace_period,
        cleanup_timeout: config.joblet.cleanup_timeout,
        enforcement: config.cgroup.enforcement,
        spool_limits: spool_limits(config),
    }
}

fn backlog_limits(config: &DaemonConfig) -> BacklogLimits {
    BacklogLimits { all: config.joblet.queue_limit, client: config.joblet.client_queue_limit }
}

fn kept_limits(config: &DaemonConfig) -> KeptLimits {
    let retention = &config.state.retention;
    KeptLimits { output: retention.bytes, records: retention.record_bytes }
}

fn spool_limits(config: &DaemonConfig) -> SpoolLimits {
    let joblet = &config.joblet;
    SpoolLimits { all: joblet.spool_limit, job: joblet.job_spool_limit, policy: joblet.spool_policy }
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
    fn a_thread_that_hangs_does_not_keep_the_daemon() {
        let (end, wait) = bounded::<()>(0);
        let hangs = std::thread::spawn(move || _ = wait.recv());
        join_all(vec![std::thread::spawn(|| {}), hangs], Duration::from_millis(1));
        drop(end);
        join_all(vec![std::thread::spawn(|| {})], Duration::from_secs(3600));
    }

    #[test]
    fn a_second_daemon_on_the_same_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = lock(dir.path()).unwrap();
        assert!(lock(dir.path()).unwrap_err().to_string().contains("another joblet"));
    }
}
