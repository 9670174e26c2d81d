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
//! Some have a wire and some have none, and each has one root: the host's paths, or those of a runtime. Neither is ever changed.
//! Sandboxes of each [`Kind`] are made in the proportion of the last jobs ([`Mix`]).
//! One that has a wire has an address of the network that jobs asked for last, and gets another address for a job of
//! another network, before its payload is started.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::spawner::{CreateRequest, WarmSandbox};
use super::token::{Counter, Token};
use crate::job::{Limits, NetRate, NetworkMode, Profile, User};
use crate::sandbox::{Init, RuntimeRoot};

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
    // Those on their way.
    creating: Vec<(Kind, Counter)>,
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
    /// The root, which may not be changed either; `None`: the host's paths.
    pub(super) root: Option<Arc<RuntimeRoot>>,
    /// Whether they may write it.
    pub(super) writable: bool,
}

impl Usual {
    fn kind(&self) -> Kind {
        Kind { wired: self.network.is_wired(), root: self.root.clone(), writable: self.writable }
    }
}

/// The parts of a sandbox that cannot be changed, beside its user.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kind {
    /// Whether it has a wire.
    wired: bool,
    /// Its root; `None`: the host's paths.
    root: Option<Arc<RuntimeRoot>>,
    /// Whether its job may write that.
    writable: bool,
}

impl Kind {
    fn of(sandbox: &WarmSandbox) -> Kind {
        Kind { wired: sandbox.is_wired(), root: sandbox.root.clone(), writable: sandbox.writable }
    }
}

/// The kinds of the last jobs.
#[derive(Debug, Default)]
struct Mix {
    kinds: VecDeque<Kind>,
    // The last network with a wire.
    network: Option<NetworkMode>,
}

impl Mix {
    fn add(&mut self, usual: &Usual) {
        if self.kinds.len() == REMEMBERED {
            self.kinds.pop_front();
        }
        self.kinds.push_back(usual.kind());
        if usual.network.is_wired() {
            self.network = Some(usual.network.clone());
        }
    }

    /// The number of sandboxes of each kind among `size`: at least one of each kind that jobs had, the last ones first, if
    /// there is room.
    fn wanted(&self, size: usize) -> Vec<(Kind, usize)> {
        let mut kinds: Vec<(Kind, usize)> = Vec::new();
        for kind in self.kinds.iter().rev() {
            match kinds.iter_mut().find(|(known, _)| known == kind) {
                Some((_, count)) => *count += 1,
                None => kinds.push((kind.clone(), 1)),
            }
        }
        kinds.truncate(size);
        let all: usize = kinds.iter().map(|(_, count)| count).sum();
        let mut wanted: Vec<(Kind, usize)> =
            kinds.into_iter().map(|(kind, count)| (kind, ((size * count + all / 2) / all).max(1))).collect();
        loop {
            let sum: usize = wanted.iter().map(|(_, count)| count).sum();
            let largest = wanted.iter_mut().max_by_key(|(_, count)| *count);
            match (largest, sum.cmp(&size)) {
                (Some((_, count)), Ordering::Greater) => *count -= 1,
                (Some((_, count)), Ordering::Less) => *count += 1,
                _ => return wanted,
            }
        }
    }
}

impl Pool {
    /// An empty pool for `size` sandboxes, which the thread that reads `requests` creates.
    pub(super) fn new(size: usize, requests: Sender<(Box<CreateRequest>, Token)>) -> Self {
        Pool {
            ready: Vec::new(),
            size,
            creating: Vec::new(),
            mix: Mix::default(),
            requests,
            usual: None,
            quiet_at: None,
        }
    }

    /// Wants sandboxes for such jobs.
    pub(super) fn expect(&mut self, usual: Usual) {
        self.mix.add(&usual);
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
        let wanted = self.mix.wanted(self.size).into_iter();
        let lacks = wanted.map(|(kind, count)| (count.saturating_sub(self.count(&kind)), kind));
        // Among kinds that lack as many, the last one of the jobs.
        let most = lacks.rev().max_by_key(|(lacks, _)| *lacks).filter(|(lacks, _)| *lacks > 0);
        let Some((_, kind)) = most else {
            return Some(Usual { network: NetworkMode::None, root: None, writable: false, ..usual });
        };
        let network = self.mix.network.clone().filter(|_| kind.wired);
        if network.is_some() && self.tries_a_wire() {
            return None;
        }
        let (network, writable) = (network.unwrap_or(NetworkMode::None), kind.writable);
        Some(Usual { network, root: kind.root, writable, ..usual })
    }

