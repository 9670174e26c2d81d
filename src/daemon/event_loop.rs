//! One turn after the other: collect, step, act.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use log::Level;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::cleanup::{CleanupTask, WorkRemoval};
use super::commands::{Command, QUEUE};
use super::pool::{CreateError, CreateRequest, Pool, WarmSandbox};
use super::queue::Queue;
use super::schedule::Schedule;
use super::staging::Staging;
use super::starting::{Process, Spawner, StartError, StartRequest, StartResult, schedule_first};
use super::table::{Child, Job, Table};
use super::timers::Timers;
use crate::cgroup::{CgroupTree, JobCgroup};
use crate::diag;
use crate::job::exit::{StopCause, start_failure};
use crate::job::state::{Effect, Fact, State, step};
use crate::job::{Enforcement, JobId};
use crate::metrics::Sampler;
use crate::output::watermark::Notifiers;
use crate::output::{Collector, SpoolLimits};
use crate::sandbox::identity::{Lease, Leases};
use crate::state::{Change, Outcome};
use crate::sys::turns::Turn;
use crate::upload::Stage;

pub(super) const WAKE: Token = Token(0);
pub(super) const SIGNALS: Token = Token(1);
pub(super) const SCHEDULE: Token = Token(2);
const FIRST_FREE: usize = 3;
/// How long a busy group is left alone before the next try.
const BUSY_AGAIN: Duration = Duration::from_millis(10);

/// From one look for expired jobs to the next.
const EXPIRY: Duration = Duration::from_secs(3600);

/// What other threads tell the loop.
#[derive(Debug)]
pub(super) enum WorkerEvent {
    /// A berth is ready, or could not be made.
    Created(Box<Result<WarmSandbox, CreateError>>),
    /// A spawner is done with an order.
    Started(Box<StartResult>),
    /// A job's output is complete.
    OutputComplete(JobId),
    /// A job's last sample is stored.
    SamplesComplete(JobId),
    /// A job writes more output than is kept.
    OverLimit(JobId),
    /// The tidier is done with a group, or wants to try again.
    CgroupRemoved(Option<JobCgroup>),
    /// Nothing is left in a network namespace.
    NetworkClean(OwnedFd),
    /// Records are on disk, or cannot be written.
    Recorded(Outcome<()>),
    /// What a waiting job brought is put aside, or cannot be.
    Staged(JobId, Result<(), String>),
    /// A /work on disk is gone, and its id is free; `None`: it could not be removed.
    WorkRemoved(Option<Lease>),
}

/// What becomes due.
#[derive(Debug)]
pub(super) enum Timer {
    Grace(JobId),
    Timeout(JobId),
    Drain(JobId),
    Tidy(JobCgroup),
    Stuck,
    Quiet,
    Expired,
    ShutdownOver,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Init(JobId),
    Report(JobId),
}

/// Numbers and places from the configuration.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) max_jobs: usize,
    pub(super) max_queued: usize,
    pub(super) retention_max: usize,
    pub(super) retention_ns: i64,
    pub(super) keep_jobs: bool,
    pub(super) stage: Stage,
    pub(super) warm_sandboxes: usize,
    pub(super) stop_grace: Duration,
    pub(super) cleanup_timeout: Duration,
    pub(super) enforcement: Enforcement,
    pub(super) work_on_disk: bool,
    pub(super) spool_limits: SpoolLimits,
    pub(super) spool: PathBuf,
    pub(super) run_dir: PathBuf,
}

/// Ends of the loop's queues.
pub(super) struct Queues {
    pub(super) commands: Turn<Receiver<Command>>,
    pub(super) events: Turn<Receiver<WorkerEvent>>,
    pub(super) orders: Sender<StartRequest>,
    // `None`: records are kept in memory only.
    pub(super) records: Option<Sender<Change<()>>>,
    pub(super) staging: Sender<Staging>,
    pub(super) create_requests: Sender<CreateRequest>,
    pub(super) cleanups: Sender<CleanupTask>,
    pub(super) removals: Sender<WorkRemoval>,
}

/// The loop and all it owns.
pub(super) struct Loop {
    pub(super) poll: Poll,
    pub(super) signals: SignalFd,
    pub(super) queues: Queues,
    pub(super) settings: Settings,
    pub(super) tree: Arc<CgroupTree>,
    pub(super) leases: Leases,
    pub(super) collector: Collector,
    pub(super) sampler: Sampler<()>,
    pub(super) notifiers: Notifiers,
    pub(super) shutdown_begins: Box<dyn Fn()>,
    pub(super) table: Table,
    pub(super) pool: Pool,
    pub(super) queue: Queue,
    pub(super) schedule: Schedule,
    // Jobs that have a place.
    pub(super) running: usize,
    // Orders that a spawner has, or that wait for one.
    pub(super) starting: usize,
    // Records and belongings of which the writers have not told yet.
    pub(super) pending_writes: usize,
    pub(super) boot: String,
    watching: bool,
    pub(super) spawner: Arc<Spawner>,
    pub(super) timers: Timers<Timer>,
    pub(super) pending: Vec<(JobId, Fact)>,
    pub(super) pending_cleanups: usize,
    pub(super) oom_warned: bool,
    sources: HashMap<usize, Source>,
    next_token: usize,
    ending: bool,
    gave_up: bool,
}

