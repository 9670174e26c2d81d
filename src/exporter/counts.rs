//! Counters, raised where the event happens.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

type One = [(&'static str, &'static str); 1];
type Two = [(&'static str, &'static str); 2];

/// Upper bounds of the phases of a start, seconds: a warm one takes a tenth of a millisecond, a queue may take hours.
const PHASES: [f64; 14] =
    [25e-6, 50e-6, 1e-4, 25e-5, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.05, 0.25, 1.0, 10.0, 600.0];
/// Upper bounds of a turn of the loop, seconds.
const TURNS: [f64; 9] = [1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 0.02, 0.1, 1.0];

/// How long the parts of a start took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Took {
    /// Creating the sandbox; `None`: a warm one was there.
    pub create: Option<Duration>,
    /// Making it the job's own, until its payload may be executed.
    pub configure: Duration,
}

/// The counters of the endpoint; nothing is counted where it is off.
#[derive(Debug, Clone, Default)]
pub struct Counts(Option<Arc<Counters>>);

#[derive(Debug)]
struct Counters {
    starts: Family<One, Histogram, fn() -> Histogram>,
    ends: Family<One, Counter>,
    sandboxes: Family<One, Counter>,
    calls: Family<Two, Counter>,
    turns: Histogram,
}

impl Counts {
    /// Counters that are read.
    pub fn on() -> Counts {
        Counts(Some(Arc::new(Counters {
            starts: Family::new_with_constructor(|| Histogram::new(PHASES)),
            ends: Family::default(),
            sandboxes: Family::default(),
            calls: Family::default(),
            turns: Histogram::new(TURNS),
        })))
    }

    /// Whether anything is counted.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A job's start was `queued` for so long before anything was done for it.
    pub fn queued(&self, queued: Duration) {
        self.phase("queue", queued);
    }

    /// A job's sandbox was made its own.
    pub fn prepared(&self, took: Took) {
        if let Some(counters) = &self.0 {
            let outcome = if took.create.is_some() { "miss" } else { "hit" };
            counters.sandboxes.get_or_create(&[("outcome", outcome)]).inc();
        }
        took.create.into_iter().for_each(|create| self.phase("create", create));
        self.phase("configure", took.configure);
    }

    /// A job's payload was executed, so long after it was permitted.
    pub fn executed(&self, took: Duration) {
        self.phase("exec", took);
    }

    fn phase(&self, phase: &'static str, took: Duration) {
        if let Some(counters) = &self.0 {
            counters.starts.get_or_create(&[("phase", phase)]).observe(took.as_secs_f64());
        }
    }

    /// A job has ended for this reason.
    pub fn ended(&self, reason: &'static str) {
        if let Some(counters) = &self.0 {
            counters.ends.get_or_create(&[("reason", reason)]).inc();
        }
    }

    /// A call was answered. `method` is its full name.
    pub fn answered(&self, method: &'static str, code: &'static str) {
        if let Some(counters) = &self.0 {
            counters.calls.get_or_create(&[("method", method.trim_start_matches('/')), ("code", code)]).inc();
        }
    }

    /// The loop has worked for so long without a pause.
    pub fn turned(&self, took: Duration) {
        if let Some(counters) = &self.0 {
            counters.turns.observe(took.as_secs_f64());
        }
    }

    /// Puts the counters on a page.
    pub(super) fn register(&self, registry: &mut Registry) {
        let Some(counters) = &self.0 else { return };
        let seconds = || Unit::Seconds;
        let text = "Phases of starts of jobs: queue (from acceptance), create (a sandbox, where none was warm), configure, exec";
        registry.register_with_unit("job_start", text, seconds(), counters.starts.clone());
        registry.register("jobs_ended", "Jobs that have ended, by reason", counters.ends.clone());
        let text = "Starts that found a warm sandbox (hit) or had one created (miss)";
        registry.register("warm_sandbox_requests", text, counters.sandboxes.clone());
        registry.register(
            "grpc_calls",
            "Calls that were answered, by method and code",
            counters.calls.clone(),
        );
        let text = "Turns of the event loop, without its waits";
        registry.register_with_unit("event_loop_turn", text, seconds(), counters.turns.clone());
    }
}
