//! Everything that the loop owns: small owners with private fields, and nothing else.
//!
//! An owner returns what is to be done next and never takes the loop or this struct. The steps that connect owners are
//! the functions of `command/` and `lifecycle/`, which do.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Token;

use super::cleanup::Cleanup;
use super::egress::EgressChange;
use super::events::WorkerEvent;
use super::evidence::Evidence;
use super::execs::Execs;
use super::freezer::Freezer;
use super::history::History;
use super::inspection::Inspection;
use super::jobs::{JobTable, Lane, Schedule, Slots, Sweep};
use super::ledger::Ledger;
use super::outputs::Outputs;
use super::pool::Pool;
use super::provision::{Node, Supply};
use super::runtimes::build_root;
use super::sources::{Registered, Source, Sources};
use super::spawner::Starts;
use super::staging::Staging;
use super::stores::Stores;
use super::timers::{Timer, Timers};
use super::workflows::Workflows;
use crate::exporter::Counts;
use crate::input::Inputs;
use crate::job::{Enforcement, JobId, JobSpec};
use crate::metrics::Sampler;
use crate::output::{Collector, SpoolLimits};
use crate::sandbox::RuntimeRoot;

/// The owners of everything mutable.
#[derive(Debug)]
pub(super) struct Core {
    /// Numbers and words of the configuration.
    pub(super) settings: Settings,
    /// The part of the node that jobs and worker threads share.
    pub(super) node: Arc<Node>,
    /// All jobs, and facts about them that are not stepped yet.
    pub(super) jobs: JobTable,
    /// Finished jobs that go, some in each turn.
    pub(super) sweep: Sweep,
    /// The right to run, and the queue for it.
    pub(super) slots: Slots,
    /// Jobs that wait for their time.
    pub(super) schedule: Schedule,
    /// Inputs of jobs that wait.
    pub(super) staging: Staging,
    /// The host ids and networks that are lent to jobs.
    pub(super) supply: Supply,
    /// Jobs that are being started.
    pub(super) starts: Starts,
    /// The pool of warm sandboxes.
    pub(super) pool: Pool,
    /// Records of jobs.
    pub(super) ledger: Ledger,
    /// Commands that run beside payloads.
    pub(super) execs: Execs,
    /// Graphs of jobs.
    pub(super) workflows: Workflows,
    /// Removals that are under way.
    pub(super) cleanup: Cleanup,
    /// Output and samples of jobs.
    pub(super) streams: Streams,
    /// Timers, and the descriptors that are watched.
    pub(super) clock: Clock,
    /// Whether the daemon is to end.
    pub(super) shutdown: Shutdown,
    /// Counts of events, for the metrics endpoint.
    pub(super) counts: Counts,
}

/// Numbers and words of the configuration that steps need.
#[derive(Debug)]
pub(super) struct Settings {
    /// `joblet.maxQueuedJobs`: jobs that may wait.
    pub(super) max_queued: usize,
    /// `state.retention.max`: finished jobs that are kept.
    pub(super) retention_max: usize,
    /// `state.retention.days`: age of a finished job that is forgotten, ns.
    pub(super) retention_ns: i64,
    /// Whether running jobs outlive an orderly end of the daemon (`joblet.onShutdown: keep`).
    pub(super) keep_jobs: bool,
    /// `joblet.stopGracePeriod`: from TERM to KILL.
    pub(super) stop_grace: Duration,
    /// `joblet.jobTimeout`: longest timeout of a job; `None`: any.
    pub(super) job_timeout: Option<Duration>,
    /// `joblet.maxPause`: longest pause of a job.
    pub(super) max_pause: Duration,
    /// `joblet.cleanupTimeout`: bound of waiting for a finished job's output.
    pub(super) cleanup_timeout: Duration,
    /// `cgroup.enforcement`: whether a missing controller refuses a job.
    pub(super) enforcement: Enforcement,
    /// `workflow.maxOutputBytes`: bytes that the jobs of one workflow leave for others.
    pub(super) max_output_bytes: u64,
    /// `metrics.perJobMax`: running jobs with series of their own; 0 without `metrics.perJob`.
    pub(super) per_job: usize,
    /// `joblet.spoolLimit`, `joblet.jobSpoolLimit` and `joblet.spoolPolicy`.
    pub(super) spool_limits: SpoolLimits,
}

/// The threads that take what jobs give, and look at them.
#[derive(Debug)]
pub(super) struct Streams {
    inputs: Inputs,
    collector: Collector,
    sampler: Sampler<Evidence>,
    inspection: Inspection,
    freezer: Freezer,
    history: History,
    report: Report,
    outputs: Outputs,
    stores: Stores,
}

impl Streams {
    /// These threads; nothing is kept for longer yet.
    pub(super) fn new(
        (inputs, collector): (Inputs, Collector),
        sampler: Sampler<Evidence>,
        (inspection, freezer): (Inspection, Freezer),
        report: Report,
        outputs: Outputs,
        stores: Stores,
    ) -> Self {
        let history = History::none();
        Streams { inputs, collector, sampler, inspection, freezer, history, report, outputs, stores }
    }

    /// Moves their standard inputs.
    pub(super) fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// Has what jobs give kept for longer.
    pub(super) fn keep_history(&mut self, history: History) {
        self.history = history;
    }

    /// Empties the output pipes of jobs.
    pub(super) fn collector(&self) -> &Collector {
        &self.collector
    }