impl Loop {
    pub(super) fn new(
        poll: Poll,
        signals: SignalFd,
        queues: Queues,
        settings: Settings,
        rooms: (Arc<CgroupTree>, Leases, Collector, Sampler<()>, Arc<Spawner>, Schedule),
        notifiers: Notifiers,
        shutdown_begins: Box<dyn Fn()>,
    ) -> Self {
        let (tree, leases, collector, sampler, spawner, schedule) = rooms;
        Loop {
            poll,
            signals,
            queues,
            settings,
            tree,
            leases,
            collector,
            sampler,
            notifiers,
            shutdown_begins,
            table: Table::default(),
            pool: Pool::default(),
            queue: Queue::default(),
            schedule,
            running: 0,
            starting: 0,
            pending_writes: 0,
            boot: boot_id(),
            watching: false,
            spawner,
            timers: Timers::new(),
            pending: Vec::new(),
            pending_cleanups: 0,
            oom_warned: false,
            sources: HashMap::new(),
            next_token: FIRST_FREE,
            ending: false,
            gave_up: false,
        }
    }

    /// Turns until a signal asked for the end and everything is given back.
    pub(super) fn run(&mut self) {
        schedule_first();
        let mut events = Events::with_capacity(256);
        while !(self.gave_up || self.ending && self.is_idle()) {
            let timeout =
                if self.pending.is_empty() { self.timers.wait(Instant::now()) } else { Some(Duration::ZERO) };
            if let Err(why) = self.poll.poll(&mut events, timeout)
                && why.kind() != io::ErrorKind::Interrupted
            {
                diag::limited!(Level::Error, "the event loop cannot wait", error = why);
            }
            self.turn(&events);
        }
    }

    /// Nothing is under way that must come to its end before ours. Jobs that run go on without us, if they are kept.
    fn is_idle(&self) -> bool {
        let jobs = self.table.iter().filter(|job| !job.state.is_finished());
        let unfinished = |state: &State| match state {
            State::Scheduled | State::Queued => self.queues.records.is_none(),
            State::Running => !self.settings.keep_jobs,
            _ => true,
        };
        let quiet = self.starting == 0
            && self.pending_writes == 0
            && self.pending_cleanups == 0
            && !self.is_filling();
        quiet && jobs.map(|job| &job.state).all(|state| !unfinished(state))
    }

    fn turn(&mut self, events: &Events) {
        let mut facts = std::mem::take(&mut self.pending);
        let mut stop = false;
        for event in events {
            match event.token() {
                WAKE => {}
                SIGNALS => stop |= self.read_signals(),
                SCHEDULE => self.collect_scheduled(&mut facts),
                Token(token) => self.collect_source(token, &mut facts),
            }
        }
        self.collect_news(&mut facts);
        self.collect_due(&mut facts);
        for (id, fact) in facts {
            self.apply(id, fact);
        }
        for _ in 0..QUEUE {
            let Ok(command) = self.queues.commands.take(Receiver::try_recv) else { break };
            self.handle(command);
        }
        if stop {
            self.begin_shutdown();
        }
    }

    /// One fact: the pure step, then its effects.
    pub(super) fn apply(&mut self, id: JobId, fact: Fact) {
        let Some(job) = self.table.get_mut(id).filter(|job| job.still_holds(&fact)) else { return };
        let state = std::mem::replace(&mut job.state, State::Draining(None));
        let (state, effects) = step(state, fact);
        job.state = state;
        for effect in effects {
            match effect {
                Effect::Enqueue => self.enqueue(id),
                Effect::Start => self.start(id),
                Effect::Save => drop(self.save(id)),
                Effect::AnnounceRunning => self.announce_running(id),
                Effect::Terminate => self.terminate(id),
                Effect::Kill => self.kill(id),
                Effect::CollectOutput => self.drain(id),
                Effect::Finish => self.finish(id),
            }
        }
    }

