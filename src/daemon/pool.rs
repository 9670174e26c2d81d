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
//! Sandboxes are created with the limits of the last job: the next one most likely asks for the same. Where it does
//! not, the limits are changed before its payload is started.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::spawner::{CreateRequest, WarmSandbox};
use super::token::{Counter, Token};
use crate::job::Limits;
use crate::sandbox::Init;

/// How long nothing starts or ends before sandboxes are created.
const QUIET: Duration = Duration::from_millis(5);

/// The pool of warm sandboxes.
#[derive(Debug)]
pub(super) struct Pool {
    ready: Vec<WarmSandbox>,
    // How many are wanted.
    size: usize,
    creating: Counter,
    requests: Sender<(Box<CreateRequest>, Token)>,
    usual: Option<Limits>,
    // When nothing has started or ended for long enough; a timer looks as long as it is set.
    quiet_at: Option<Instant>,
}

impl Pool {
    /// An empty pool for `size` sandboxes, which the thread that reads `requests` creates.
    pub(super) fn new(size: usize, requests: Sender<(Box<CreateRequest>, Token)>) -> Self {
        Pool { ready: Vec::new(), size, creating: Counter::default(), requests, usual: None, quiet_at: None }
    }

    /// Wants sandboxes for jobs with these limits.
    pub(super) fn expect(&mut self, usual: Limits) {
        self.usual = Some(usual);
    }

    /// The limits of a sandbox to create; `None` where enough are ready or on their way.
    pub(super) fn lacking(&self) -> Option<Limits> {
        self.usual.clone().filter(|_| self.total() < self.size)
    }

    /// Whether so few are left that the next ones are created at once.
    pub(super) fn is_low(&self) -> bool {
        self.total() <= self.size / 4
    }

    fn total(&self) -> usize {
        self.ready.len() + self.creating.count()
    }

    /// Has a sandbox created.
    ///
    /// # Errors
    /// The thread is gone.
    pub(super) fn request(&self, request: Box<CreateRequest>) -> Result<(), Box<CreateRequest>> {
        self.requests.send((request, self.creating.token())).map_err(|back| back.into_inner().0)
    }

    /// Whether sandboxes are on their way.
    pub(super) fn is_filling(&self) -> bool {
        self.creating.count() > 0
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

    /// A sandbox for a job with these limits, if one is ready; and those found with a dead PID 1.
    pub(super) fn take(&mut self, limits: &Limits) -> (Option<WarmSandbox>, Vec<WarmSandbox>) {
        self.usual = Some(limits.clone());
        let mut dead = Vec::new();
        loop {
            let same = self.ready.iter().position(|sandbox| sandbox.limits == *limits);
            let fits = || self.ready.iter().position(|sandbox| limits.covers(&sandbox.limits));
            let Some(at) = same.or_else(fits) else { return (None, dead) };
            let sandbox = self.ready.swap_remove(at);
            if waits(&sandbox.init) {
                return (Some(sandbox), dead);
            }
            dead.push(sandbox);
        }
    }

    /// Takes all sandboxes out.
    pub(super) fn take_all(&mut self) -> Vec<WarmSandbox> {
        std::mem::take(&mut self.ready)
    }
}

/// Whether a joblet-init is alive; a dead one is not reaped by asking.
fn waits(init: &Init) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::PidFd(init.pidfd.as_fd()), look), Ok(None))
}
