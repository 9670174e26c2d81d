//! Warm sandboxes: everything that a job needs to be started, created before there is the job.
//!
//! Creating a sandbox takes most of a start's time and needs nothing of the job but its id, and ids are ours to choose.
//! So the loop keeps a few ready (`joblet.warmSandboxes`), each with an id, a cgroup, a spool, an exit file, a leased
//! host id and a joblet-init that waits behind its walls. A job takes one, its id with it, and a new one is created
//! when the job runs. A sandbox is used once and has the very walls that a job gets for which none was ready: they come
//! from the same call, which then runs first.
//!
//! Creating one keeps a processor busy for about a millisecond, mostly in the kernel, where nothing preempts it. So
//! they are created when no job starts or ends ([`QUIET`]), and earlier only when few are left.
//!
//! Sandboxes are created with the limits of the last job and for its user and profile: the next one most likely asks for the
//! same. Where it does not, the limits are changed before its payload is started. The user and the profile cannot be changed,
//! because PID 1 is in their user namespace already; a job that finds sandboxes of another user or profile only has one of
//! them given up, so that the pool comes to hold all kinds in the proportion in which jobs ask for them. The namespace of the
//! profile `container` bounds the processes of all its ids together, so that limit cannot be changed either.
//!
//! Some have a wire and some have none, in the proportion of the last jobs ([`Mix`]): a wire is never taken from a sandbox.
//! One that has a wire has an address of the network that jobs asked for last, and gets another address for a job of
//! another network, before its payload is started.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::spawner::{CreateRequest, WarmSandbox};
use super::token::{Counter, Token};
use crate::job::{Limits, NetRate, NetworkMode, Profile, User};
use crate::sandbox::Init;

/// How long nothing starts or ends before sandboxes are created.
const QUIET: Duration = Duration::from_millis(5);

/// Jobs whose networks say what sandboxes are made.
const REMEMBERED: usize = 64;

/// The pool of warm sandboxes.
#[derive(Debug)]
pub(super) struct Pool {
    ready: Vec<WarmSandbox>,
    // How many are wanted.
    size: usize,
    // Those on their way: without a wire, and with one.
    creating: [Counter; 2],
    mix: Mix,
    requests: Sender<(Box<CreateRequest>, Token)>,
    // For which jobs, until others come.
    usual: Option<Usual>,
    // When nothing has started or ended for long enough; a timer looks as long as it is set.
    quiet_at: Option<Instant>,
}

/// The jobs that sandboxes are made for: those that are like the last one.
#[derive(Debug, Clone)]
pub(super) struct Usual {
    /// Limits, which may be changed for another job.
    pub(super) limits: Limits,
    /// The user, which may not.
    pub(super) user: User,
    /// The profile, which may not either.
    pub(super) profile: Profile,
    /// The network. Not the host's: no sandbox is made ahead there.
    pub(super) network: NetworkMode,
}

/// The part of the last jobs that had a wire.
#[derive(Debug, Default)]
struct Mix {
    wired: VecDeque<bool>,
    // The last network with a wire.
    network: Option<NetworkMode>,
}

impl Mix {
    fn add(&mut self, network: &NetworkMode) {
        if self.wired.len() == REMEMBERED {
            self.wired.pop_front();
        }
        self.wired.push_back(network.is_wired());
        if network.is_wired() {
            self.network = Some(network.clone());
        }
    }

    /// The number of sandboxes with a wire among `size`: at least one of each kind that jobs had, if there is room.
    fn wired_of(&self, size: usize) -> usize {
        let wired = self.wired.iter().filter(|wired| **wired).count();
        match (wired, self.wired.len() - wired) {
            (0, _) => 0,
            (_, 0) => size,
            _ if size < 2 => usize::from(self.wired.back() == Some(&true)).min(size),
            _ => ((size * wired + self.wired.len() / 2) / self.wired.len()).clamp(1, size - 1),
        }
    }
}

impl Pool {
    /// An empty pool for `size` sandboxes, which the thread that reads `requests` creates.
    pub(super) fn new(size: usize, requests: Sender<(Box<CreateRequest>, Token)>) -> Self {
        Pool {
            ready: Vec::new(),
            size,
            creating: Default::default(),
            mix: Mix::default(),
            requests,
            usual: None,
            quiet_at: None,
        }
    }