    /// A sandbox of the kind of which there are too many, where the pool is full and another kind lacks two or all of
    /// its: it makes room for one of those. `can_wire`: whether one with a wire can be made.
    pub(super) fn surplus(&mut self, can_wire: bool) -> Option<WarmSandbox> {
        if self.total() < self.size || self.tries_a_wire() {
            return None;
        }
        let mut has: Vec<(Kind, usize)> = Vec::new();
        for kind in self.ready.iter().map(Kind::of) {
            if !has.iter().any(|(known, _)| *known == kind) {
                has.push((kind.clone(), self.count(&kind)));
            }
        }
        let gives = gives(&has, &self.mix.wanted(self.size), can_wire)?;
        let at = self.ready.iter().position(|sandbox| Kind::of(sandbox) == gives)?;
        Some(self.ready.swap_remove(at))
    }

    /// Sandboxes of a kind, ready or on their way.
    fn count(&self, kind: &Kind) -> usize {
        let creating = self.creating.iter().filter(|(one, _)| one == kind).map(|(_, count)| count.count());
        self.ready.iter().filter(|sandbox| Kind::of(sandbox) == *kind).count() + creating.sum::<usize>()
    }

    /// Whether the first sandbox with a wire is on its way. Others wait for it: where the host refuses wires, each would
    /// take seconds to hear it.
    fn tries_a_wire(&self) -> bool {
        let creates = self.creating.iter().any(|(kind, count)| kind.wired && count.count() > 0);
        creates && !self.ready.iter().any(WarmSandbox::is_wired)
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
        self.ready.len() + self.creating.iter().map(|(_, count)| count.count()).sum::<usize>()
    }

    /// Has a sandbox created.
    ///
    /// # Errors
    /// The thread is gone.
    pub(super) fn request(&mut self, request: Box<CreateRequest>) -> Result<(), Box<CreateRequest>> {
        let (wired, writable) = (request.network.is_wired(), request.writable);
        let kind = Kind { wired, root: request.root.clone(), writable };
        self.creating.retain(|(_, count)| count.count() > 0);
        let at = self.creating.iter().position(|(known, _)| *known == kind).unwrap_or_else(|| {
            self.creating.push((kind, Counter::default()));
            self.creating.len() - 1
        });
        let token = self.creating[at].1.token();
        self.requests.send((request, token)).map_err(|back| back.into_inner().0)
    }