    /// Takes samples of running jobs.
    pub(super) fn sampler(&self) -> &Sampler<Evidence> {
        &self.sampler
    }

    /// Looks at running jobs.
    pub(super) fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// Pauses running jobs.
    pub(super) fn freezer(&self) -> &Freezer {
        &self.freezer
    }

    /// Has what jobs give kept for longer.
    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// The way back of the threads that look at jobs.
    pub(super) fn report(&self) -> &Report {
        &self.report
    }

    /// Keeps files that jobs of workflows leave for others.
    pub(super) fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// Opens what another store keeps of what jobs gave.
    pub(super) fn stores(&self) -> &Stores {
        &self.stores
    }
}

/// The way back to the loop.
#[derive(Clone)]
pub(super) struct Report(Arc<dyn Fn(WorkerEvent) + Send + Sync>);

impl Report {
    /// The way that this function is.
    pub(super) fn new(send: Arc<dyn Fn(WorkerEvent) + Send + Sync>) -> Self {
        Report(send)
    }

    /// A change of an egress list is in force, or was refused.
    pub(super) fn egress_changed(&self, change: EgressChange) {
        (self.0)(WorkerEvent::EgressChanged(Box::new(change)));
    }

    /// Nobody needs the /work of a job that has built a runtime.
    pub(super) fn tree_taken(&self, id: JobId) {
        (self.0)(WorkerEvent::TreeTaken(id));
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Report")
    }
}

/// The things that wake the loop.
#[derive(Debug)]
pub(super) struct Clock {
    timers: Timers,
    // The descriptors that are watched.
    sources: Sources,
    // Whether a timer looks for children that hang in the kernel.
    watches_starts: bool,
    // Whether a timer looks at jobs of workflows that could not be submitted.
    feeds_again: bool,
}

impl Clock {
    /// Nothing is watched yet.
    pub(super) fn new(sources: Sources) -> Self {
        Clock { timers: Timers::new(), sources, watches_starts: false, feeds_again: false }
    }

    /// Fires a timer at a time.
    pub(super) fn set(&mut self, at: Instant, timer: Timer) {
        self.timers.set(at, timer);
    }

    /// How long the loop may wait; `None` is for ever.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        self.timers.wait(now)
    }

    /// The next timer that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        self.timers.pop_due(now)
    }

    /// Drops timers that `keep` does not want, once they outnumber `live` things by far.
    pub(super) fn weed(&mut self, live: usize, keep: impl Fn(&Timer) -> bool) {
        self.timers.weed(live, keep);
    }

    /// Watches a descriptor until the registration is dropped.
    ///
    /// # Errors
    /// The kernel's refusal; the descriptor is closed then.
    pub(super) fn watch(&self, source: Source, fd: OwnedFd) -> io::Result<Registered> {
        self.sources.watch(source, fd)
    }

    /// The source behind a token; `None` where its registration is gone.
    pub(super) fn source_of(&self, token: Token) -> Option<Source> {
        self.sources.of(token)
    }

    /// Has children looked for at a time that hang in the kernel, unless a look is to come sooner.
    pub(super) fn look_at_starts(&mut self, at: Instant) {
        if !std::mem::replace(&mut self.watches_starts, true) {
            self.set(at, Timer::Stuck);
        }
    }

    /// That look is over.
    pub(super) fn has_looked_at_starts(&mut self) {
        self.watches_starts = false;
    }

    /// Has the loop wake at a time to submit jobs of workflows, unless it is to wake for them sooner.
    pub(super) fn feed_again(&mut self, at: Instant) {
        if !std::mem::replace(&mut self.feeds_again, true) {
            self.set(at, Timer::Feed);
        }
    }

    /// It has woken for them.
    pub(super) fn has_fed(&mut self) {
        self.feeds_again = false;
    }
}

/// The daemon's own end.
pub(super) struct Shutdown {
    // Called when the end begins.
    begins: Box<dyn Fn()>,
    begun: bool,
    gave_up: bool,
}

impl Shutdown {
    /// The end has not begun; `begins` is called when it does.
    pub(super) fn new(begins: Box<dyn Fn()>) -> Self {
        Shutdown { begins, begun: false, gave_up: false }
    }

    /// Begins the end, once.
    pub(super) fn begin(&mut self) {
        if !std::mem::replace(&mut self.begun, true) {
            (self.begins)();
        }
    }

    /// Whether the end has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// The end takes too long: the loop leaves what is still under way.
    pub(super) fn give_up(&mut self) {
        self.gave_up = true;
    }

    /// Whether it does.
    pub(super) fn gave_up(&self) -> bool {
        self.gave_up
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shutdown(begun {}, gave up {})", self.begun, self.gave_up)
    }
}

impl Core {
    /// The root of a job; `None`: the host's paths.
    pub(super) fn root_of(&self, spec: &JobSpec) -> Option<Arc<RuntimeRoot>> {
        if let Some(dir) = &spec.build {
            return Some(Arc::new(build_root(dir)));
        }
        self.supply.runtimes().root(spec.runtime.as_ref()?)
    }

    /// Whether a job like this one would start at once, without waiting for a slot or for GPUs.
    pub(super) fn has_place(&self, spec: &JobSpec) -> bool {
        self.slots.is_open(Lane::of(spec)) && self.supply.has_gpus(spec)
    }

    /// Jobs that wait for their time or for a slot.
    pub(super) fn waiting(&self) -> usize {
        self.schedule.len() + self.slots.waiting()
    }
}
