//! The daemon's own end.

use std::time::{Duration, Instant};

use log::Level;

use super::pooling::discard_all;
use super::running::kill;
use super::standing::leave_queues;
use crate::daemon::core::Core;
use crate::daemon::timers::Timer;
use crate::diag;
use crate::job::JobId;
use crate::job::exit::StopCause;
use crate::job::state::{Fact, State};

/// Begins the end: nothing more is accepted, and jobs that do not outlive the daemon are stopped.
pub(in crate::daemon) fn begin(core: &mut Core) {
    if core.shutdown.has_begun() {
        return;
    }
    diag::event!(Level::Info, "shutting down", jobs = core.jobs.live());
    core.shutdown.begin();
    discard_all(core);
    let bound = core.settings.stop_grace + core.settings.cleanup_timeout + Duration::from_secs(5);
    core.clock.set(Instant::now() + bound, Timer::ShutdownOver);
    // Jobs that wait are started by the next daemon; without a database they are stopped here. Nor does a job start with
    // a slot that it was given in this turn.
    core.jobs.retain_facts(|fact| *fact != Fact::SlotGranted);
    let remembered = core.ledger.is_on_disk();
    let goes = |state: &State| match state {
        State::Finished(_) | State::Recording(_) => false,
        State::Scheduled | State::Queued => !remembered,
        _ => !core.settings.keep_jobs,
    };
    let going: Vec<JobId> = core.jobs.iter_live().filter(|job| goes(&job.state)).map(|job| job.id).collect();
    for id in going {
        leave_queues(core, id);
        core.jobs.note(id, Fact::Stop(StopCause::Shutdown));
    }
}

/// Whether nothing is under way that must come to its end before ours. Jobs that run go on without us, if they are kept.
pub(in crate::daemon) fn is_idle(core: &Core) -> bool {
    let unfinished = |state: &State| match state {
        State::Finished(_) => false,
        State::Scheduled | State::Queued => !core.ledger.is_on_disk(),
        State::Running => !core.settings.keep_jobs,
        _ => true,
    };
    let under_way = core.starts.are_under_way()
        || core.pool.is_filling()
        || core.ledger.pending() > 0
        || core.staging.pending() > 0
        || core.streams.outputs().pending() > 0
        || core.cleanup.pending() > 0
        || core.supply.under_way() > 0
        || core.jobs.has_facts()
        || core.sweep.is_busy()
        // Its thread would keep our process from its end. The watchdog ends the job.
        || core.streams.collector().is_held();
    !under_way && !core.jobs.iter_live().any(|job| unfinished(&job.state))
}

/// Ends the collector's threads, and the jobs that keep one from its end by a pipe: our process could not end before.
/// The next daemon finds them dead.
pub(in crate::daemon) fn end_holders(core: &mut Core) {
    for id in core.streams.collector().stop() {
        diag::event!(
            Level::Warn,
            "a job keeps the lock of its output pipe at our end, killing it",
            jobId = id
        );
        kill(core, id);
    }
}