    /// Wants sandboxes for such jobs.
    pub(super) fn expect(&mut self, usual: Usual) {
        self.mix.add(&usual.network);
        self.usual = Some(usual);
    }

    /// The network with a wire that jobs had last.
    pub(super) fn network(&self) -> Option<NetworkMode> {
        self.mix.network.clone()
    }

    /// Sandboxes that are ready.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Sandboxes that are wanted.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The kind of a sandbox to create; `None` where enough are ready or on their way.
    pub(super) fn lacking(&self) -> Option<Usual> {
        let usual = self.usual.clone().filter(|_| self.total() < self.size)?;
        let network = self.mix.network.clone().filter(|_| self.wired() < self.mix.wired_of(self.size));
        if network.is_some() && self.tries_a_wire() {
            return None;
        }
        Some(Usual { network: network.unwrap_or(NetworkMode::None), ..usual })
    }

    /// A sandbox of the kind of which there are too many, where the pool is full and the other kind lacks two or all of
    /// its: it makes room for one of those. `can_wire`: whether one with a wire can be made.
    pub(super) fn surplus(&mut self, can_wire: bool) -> Option<WarmSandbox> {
        if self.total() < self.size || self.tries_a_wire() {
            return None;
        }
        let gives = gives(self.wired(), self.total(), self.mix.wired_of(self.size), can_wire)?;
        let at = self.ready.iter().position(|sandbox| sandbox.is_wired() == (gives == Gives::Wired))?;
        Some(self.ready.swap_remove(at))
    }

    fn wired(&self) -> usize {
        self.ready.iter().filter(|sandbox| sandbox.is_wired()).count() + self.creating[1].count()
    }

    /// Whether the first sandbox with a wire is on its way. Others wait for it: where the host refuses wires, each would
    /// take seconds to hear it.
    fn tries_a_wire(&self) -> bool {
        self.creating[1].count() > 0 && !self.ready.iter().any(WarmSandbox::is_wired)
    }

    /// No wire can be made: none is tried ahead before a job asks for one.
    pub(super) fn forget_wires(&mut self) {
        self.mix = Mix::default();
    }

    /// Whether so few are left that the next ones are created at once.
    pub(super) fn is_low(&self) -> bool {
        self.total() <= self.size / 4
    }

    fn total(&self) -> usize {
        self.ready.len() + self.creating.iter().map(Counter::count).sum::<usize>()
    }

    /// Has a sandbox created.
    ///
    /// # Errors
    /// The thread is gone.
    pub(super) fn request(&self, request: Box<CreateRequest>) -> Result<(), Box<CreateRequest>> {
        let creating = &self.creating[usize::from(request.network.is_wired())];
        self.requests.send((request, creating.token())).map_err(|back| back.into_inner().0)
    }

    /// Whether sandboxes are on their way.
    pub(super) fn is_filling(&self) -> bool {
        self.creating.iter().any(|creating| creating.count() > 0)
    }

    /// Waits until nothing starts or ends; when to look, unless a timer looks already.
    pub(super) fn wait_for_quiet(&mut self, now: Instant) -> Option<Instant> {
        let at = now + QUIET;
        self.quiet_at.replace(at).is_none().then_some(at)
    }

    /// When to look again; `None` where it is quiet now.
    pub(super) fn quiet_at(&mut self, now: Instant) -> Option<Instant> {
        self.quiet_at = self.quiet_at.filter(|at| *at > now);
        self.quiet_at
    }

    /// Takes in a sandbox that is ready.
    pub(super) fn add(&mut self, sandbox: WarmSandbox) {
        self.ready.push(sandbox);
    }

    /// A sandbox for such a job of this rate, if one is ready. It may have an address of another network, and another rate.
    pub(super) fn take(&mut self, job: Usual, rate: NetRate) -> Taken {
        self.mix.add(&job.network);
        let Usual { limits, user, profile, network } = self.usual.insert(job);
        let mut taken = Taken::default();
        loop {
            let is_such = |s: &WarmSandbox| s.is_for(*user, *profile, limits.pids) && s.suits(network, rate);
            let is_there = |s: &WarmSandbox| s.network().as_ref() == Some(&*network);
            let find =
                |is: &dyn Fn(&WarmSandbox) -> bool| self.ready.iter().position(|s| is_such(s) && is(s));
            let at = find(&|s| is_there(s) && s.limits == *limits)
                .or_else(|| find(&|s| is_there(s) && limits.covers(&s.limits)))
                .or_else(|| find(&|s| s.limits == *limits))
                .or_else(|| find(&|s| limits.covers(&s.limits)));
            let Some(at) = at else {
                let other = self.ready.iter().position(|sandbox| !is_such(sandbox));
                taken.unfit = other.map(|at| self.ready.swap_remove(at));
                return taken;
            };
            let sandbox = self.ready.swap_remove(at);
            if waits(&sandbox.init) {
                taken.sandbox = Some(sandbox);
                return taken;
            }
            taken.dead.push(sandbox);
        }
    }