    fn read_signals(&mut self) -> bool {
        let mut stop = false;
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = Signal::try_from(info.ssi_signo as i32);
            match signal {
                Ok(Signal::SIGTERM | Signal::SIGINT) => stop = true,
                _ => diag::event!(Level::Info, "signal without effect", number = info.ssi_signo),
            }
        }
        stop
    }

    fn collect_source(&mut self, token: usize, facts: &mut Vec<(JobId, Fact)>) {
        match self.sources.get(&token) {
            Some(Source::Report(id)) => {
                let id = *id;
                self.collect_report(id, facts);
            }
            Some(Source::Init(id)) => {
                let id = *id;
                // The report may be in the same batch, or come behind: it was written before PID 1 ended.
                self.collect_report(id, facts);
                self.collect_init_end(id, facts);
            }
            None => {}
        }
    }

    /// End of file: the payload was executed. Four bytes of errno: it was not, and the record will tell.
    fn collect_report(&mut self, id: JobId, facts: &mut Vec<(JobId, Fact)>) {
        let Some(child) = self.table.get_mut(id).and_then(|job| job.child.as_mut()) else { return };
        let Some(report) = &child.report else { return };
        let mut word = [0u8; 4];
        match rustix::io::read(report, &mut word) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
            Ok(0) => facts.push((id, Fact::Executed)),
            Ok(_) | Err(_) => {}
        }
        let (token, report) = (child.tokens[1], child.report.take());
        if let Some(report) = report {
            self.forget_source(token, &report);
        }
    }

    fn collect_init_end(&mut self, id: JobId, facts: &mut Vec<(JobId, Fact)>) {
        let Some(child) = self.table.get_mut(id).and_then(|job| job.child.as_mut()) else { return };
        if !child.init_end.is_empty() {
            // The kernel tells of the reaping too (EPOLLHUP, since 6.9), and there is nothing to reap twice.
            return;
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let end = match waitid(WaitId::PidFd(child.pidfd.as_fd()), options) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("its PID 1 ended with code {code}"),
                (None, Some(signal)) => format!("its PID 1 was killed by signal {signal}"),
                (None, None) => "its PID 1 ended".to_owned(),
            },
            Ok(None) => return,
            Err(why) => format!("its PID 1 cannot be waited for: {why}"),
        };
        child.init_end = end;
        facts.push((id, Fact::InitGone));
    }

    fn collect_news(&mut self, facts: &mut Vec<(JobId, Fact)>) {
        while let Ok(events) = self.queues.events.take(Receiver::try_recv) {
            match events {
                WorkerEvent::Created(raised) => self.collect_created(*raised),
                WorkerEvent::Started(launch) => self.collect_launch(*launch, facts),
                WorkerEvent::OutputComplete(id) => {
                    if let Some(job) = self.table.get_mut(id) {
                        job.output_complete = true;
                    }
                    facts.extend(self.output_complete(id).map(|fact| (id, fact)));
                }
                WorkerEvent::SamplesComplete(id) => {
                    if let Some(job) = self.table.get_mut(id) {
                        job.samples_complete = true;
                    }
                    facts.extend(self.output_complete(id).map(|fact| (id, fact)));
                }
                WorkerEvent::OverLimit(id) => facts.push((id, Fact::Stop(StopCause::OutputLimit))),
                WorkerEvent::Recorded(outcome) => self.collect_outcome(outcome, facts),
                WorkerEvent::Staged(id, done) => self.collect_staged(id, done, facts),
                WorkerEvent::NetworkClean(network) => self.keep_network(network),
                WorkerEvent::CgroupRemoved(None) => self.pending_cleanups -= 1,
                WorkerEvent::WorkRemoved(lease) => {
                    self.pending_cleanups -= 1;
                    if let Some(lease) = lease {
                        self.leases.release(lease);
                    }
                }
                WorkerEvent::CgroupRemoved(Some(group)) => {
                    self.timers.set(Instant::now() + BUSY_AGAIN, Timer::Tidy(group))
                }
            }
        }
    }

    fn collect_launch(&mut self, launch: StartResult, facts: &mut Vec<(JobId, Fact)>) {
        let StartResult { id, lease, cgroup, result } = launch;
        self.starting -= 1;
        let fact = match result {
            Ok(process) => {
                let start_time = process.start_time;
                let child = self.watch(id, process);
                let pid = child.pid;
                if let Some(job) = self.table.get_mut(id) {
                    job.process =
                        start_time.map(|start_time| crate::state::record::Process { pid, start_time });
                    job.child = Some(child);
                }
                Fact::Spawned
            }
            Err(StartError { why, is_shortage }) => {
                if let Some(job) = self.table.get_mut(id) {
                    job.shortage = is_shortage;
                }
                Fact::NotStarted(start_failure(why))
            }
        };
        if let Some(job) = self.table.get_mut(id) {
            job.lease = Some(lease);
            job.cgroup = cgroup;
        }
        facts.push((id, fact));
    }

    fn collect_due(&mut self, facts: &mut Vec<(JobId, Fact)>) {
        let now = Instant::now();
        while let Some(due) = self.timers.pop_due(now) {
            match due {
                Timer::Grace(id) => facts.push((id, Fact::GraceOver)),
                Timer::Timeout(id) => facts.push((id, Fact::Stop(StopCause::Timeout))),
                Timer::Drain(id) => self.collect_late(id),
                Timer::Tidy(group) => self.cleanup(CleanupTask::Cgroup(group)),
                Timer::Stuck => self.end_stuck(),
                Timer::Quiet => self.quiet(),
                Timer::Expired => self.expire(),
                Timer::ShutdownOver => {
                    let jobs = self.table.live();
                    diag::event!(
                        Level::Error,
                        "shutdown takes too long, leaving",
                        jobs = jobs,
                        groups = self.pending_cleanups
                    );
                    self.gave_up = true;
                }
            }
        }
    }

    /// From now on a child that does not come to its exec is killed in time. A thread waits for it, and would for ever.
    pub(super) fn watch_starts(&mut self) {
        if !std::mem::replace(&mut self.watching, true) {
            self.timers.set(Instant::now() + self.settings.cleanup_timeout, Timer::Stuck);
        }
    }

    fn end_stuck(&mut self) {
        let killed = self.spawner.sandbox.end_stuck(self.settings.cleanup_timeout);
        if killed > 0 {
            diag::limited!(
                Level::Error,
                "killed what was to become a job: it hangs in the kernel",
                number = killed
            );
        }
        self.watching = false;
        if self.starting > 0 || self.is_filling() {
            self.watch_starts();
        }
    }

    fn begin_shutdown(&mut self) {
        if std::mem::replace(&mut self.ending, true) {
            return;
        }
        diag::event!(Level::Info, "shutting down", jobs = self.table.live());
        (self.shutdown_begins)();
        self.discard_all();
        let bound = self.settings.stop_grace + self.settings.cleanup_timeout + Duration::from_secs(5);
        self.timers.set(Instant::now() + bound, Timer::ShutdownOver);
        // Who waits is started by the next daemon, unless nobody remembers it. Nor does it start with a place that it was
        // given in this turn.
        self.pending.retain(|(_, fact)| *fact != Fact::SlotGranted);
        let goes = |job: &&Job| match &job.state {
            State::Finished(_) | State::Recording(_) => false,
            State::Scheduled | State::Queued => self.queues.records.is_none(),
            _ => !self.settings.keep_jobs,
        };
        let going: Vec<JobId> = self.table.iter().filter(goes).map(|job| job.id).collect();
        for id in going {
            self.leave_queues(id);
            self.apply(id, Fact::Stop(StopCause::Shutdown));
        }
    }

    /// Forgets what is old, now and from time to time.
    pub(super) fn expire(&mut self) {
        self.forget_expired();
        self.timers.set(Instant::now() + EXPIRY, Timer::Expired);
    }

    /// Whether the end has been asked for.
    pub(super) fn is_ending(&self) -> bool {
        self.ending
    }

    fn watch(&mut self, id: JobId, process: Process) -> Child {
        let Process { pidfd, pid, report, record, mounts, network, .. } = process;
        let tokens =
            [self.add_source(Source::Init(id), &pidfd), self.add_source(Source::Report(id), &report)];
        let init_end = String::new();
        Child { pidfd, pid, report: Some(report), record, mounts, network, tokens, init_end }
    }

    /// Watches the PID 1 of a job of an earlier daemon.
    pub(super) fn watch_init(&mut self, id: JobId, pidfd: &OwnedFd) -> usize {
        self.add_source(Source::Init(id), pidfd)
    }

    fn add_source(&mut self, source: Source, fd: &OwnedFd) -> usize {
        let token = self.next_token;
        self.next_token += 1;
        self.sources.insert(token, source);
        let done =
            self.poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), Token(token), Interest::READABLE);
        if let Err(why) = done {
            diag::limited!(Level::Error, "cannot watch a job's process", error = why);
        }
        token
    }

    pub(super) fn forget_source(&mut self, token: usize, fd: &OwnedFd) {
        self.sources.remove(&token);
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd.as_raw_fd()));
    }

    /// Has a /work on disk removed; `lease` comes back when that is done.
    pub(super) fn remove_work(&mut self, name: CString, lease: Option<Lease>) {
        self.pending_cleanups += 1;
        if self.queues.removals.send(WorkRemoval { name, lease }).is_err() {
            diag::limited!(Level::Error, "the remover thread is gone");
        }
    }

    /// Hands work to the tidier.
    pub(super) fn cleanup(&self, cleanup: CleanupTask) {
        if self.queues.cleanups.send(cleanup).is_err() {
            diag::limited!(Level::Error, "the tidier thread is gone");
        }
    }
}

/// A job's command line as the log shows it. Arguments are the client's own words; secrets have their own map.
pub(super) fn command_line(command: &str, args: &[String]) -> String {
    std::iter::once(command).chain(args.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

/// Notifiers this boot from all others (proc_sys_kernel(5), random/boot_id).
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
