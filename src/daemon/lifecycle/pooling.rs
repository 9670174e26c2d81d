//! Keeping the pool of warm sandboxes filled, and giving up what is in it.

use std::time::Instant;

use log::Level;

use crate::daemon::core::Core;
use crate::daemon::provision::{Identity, Resources};
use crate::daemon::spawner::{CreateError, CreateRequest, WarmSandbox};
use crate::daemon::timers::Timer;
use crate::daemon::token::Token;
use crate::diag;
use crate::job::{JobId, Limits, NetworkMode};
use crate::output::Watermark;

/// Fills the pool with sandboxes for jobs with these limits, until jobs ask for others.
pub(in crate::daemon) fn expect_jobs(core: &mut Core, usual: Limits) {
    core.pool.expect(usual);
    refill(core);
}

/// A job starts or ends: the pool is refilled when it is quiet, or now if few sandboxes are left.
pub(super) fn refill_later(core: &mut Core) {
    if core.pool.is_low() {
        refill(core);
    } else if let Some(at) = core.pool.wait_for_quiet(Instant::now()) {
        core.clock.timers.set(at, Timer::Quiet);
    }
}

/// The timer's look: refills the pool if it is quiet now.
pub(in crate::daemon) fn refill_if_quiet(core: &mut Core) {
    match core.pool.quiet_at(Instant::now()) {
        Some(at) => core.clock.timers.set(at, Timer::Quiet),
        None => refill(core),
    }
}

/// Has sandboxes created until enough are ready or on their way.
fn refill(core: &mut Core) {
    while !core.shutdown.begun
        && let Some(limits) = core.pool.lacking()
        && let Some(lease) = core.supply.identities.take()
    {
        let id = JobId::random();
        let request = Box::new(CreateRequest {
            id,
            limits,
            network: core.supply.networks.source(NetworkMode::None),
            held: Resources::with_identity(Identity::new(lease)),
            output: Watermark::new(),
        });
        if let Err(back) = core.pool.request(request) {
            back.held.release(&mut core.supply, &mut core.cleanup);
            diag::limited!(Level::Error, "the thread that creates warm sandboxes is gone");
            return;
        }
        super::starting::watch_starts(core);
    }
}

/// A warm sandbox for a job with these limits and its own network; `None` where none is ready.
pub(in crate::daemon) fn take_warm(core: &mut Core, limits: &Limits) -> Option<WarmSandbox> {
    let (taken, dead) = core.pool.take(limits);
    for sandbox in dead {
        diag::limited!(Level::Warn, "a joblet-init was killed before it had a job", pid = sandbox.init.pid);
        discard(core, sandbox);
    }
    taken
}

/// A warm sandbox is ready. One that could not be created is not tried again before the next job: that one's own start
/// tells its client why.
pub(in crate::daemon) fn on_created(
    core: &mut Core,
    created: Result<Box<WarmSandbox>, Box<CreateError>>,
    _under_way: Token,
) {
    match created {
        Ok(sandbox) if core.shutdown.begun => discard(core, *sandbox),
        Ok(sandbox) => core.pool.add(*sandbox),
        Err(error) => {
            let CreateError { id, held, why } = *error;
            diag::limited!(Level::Warn, "cannot create a warm sandbox for a next job", error = why.why);
            give_up(core, id, held);
        }
    }
}

/// Gives all warm sandboxes up: the daemon ends.
pub(super) fn discard_all(core: &mut Core) {
    for sandbox in core.pool.take_all() {
        discard(core, sandbox);
    }
}

/// Gives a warm sandbox up.
pub(super) fn discard(core: &mut Core, sandbox: WarmSandbox) {
    let WarmSandbox { id, held, init, .. } = sandbox;
    core.cleanup.kill_and_reap(init.pidfd);
    give_up(core, id, held);
}

/// No job runs under this id: its spool goes too.
fn give_up(core: &mut Core, id: JobId, held: Resources) {
    core.cleanup.remove_directory(core.node.spool.join(id.to_string()));
    held.release(&mut core.supply, &mut core.cleanup);
}
