//! Putting the daemon together and taking it apart.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use log::Level;
use mio::unix::SourceFd;
use mio::{Interest, Poll, Waker};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::cleanup::{self, CleanupTask, WorkRemoval};
use super::commands::{CommandSender, QUEUE};
use super::event_loop::{Loop, Queues, SCHEDULE, SIGNALS, Settings, WAKE, WorkerEvent};
use super::pool::CreateRequest;
use super::schedule::Schedule;
use super::staging::Staging;
use super::starting::schedule_first;
use super::starting::{Spawner, StartRequest};
use super::{DaemonError, directories, staging};
use crate::cgroup::{CgroupTree, Disk};
use crate::config::daemon::{Backend, DaemonConfig, OnShutdown, ProcMode, WorkBackend};
use crate::diag;
use crate::job::{Controller, Enforcement, Limits, limits::CoreSet};
use crate::metrics::Sampler;
use crate::output::watermark::Notifiers;
use crate::output::{Collector, SpoolLimits, Word};
use crate::sandbox::create::SandboxConfig;
use crate::sandbox::create::exit_files;
use crate::sandbox::identity::{Leases, check_range};
use crate::sandbox::work::{Leftover, WorkDisk};
use crate::sandbox::{Sandbox, SandboxError};
use crate::state::salvage::{Salvaged, salvage};
use crate::state::{self, Change, Database, Record};
use crate::sys::turns::{Turn, in_turns};
use crate::upload::Stage;

/// Spawner threads: as many as help on small machines; more only queue in the kernel.
const SPAWNERS: usize = 2;

/// How long a new daemon waits for the lock of one that is gone.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// A daemon that is ready to run.
pub struct Daemon {
    commands: CommandSender,
    cores: CoreSet,
    event_loop: Loop,
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
    /// Prepares directories, groups, walls and threads. `notifiers` hear of jobs with new output and new samples;
    /// `shutdown_begins` is called on the loop when the end is asked for.
    ///
    /// # Errors
    /// What the host refuses; nothing runs then.
    pub fn new(
        config: &DaemonConfig,
        signals: SignalFd,
        notifiers: Notifiers,
        shutdown_begins: impl Fn() + 'static,
    ) -> Result<Daemon, DaemonError> {
        raise_open_files();
        let run_dir = directories::make(&config.data_dir, "run")?;
        let spool = directories::make(&config.data_dir, "spool")?;
        let staged = directories::make(&config.data_dir, "staged")?;
        let lock = lock(&run_dir)?;
        let (database, records) = open_database(config)?;
        let stage = Stage::new(staged, config.data_dir.join("staged.key"));
        let leases = leases(config)?;
        let work = Arc::new(WorkDisk::open(&config.data_dir)?);
        let on_disk = work_on_disk(config, &work)?;
        let left = left_work(&work);
        let tree = Arc::new(tree(config)?);
        let sandbox = Sandbox::new(sandbox_config(config, &run_dir))?;
        let (poll, waker) = poll_for(&signals)?;

        let (command_end, commands) = in_turns(bounded(QUEUE));
        let (news_end, events) = in_turns(unbounded());
        let (orders, order_queue) = bounded::<StartRequest>(config.joblet.max_concurrent_jobs as usize);
        let (create_requests, plot_queue) = bounded::<CreateRequest>(config.joblet.warm_sandboxes as usize);
        let (cleanups, chore_queue) = unbounded::<CleanupTask>();
        let (removals, removal_queue) = unbounded::<WorkRemoval>();
        let to_loop = Mailbox { events: news_end, waker: waker.clone() };
        let mut threads = Vec::new();

        let (collector, sampler) = start_collectors(config, &to_loop, &mut threads)?;
        let (records_end, staging) = start_writers(database, &stage, &to_loop, &mut threads)?;
        let post = to_loop.clone();
        threads.push(cleanup::start(chore_queue, move |events| post.send(events))?);
        let post = to_loop.clone();
        let removed = move |lease| post.send(WorkerEvent::WorkRemoved(lease));
        cleanup::start_remover(work.clone(), removal_queue, removed)?;
        let spawner = Arc::new(Spawner {
            sandbox,
            tree: tree.clone(),
            disks: Disk::behind([Path::new("/"), Path::new("/usr"), config.data_dir.as_path()]),
            spool: spool.clone(),
            disk: on_disk.then(|| work.clone()),
            work_quota: config.filesystem.work_quota,
            reuse_networks: config.network.reuse_namespaces,
            collector: collector.clone(),
            stage: stage.clone(),
        });
        threads.extend(start_spawners(&spawner, &order_queue, plot_queue, &to_loop)?);

        let cores = tree.cores()?;
        let sender = CommandSender::new(command_end, waker);
        let sender_of_loop = sender.clone();
        let begin = Box::new(move || {
            sender_of_loop.close();
            shutdown_begins();
        });
        let queues = Queues {
            commands,
            events,
            orders,
            records: records_end,
            staging,
            create_requests,
            cleanups,
            removals,
        };
        let settings = settings(config, on_disk, (spool, run_dir, stage));
        let schedule = schedule_in(&poll)?;
        let rooms = (tree, leases, collector, sampler, spawner, schedule);
        let mut event_loop = Loop::new(poll, signals, queues, settings, rooms, notifiers, begin);
        event_loop.recover(records, left);
        Ok(Daemon { commands: sender, cores, event_loop, threads, _lock: lock })
    }