    /// Whether sandboxes are on their way.
    pub(super) fn is_filling(&self) -> bool {
        self.creating.iter().any(|(_, count)| count.count() > 0)
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
        self.mix.add(&job);
        let Usual { limits, user, profile, network, root, writable } = self.usual.insert(job);
        let mut taken = Taken::default();
        loop {
            let is_such = |s: &WarmSandbox| {
                let has_root = s.root == *root && s.writable == *writable;
                s.is_for(*user, *profile, limits.pids) && has_root && s.suits(network, rate)
            };
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

    /// Takes the sandboxes of a runtime's versions out, and makes none for them before a job asks for one.
    pub(super) fn take_of_runtime(&mut self, is_meant: impl Fn(&str) -> bool) -> Vec<WarmSandbox> {
        let meant = |root: &Option<Arc<RuntimeRoot>>| root.as_ref().is_some_and(|root| is_meant(&root.name));
        self.mix.kinds.retain(|kind| !meant(&kind.root));
        if let Some(usual) = self.usual.as_mut().filter(|usual| meant(&usual.root)) {
            (usual.root, usual.writable) = (None, false);
        }
        self.ready.extract_if(.., |sandbox| meant(&sandbox.root)).collect()
    }

    /// Takes all sandboxes out.
    pub(super) fn take_all(&mut self) -> Vec<WarmSandbox> {
        std::mem::take(&mut self.ready)
    }
}

/// The kind that gives one up, where so many of each kind are there and so many are wanted.
fn gives(has: &[(Kind, usize)], wanted: &[(Kind, usize)], can_wire: bool) -> Option<Kind> {
    let count = |all: &[(Kind, usize)], kind: &Kind| {
        all.iter().find(|(known, _)| known == kind).map_or(0, |(_, count)| *count)
    };
    let lacks = |(kind, wants): &(Kind, usize)| {
        let has = count(has, kind);
        (*wants > has + 1 || has == 0) && *wants > 0 && (can_wire || !kind.wired)
    };
    if !wanted.iter().any(lacks) {
        return None;
    }
    let surplus = |(kind, has): &(Kind, usize)| has.saturating_sub(count(wanted, kind));
    has.iter().max_by_key(|one| surplus(one)).filter(|one| surplus(one) > 0).map(|(kind, _)| kind.clone())
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

    fn kind(wired: bool, runtime: &str) -> Kind {
        let root = RuntimeRoot {
            name: runtime.to_owned(),
            generation: 1,
            over_host: true,
            layers: Vec::new(),
            mounts: Vec::new(),
        };
        let root = Some(Arc::new(root)).filter(|_| !runtime.is_empty());
        Kind { wired, root, writable: false }
    }

    #[test]
    fn full_pool_comes_to_the_wanted_proportion_and_stays_there() {
        let (wire, none) = (kind(true, ""), kind(false, ""));
        for (wired, wanted, can_wire, expected) in [
            (0, 8, true, Some(&none)),
            (0, 1, true, Some(&none)),
            (0, 8, false, None),
            (3, 4, true, None),
            (4, 4, true, None),
            (5, 4, true, None),
            (6, 4, true, Some(&wire)),
            (8, 7, true, Some(&wire)),
            (7, 8, true, None),
            (8, 0, true, Some(&wire)),
        ] {
            let has = [(wire.clone(), wired), (none.clone(), 8 - wired)];
            let wants = [(wire.clone(), wanted), (none.clone(), 8 - wanted)];
            assert_eq!(gives(&has, &wants, can_wire).as_ref(), expected, "{wired} of 8, {wanted} wanted");
        }
        let (python, java) = (kind(false, "python@1.0.0"), kind(false, "java@1.0.0"));
        let has = [(none.clone(), 5), (python.clone(), 3)];
        let wants = [(none.clone(), 4), (python, 3), (java, 1)];
        assert_eq!(gives(&has, &wants, true), Some(none));
    }

    #[test]
    fn sandboxes_are_made_in_the_proportion_of_jobs() {
        let mix = |kinds: &[(Kind, usize)]| {
            let kinds = kinds.iter().flat_map(|(kind, count)| std::iter::repeat_n(kind.clone(), *count));
            Mix { kinds: kinds.collect(), network: None }
        };
        let (wire, none, java) = (kind(true, ""), kind(false, ""), kind(false, "java@1.0.0"));
        for (unwired, wired, size, expected) in [
            (5, 0, 8, 0),
            (0, 5, 8, 8),
            (1, 1, 8, 4),
            (63, 1, 8, 1),
            (1, 63, 8, 7),
            (1, 3, 8, 6),
            (5, 1, 1, 1),
            (4, 4, 0, 0),
        ] {
            let wanted = mix(&[(none.clone(), unwired), (wire.clone(), wired)]).wanted(size);
            let found = wanted.iter().find(|(kind, _)| *kind == wire).map_or(0, |(_, count)| *count);
            assert_eq!(found, expected, "{wired} with, {unwired} without, of {size}");
            assert_eq!(wanted.iter().map(|(_, count)| count).sum::<usize>(), size);
        }
        assert!(Mix::default().wanted(8).is_empty());
        let three = mix(&[(none.clone(), 60), (wire.clone(), 2), (java.clone(), 2)]);
        assert_eq!(three.wanted(8), [(java.clone(), 1), (wire, 1), (none, 6)]);
        assert_eq!(three.wanted(1), [(java, 1)], "the kind of the last job");
    }
}
