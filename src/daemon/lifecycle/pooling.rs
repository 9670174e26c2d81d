//! Keeping the pool of warm sandboxes filled, and giving up what is in it.

use std::time::Instant;

use log::Level;

use crate::daemon::core::Core;
use crate::daemon::pool::{Taken, Usual};
use crate::daemon::provision::Resources;
use crate::daemon::spawner::{CreateError, CreateRequest, WarmSandbox};
use crate::daemon::timers::Timer;
use crate::daemon::token::Token;
use crate::diag;
use crate::job::{JobId, JobSpec, NetworkMode, RuntimeId, RuntimeName};
use crate::output::Watermark;

/// Fills the pool with sandboxes for such jobs, until jobs ask for others.
pub(in crate::daemon) fn expect_jobs(core: &mut Core, usual: Usual) {
    core.pool.expect(usual);
    refill(core);
}

/// A job starts or ends: the pool is refilled when it is quiet, or now if few sandboxes are left.
pub(super) fn refill_later(core: &mut Core) {
    if core.pool.is_low() {
        refill(core);
    } else if let Some(at) = core.pool.wait_for_quiet(Instant::now()) {
        core.clock.set(at, Timer::Quiet);
    }
}

/// The timer's look: refills the pool if it is quiet now.
pub(in crate::daemon) fn refill_if_quiet(core: &mut Core) {
    match core.pool.quiet_at(Instant::now()) {
        Some(at) => core.clock.set(at, Timer::Quiet),
        None => {
            refill(core);
            rebalance(core);
        }
    }
}

/// Exchanges sandboxes until as many have a wire as the last jobs want.
fn rebalance(core: &mut Core) {
    let size = core.pool.size();
    for _ in 0..size {
        let can_wire = core.pool.network().is_some_and(|network| warm_network(core, &network).is_some());
        if core.shutdown.has_begun() {
            return;
        }
        let Some(sandbox) = core.pool.surplus(can_wire) else { return };
        discard(core, sandbox);
        refill(core);
    }
}

/// The network of the next warm sandbox with a wire, where jobs had this one.
fn warm_network(core: &Core, usual: &NetworkMode) -> Option<NetworkMode> {
    core.supply.warm_network(usual, core.pool.size(), core.slots.free())
}

/// Has sandboxes created until enough are ready or on their way.
fn refill(core: &mut Core) {
    while !core.shutdown.has_begun()
        && let Some(Usual { limits, user, profile, network, root, writable }) = core.pool.lacking()
        && let Some(identity) = core.supply.identity(user, profile)
    {
        let network = match network.is_wired() {
            true => warm_network(core, &network).unwrap_or(NetworkMode::None),
            false => network,
        };
        // Without an address the job itself will hear why.
        let Ok(network) = core.supply.network(&network) else {
            core.supply.forgo(identity);
            return;
        };
        // Put on before the wire is up, it costs a start nothing.
        let network = network.with_rate(core.node.kept_rate(core.node.rate));
        let id = JobId::random();
        let request = Box::new(CreateRequest {
            id,
            limits,
            held: Resources::reserved(identity, network.held()),
            network,
            root,
            writable,
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

/// A warm sandbox for a job like this one; `None` where none is ready.
pub(in crate::daemon) fn take_warm(core: &mut Core, spec: &JobSpec) -> Option<WarmSandbox> {
    let (user, profile, network) = (spec.user, spec.profile, spec.network.clone());
    // The pool has no sandbox in the host's network and none for a build, and makes none for the next such job either.
    if network == NetworkMode::Host || spec.build.is_some() {
        return None;
    }
    let rate = core.node.kept_rate(spec.rate);
    let root = core.root_of(spec);
    let (limits, writable) = (spec.limits.clone(), spec.writable);
    let usual = Usual { limits, user, profile, network, root, writable };
    let Taken { sandbox, dead, unfit } = core.pool.take(usual, rate);
    if let Some(sandbox) = unfit {
        discard(core, sandbox);
    }
    for sandbox in dead {
        diag::limited!(Level::Warn, "a joblet-init was killed before it had a job", pid = sandbox.init.pid);
        discard(core, sandbox);
    }
    renew(core, sandbox?, &spec.network)
}

/// The same sandbox with an address of this network; `None` where none is free: the job's own start tells its client.
fn renew(core: &mut Core, mut sandbox: WarmSandbox, network: &NetworkMode) -> Option<WarmSandbox> {
    let is_there = sandbox.network().as_ref() == Some(network);
    let held = sandbox.held.network.as_mut().filter(|_| !is_there);
    if held.is_some_and(|held| core.supply.renew(held, network).is_err()) {
        core.pool.add(sandbox);
        return None;
    }
    Some(sandbox)
}

/// A warm sandbox is ready. One that could not be created is not tried again before the next job: that one's own start
/// tells its client why.
pub(in crate::daemon) fn on_created(
    core: &mut Core,
    created: Result<Box<WarmSandbox>, Box<CreateError>>,
    _under_way: Token,
) {
    match created {
        Ok(sandbox) if core.shutdown.has_begun() => discard(core, *sandbox),
        Ok(sandbox) if is_orphan(core, &sandbox) => {
            discard(core, *sandbox);
            refill_later(core);
        }
        Ok(sandbox) => {
            core.pool.add(*sandbox);
            // Others may have waited for this one.
            refill_later(core);
        }
        Err(error) => {
            let CreateError { id, held, why } = *error;
            diag::limited!(Level::Warn, "cannot create a warm sandbox for a next job", error = why.why);
            if held.network.is_some() {
                core.pool.forget_wires();
            }
            give_up(core, id, held);
        }
    }
}

/// Whether the network or the runtime of a warm sandbox was removed while it was being created.
fn is_orphan(core: &Core, sandbox: &WarmSandbox) -> bool {
    !sandbox.network().is_some_and(|mode| core.supply.networks().takes_jobs(&mode))
        || sandbox.root.as_ref().is_some_and(|root| !core.supply.runtimes().has(root))
}

/// Gives the warm sandboxes up whose network is being removed; others take their place.
pub(in crate::daemon) fn discard_of_network(core: &mut Core, name: &str) {
    if name.parse().is_ok_and(|mode| core.supply.networks().takes_jobs(&mode)) {
        return;
    }
    let given_up = core.pool.take_of_network(name);
    if given_up.is_empty() {
        return;
    }
    for sandbox in given_up {
        discard(core, sandbox);
    }
    refill_later(core);
}

/// Gives the warm sandboxes up that have the root of this runtime.
pub(in crate::daemon) fn discard_of_runtime(core: &mut Core, name: &RuntimeName) {
    let is_meant = |root: &str| root.parse::<RuntimeId>().is_ok_and(|id| id.name == *name);
    let given_up = core.pool.take_of_runtime(is_meant);
    if given_up.is_empty() {
        return;
    }
    for sandbox in given_up {
        discard(core, sandbox);
    }
    refill_later(core);
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