    /// The way in.
    pub fn commands(&self) -> CommandSender {
        self.commands.clone()
    }

    /// Cores that jobs may run on.
    pub fn cores(&self) -> &CoreSet {
        &self.cores
    }

    /// Has berths made for jobs with these limits, until jobs have asked for others.
    pub fn make_ready(&mut self, usual: Limits) {
        self.event_loop.expect_jobs(usual);
    }

    /// Runs until a signal asks for the end and all jobs are given back.
    pub fn run(mut self) {
        self.event_loop.run();
        self.close();
    }

    /// Ends the threads and removes our cgroup: the end of [`Daemon::run`], and all that is left to do when
    /// the API cannot be served.
    pub fn close(self) {
        let Daemon { event_loop, threads, .. } = self;
        event_loop.collector.stop();
        event_loop.sampler.stop();
        let tree = event_loop.tree.clone();
        // Its queue ends go with it; the threads see that and end.
        drop(event_loop);
        for thread in threads {
            if thread.join().is_err() {
                diag::event!(Level::Error, "a thread ended by a panic");
            }
        }
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
    Ok(salvage(&config.data_dir, &exit_files(&run_dir), &spool, super::now_ns())?)
}

/// The loop's poll, which hears signals and its waker.
fn poll_for(signals: &SignalFd) -> Result<(Poll, Arc<Waker>), DaemonError> {
    let setting_up = |doing| move |source| DaemonError::Loop { doing, source };
    let poll = Poll::new().map_err(setting_up("open an epoll instance"))?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKE).map_err(setting_up("make a waker"))?);
    let mut source = SourceFd(&signals.as_fd().as_raw_fd());
    poll.registry()
        .register(&mut source, SIGNALS, Interest::READABLE)
        .map_err(setting_up("watch signals"))?;
    Ok((poll, waker))
}

/// The threads that start jobs, and the one that makes berths ahead of them.
fn start_spawners(
    spawner: &Arc<Spawner>,
    orders: &Receiver<StartRequest>,
    create_requests: Receiver<CreateRequest>,
    to_loop: &Mailbox,
) -> Result<Vec<JoinHandle<()>>, DaemonError> {
    let mut threads = Vec::new();
    for _ in 0..SPAWNERS {
        let post = to_loop.clone();
        let launched = move |launch| post.send(WorkerEvent::Started(Box::new(launch)));
        threads.push(spawner.start(orders.clone(), launched)?);
    }
    let post = to_loop.clone();
    let raised = move |raised| post.send(WorkerEvent::Created(Box::new(raised)));
    threads.push(spawner.start_ahead(create_requests, raised)?);
    Ok(threads)
}

/// The threads that take what jobs give: their output, and what they use.
fn start_collectors(
    config: &DaemonConfig,
    to_loop: &Mailbox,
    threads: &mut Vec<JoinHandle<()>>,
) -> Result<(Collector, Sampler<()>), DaemonError> {
    let post = to_loop.clone();
    let (collector, thread) = Collector::start(spool_limits(config), move |id, word| {
        post.send(match word {
            Word::Drained => WorkerEvent::OutputComplete(id),
            Word::OverLimit => WorkerEvent::OverLimit(id),
        });
    })?;
    threads.push(thread);
    let post = to_loop.clone();
    let rate = config.job_metrics.default_sample_rate;
    let (sampler, thread) = Sampler::start(rate, move |id, ()| post.send(WorkerEvent::SamplesComplete(id)))?;
    threads.push(thread);
    Ok((collector, sampler))
}

/// Takes records to the thread that writes them.
type Records = Sender<Change<()>>;

