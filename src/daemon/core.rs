//! Everything that the loop owns: small owners with private fields, and nothing else.
//!
//! An owner returns what is to be done next and never takes the loop or this struct. The steps that connect owners are
//! the functions of `command/` and `lifecycle/`, which do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

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
use super::sources::Sources;
use super::spawner::Starts;
use super::staging::Staging;
use super::stores::Stores;
use super::timers::Timers;
use super::workflows::Workflows;
use crate::exporter::Counts;
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
    /// Empties the output pipes of jobs.
    pub(super) collector: Collector,
    /// Takes samples of running jobs.
    pub(super) sampler: Sampler<Evidence>,
    /// Looks at running jobs.
    pub(super) inspection: Inspection,
    /// Pauses running jobs.
    pub(super) freezer: Freezer,
    /// Has what jobs give kept for longer.
    pub(super) history: History,
    /// The way back of the threads that look at jobs.
    pub(super) report: Report,
    /// Keeps files that jobs of workflows leave for others.
    pub(super) outputs: Outputs,
    /// Opens what another store keeps of what jobs gave.
    pub(super) stores: Stores,
}

/// The way back to the loop.
#[derive(Clone)]
pub(super) struct Report(pub(super) Arc<dyn Fn(WorkerEvent) + Send + Sync>);

impl Report {
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
    /// Timers of the loop.
    pub(super) timers: Timers,
    /// The descriptors that are watched.
    pub(super) sources: Sources,
    /// Whether a timer looks for children that hang in the kernel.
    pub(super) watches_starts: bool,
    /// Whether a timer looks at jobs of workflows that could not be submitted.
    pub(super) feeds_again: bool,
    /// Whether it was logged that joblet-init cannot be spared by the out-of-memory killer.
    pub(super) oom_warned: bool,
}

impl Clock {
    /// Nothing is watched yet.
    pub(super) fn new(sources: Sources) -> Self {
        Clock { timers: Timers::new(), sources, watches_starts: false, feeds_again: false, oom_warned: false }
    }
}

/// The daemon's own end.
pub(super) struct Shutdown {
    /// Called when the end begins.
    pub(super) begins: Box<dyn Fn()>,
    /// Whether the shutdown has begun.
    pub(super) begun: bool,
    /// Whether it takes too long, so that the loop leaves what is still under way.
    pub(super) gave_up: bool,
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
        self.supply.runtimes.root(spec.runtime.as_ref()?)
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