    /// Takes the sandboxes of a network out.
    pub(super) fn take_of_network(&mut self, name: &str) -> Vec<WarmSandbox> {
        let of_it = |sandbox: &mut WarmSandbox| sandbox.network().is_some_and(|mode| mode.as_str() == name);
        self.ready.extract_if(.., of_it).collect()
    }

    /// Takes all sandboxes out.
    pub(super) fn take_all(&mut self) -> Vec<WarmSandbox> {
        std::mem::take(&mut self.ready)
    }
}

/// The kind of sandbox that a full pool has too many of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gives {
    Wired,
    Unwired,
}

/// The kind that gives one up, of so many with a wire among all, where so many are wanted with one.
fn gives(wired: usize, all: usize, wanted: usize, can_wire: bool) -> Option<Gives> {
    let (unwired, wanted_unwired) = (all.saturating_sub(wired), all.saturating_sub(wanted));
    let lacks = |has: usize, wants: usize| wants > has + 1 || (has == 0 && wants > 0);
    if lacks(wired, wanted) && can_wire {
        Some(Gives::Unwired)
    } else if lacks(unwired, wanted_unwired) {
        Some(Gives::Wired)
    } else {
        None
    }
}

/// The sandboxes that leave the pool when a job looks for one.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// The one for the job.
    pub(super) sandbox: Option<WarmSandbox>,
    /// Those found with a dead PID 1.
    pub(super) dead: Vec<WarmSandbox>,
    /// One of another user or profile, or with a wire where there should be none or without it, where the job found none of its own: it makes room for one of those.
    pub(super) unfit: Option<WarmSandbox>,
}

/// Whether a joblet-init is alive; a dead one is not reaped by asking.
fn waits(init: &Init) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::PidFd(init.pidfd.as_fd()), look), Ok(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_pool_comes_to_the_wanted_proportion_and_stays_there() {
        for (wired, wanted, can_wire, expected) in [
            (0, 8, true, Some(Gives::Unwired)),
            (0, 1, true, Some(Gives::Unwired)),
            (0, 8, false, None),
            (3, 4, true, None),
            (4, 4, true, None),
            (5, 4, true, None),
            (6, 4, true, Some(Gives::Wired)),
            (8, 7, true, Some(Gives::Wired)),
            (7, 8, true, None),
            (8, 0, true, Some(Gives::Wired)),
        ] {
            assert_eq!(gives(wired, 8, wanted, can_wire), expected, "{wired} of 8, {wanted} wanted");
        }
    }

    #[test]
    fn sandboxes_are_wired_in_the_proportion_of_jobs() {
        let mix = |wired: usize, unwired: usize| {
            let mut mix = Mix::default();
            (0..unwired).for_each(|_| mix.add(&NetworkMode::None));
            (0..wired).for_each(|_| mix.add(&NetworkMode::Bridge));
            mix
        };
        for (wired, unwired, size, expected) in [
            (0, 0, 8, 0),
            (0, 5, 8, 0),
            (5, 0, 8, 8),
            (1, 1, 8, 4),
            (1, 63, 8, 1),
            (63, 1, 8, 7),
            (3, 1, 8, 6),
            (1, 5, 1, 1),
            (200, 3, 8, 8),
            (4, 4, 0, 0),
        ] {
            assert_eq!(
                mix(wired, unwired).wired_of(size),
                expected,
                "{wired} with, {unwired} without, of {size}"
            );
        }
        let mut last = mix(3, 0);
        last.add(&NetworkMode::None);
        assert_eq!((last.wired_of(1), last.network), (0, Some(NetworkMode::Bridge)));
    }
}