/// The threads that write what must outlive us: records, and what waiting jobs brought.
fn start_writers(
    database: Option<Database>,
    stage: &Stage,
    to_loop: &Mailbox,
    threads: &mut Vec<JoinHandle<()>>,
) -> Result<(Option<Records>, Sender<Staging>), DaemonError> {
    let post = to_loop.clone();
    let records = database.map(|database| {
        let told = move |outcome| post.send(WorkerEvent::Recorded(outcome));
        state::writer::start(database, schedule_first, told)
    });
    let (records, thread) = records.transpose()?.unzip();
    threads.extend(thread);
    // Bounded by the jobs that may wait (joblet.maxQueuedJobs), and its bytes by the API.
    let (staging, queue) = unbounded();
    let post = to_loop.clone();
    let told = move |id, done| post.send(WorkerEvent::Staged(id, done));
    threads.push(staging::start(stage.clone(), queue, told)?);
    Ok((records, staging))
}

/// Where worker threads put their news.
#[derive(Clone)]
struct Mailbox {
    events: Turn<Sender<WorkerEvent>>,
    waker: Arc<Waker>,
}

impl Mailbox {
    fn send(&self, events: WorkerEvent) {
        // The loop is gone only after all of its jobs are.
        if self.events.take(|queue| queue.send(events)).is_ok()
            && let Err(why) = self.waker.wake()
        {
            diag::limited!(Level::Error, "cannot wake the loop", error = why);
        }
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

/// The schedule, whose timer wakes the loop.
fn schedule_in(poll: &Poll) -> Result<Schedule, DaemonError> {
    let failed = |doing| move |source| DaemonError::Loop { doing, source };
    let schedule = Schedule::new().map_err(failed("make the timer of scheduled jobs"))?;
    let mut source = SourceFd(&schedule.timer().as_raw_fd());
    poll.registry()
        .register(&mut source, SCHEDULE, Interest::READABLE)
        .map_err(failed("watch the timer of scheduled jobs"))?;
    Ok(schedule)
}

/// One daemon per dataDir: two would kill each other's jobs in the sweep. The lock is on the directory itself,
/// so there is no file to leave behind.
fn lock(run_dir: &Path) -> Result<File, DaemonError> {
    let path = run_dir.to_owned();
    let dir =
        File::open(run_dir).map_err(|source| DaemonError::MakeDirectory { path: path.clone(), source })?;
    // A daemon that was killed may have a child that has not left its descriptors yet: that one takes a moment, a
    // daemon that lives has the lock for good. Who waits for it in vain ends with this process.
    let (locked, lock) = bounded(1);
    let wait = move || {
        let _ = dir.lock().and_then(|()| locked.send(dir).map_err(io::Error::other));
    };
    let thread = std::thread::Builder::new().name("lock".into()).spawn(wait);
    thread.map_err(|source| DaemonError::Thread { name: "lock", source })?;
    lock.recv_timeout(LOCK_WAIT).map_err(|_| DaemonError::Locked { path })
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

/// What an earlier daemon left in `<dataDir>/work`.
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

/// Notifiers data directories apart in the name of a group; FNV-1a, 32 bits.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn sandbox_config(config: &DaemonConfig, run_dir: &Path) -> SandboxConfig {
    SandboxConfig {
        mounts: config.filesystem.allowed_mounts.clone(),
        proc_pids_only: config.filesystem.proc == ProcMode::Pid,
        run_dir: run_dir.to_owned(),
        orphan_linger_s: config.joblet.orphan_linger.as_secs(),
    }
}

fn settings(
    config: &DaemonConfig,
    work_on_disk: bool,
    (spool, run_dir, stage): (PathBuf, PathBuf, Stage),
) -> Settings {
    const DAY_NS: i64 = 24 * 3600 * 1_000_000_000;
    Settings {
        max_jobs: config.joblet.max_concurrent_jobs as usize,
        max_queued: config.joblet.max_queued_jobs as usize,
        retention_max: config.state.retention.max as usize,
        retention_ns: i64::from(config.state.retention.days) * DAY_NS,
        keep_jobs: config.joblet.on_shutdown == OnShutdown::Keep,
        stage,
        warm_sandboxes: config.joblet.warm_sandboxes as usize,
        stop_grace: config.joblet.stop_grace_period,
        cleanup_timeout: config.joblet.cleanup_timeout,
        enforcement: config.cgroup.enforcement,
        work_on_disk,
        spool_limits: spool_limits(config),
        spool,
        run_dir,
    }
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
    fn a_second_daemon_on_the_same_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = lock(dir.path()).unwrap();
        assert!(lock(dir.path()).unwrap_err().to_string().contains("another joblet"));
    }
}
