//! One thread collects output, and another one goes on in its place when a call on a pipe is late.
//!
//! Every call on a pipe waits for the pipe's lock. A process that writes to the pipe may sleep with that lock: in the page
//! fault of a buffer that lies in a file on a slow disk, or while its processor limit stops it. No call takes the lock
//! without waiting for it, so a job can make a call on its pipe as long as it likes.
//!
//! Therefore the thread that collects leaves its state here while it is in such a call. A second thread, the standby,
//! takes the state when the call is older than [`LATE`], starts the next standby and goes on with all other pipes. The
//! late thread ends when its call has returned, and sends what it holds back to the thread that collects then.
//!
//! The standby is the watchdog too: it reports the job of a call that has waited for the lock for [`TOO_LATE`], to be
//! ended. Other things make calls late as well, and no job is to blame for them: a disk that does not answer, a loaded
//! machine that gives the thread no processor, a machine that stood still. So the standby looks at each late thread
//! again and again, and counts the time between two looks at which the thread slept for the lock ([`Waits::ForLock`]).
//!
//! Where the kernel does not say that a thread sleeps for the lock, it may sleep for the disk. So the call first takes the
//! lock alone ([`Progress::has_lock`]); one that sleeps behind that point waits for its job only where another call, begun
//! later, has stored bytes, because then the disk works.
//!
//! Bounds: at most [`THREADS`] threads. With the last of them in a late call, output waits until the watchdog has ended a
//! job. An idle standby sleeps without a timeout.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::job::JobId;

/// The age at which a call on a pipe loses the state. Others' output waits no longer than this.
pub(super) const LATE: Duration = Duration::from_millis(50);
/// The time that a call waits for the lock before its job is reported.
pub(super) const TOO_LATE: Duration = Duration::from_secs(2);
/// Most threads: one that collects, one standby, and those in late calls.
pub(super) const THREADS: usize = 64;

/// The calls of one thread: how far the one under way has come.
#[derive(Debug)]
pub(super) struct Progress {
    thread: i32,
    has_lock: AtomicBool,
}

impl Progress {
    /// The calls of the calling thread.
    pub(super) fn of_this_thread() -> Arc<Self> {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        Arc::new(Progress { thread, has_lock: AtomicBool::new(false) })
    }

    /// Notes whether the call has taken the pipe's lock once.
    pub(super) fn set_has_lock(&self, has: bool) {
        self.has_lock.store(has, Ordering::Relaxed);
    }

    fn has_lock(&self) -> bool {
        self.has_lock.load(Ordering::Relaxed)
    }
}

/// The thing that a thread in a call on a pipe waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// It sleeps until somebody gives the pipe's lock back.
    ForLock,
    /// It sleeps, for the lock or for the disk.
    Somewhere,
    /// It runs, or waits for a processor.
    ForOthers,
}

/// A call on a pipe.
#[derive(Debug)]
struct Call {
    number: u64,
    job: JobId,
    since: Instant,
    progress: Arc<Progress>,
    /// When the watchdog looked at its thread last, and whether its job kept it then.
    looked: (Instant, bool),
    /// The time for which its job has kept it, as far as the watchdog saw.
    held: Duration,
    reported: bool,
}

impl Call {
    /// Counts the time since the last look, if the job kept the call then and keeps it now. A look that comes late
    /// counts for little: the machine may have stood still.
    fn count(&mut self, now: Instant, kept: bool, most: Duration) {
        let (looked, was_kept) = std::mem::replace(&mut self.looked, (now, kept));
        if was_kept && kept {
            self.held += now.saturating_duration_since(looked).min(most);
        }
    }
}

/// The state between threads. `S` is the state of the thread that collects.
pub(super) struct Handoff<S> {
    /// [`LATE`] and [`TOO_LATE`].
    late: Duration,
    too_late: Duration,
    /// Looks at a thread in a call.
    look: fn(i32) -> Waits,
    shared: Mutex<Shared<S>>,
    /// Signalled when the standby has something to look at, and when a thread ends.
    changed: Condvar,
}

struct Shared<S> {
    /// The call of the thread that collects, and the state that it left here.
    current: Option<(Call, S)>,
    /// Calls that have lost the state.
    late: Vec<Call>,
    /// The number of calls so far.
    calls: u64,
    /// The latest begin of a call that has stored bytes.
    stored: Option<Instant>,
    /// Whether the standby sleeps until it is woken.
    sleeps: bool,
    stopped: bool,
}

impl<S> Handoff<S> {
    /// No call yet. Calls lose the state at the age of `late`, and are reported when their jobs have kept them for
    /// `too_late`. `look` says what the thread with this id waits for.
    pub(super) fn new(late: Duration, too_late: Duration, look: fn(i32) -> Waits) -> Self {
        let shared =
            Shared { current: None, late: Vec::new(), calls: 0, stored: None, sleeps: false, stopped: false };
        Handoff { late, too_late, look, shared: Mutex::new(shared), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Shared<S>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call on a pipe of this job. `work` also returns whether it has stored bytes. The state is gone (`None`)
    /// where the standby has taken it meanwhile; the calling thread must end then.
    pub(super) fn call<T>(
        &self,
        state: S,
        job: JobId,
        progress: &Arc<Progress>,
        work: impl FnOnce(&Progress) -> (T, bool),
    ) -> (Option<S>, T) {
        let since = Instant::now();
        progress.set_has_lock(false);
        let mut shared = self.lock();
        shared.calls += 1;
        let number = shared.calls;
        let call = Call {
            number,
            job,
            since,
            progress: progress.clone(),
            looked: (since, true),
            held: Duration::ZERO,
            reported: false,
        };
        shared.current = Some((call, state));
        let wakes = std::mem::replace(&mut shared.sleeps, false);
        drop(shared);
        if wakes {
            self.changed.notify_all();
        }
        let (result, stored) = work(progress);
        let mut shared = self.lock();
        if stored {
            shared.stored = shared.stored.max(Some(since));
        }
        if let Some((_, state)) = shared.current.take_if(|(call, _)| call.number == number) {
            return (Some(state), result);
        }
        shared.late.retain(|call| call.number != number);
        drop(shared);
        self.changed.notify_all();
        (None, result)
    }

    /// Waits as the standby until a call is late, and returns the state; `None` when collecting has stopped. `replace`
    /// starts the next standby, if that is possible. `report` gets jobs that must be ended.
    pub(super) fn stand_by(
        &self,
        mut replace: impl FnMut() -> bool,
        report: impl Fn(JobId),
    ) -> Option<(JobId, S)> {
        let mut shared = self.lock();
        loop {
            if shared.stopped {
                return None;
            }
            let late = shared.late_calls(Instant::now(), self.late);
            if !late.is_empty() {
                // Not with the lock: calls begin and end meanwhile.
                drop(shared);
                let seen: Vec<(u64, Waits)> =
                    late.into_iter().map(|(number, thread)| (number, (self.look)(thread))).collect();
                shared = self.lock();
                let overdue = shared.count(Instant::now(), &seen, self.late, self.too_late);
                if !overdue.is_empty() {
                    // The report may wait for the loop, which looks in here.
                    drop(shared);
                    overdue.into_iter().for_each(&report);
                    shared = self.lock();
                    continue;
                }
            }
            let now = Instant::now();
            if shared.is_current_late(now, self.late)
                && replace()
                && let Some((call, state)) = shared.current.take()
            {
                let job = call.job;
                shared.late.push(call);
                return Some((job, state));
            }
            let seen = shared.calls;
            shared = self.changed.wait_timeout(shared, self.late).unwrap_or_else(PoisonError::into_inner).0;
            if shared.calls == seen && shared.current.is_none() && shared.late.is_empty() && !shared.stopped {
                // No call for a while: the next one wakes us.
                shared.sleeps = true;
                let asleep = |shared: &mut Shared<S>| shared.sleeps && !shared.stopped;
                shared = self.changed.wait_while(shared, asleep).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// The jobs whose calls have lost the state.
    pub(super) fn late(&self) -> Vec<JobId> {
        self.lock().late.iter().map(|call| call.job).collect()
    }

    /// Ends the standby: nothing is collected any more.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Waits until collecting has stopped and no call is late, for so long at most, and returns the jobs whose calls
    /// still are.
    pub(super) fn wait_for_end(&self, bound: Duration) -> Vec<JobId> {
        let busy = |shared: &mut Shared<S>| !shared.stopped || !shared.late.is_empty();
        let waited = self.changed.wait_timeout_while(self.lock(), bound, busy);
        let (shared, _) = waited.unwrap_or_else(PoisonError::into_inner);
        shared.late.iter().chain(shared.current.iter().map(|(call, _)| call)).map(|call| call.job).collect()
    }
}

impl<S> Shared<S> {
    fn is_current_late(&self, now: Instant, late: Duration) -> bool {
        self.current.as_ref().is_some_and(|(call, _)| now.saturating_duration_since(call.since) >= late)
    }

    /// The late calls that are still to be judged, with their threads.
    fn late_calls(&self, now: Instant, late: Duration) -> Vec<(u64, i32)> {
        let current = self.current.iter().map(|(call, _)| call);
        let is_late = |call: &&Call| !call.reported && now.saturating_duration_since(call.since) >= late;
        self.late.iter().chain(current).filter(is_late).map(|c| (c.number, c.progress.thread)).collect()
    }

    /// Takes in what late calls were seen to wait for, and returns the jobs that have kept one too long, each once a
    /// call.
    fn count(
        &mut self,
        now: Instant,
        seen: &[(u64, Waits)],
        late: Duration,
        too_late: Duration,
    ) -> Vec<JobId> {
        let stored = self.stored;
        let current = self.current.as_mut().map(|(call, _)| call);
        let mut jobs = Vec::new();
        for call in self.late.iter_mut().chain(current) {
            // One that is not there has begun or ended meanwhile.
            let Some((_, waits)) = seen.iter().find(|(number, _)| *number == call.number) else { continue };
            let disk_works = || stored.is_some_and(|began| began > call.since);
            let kept = match waits {
                Waits::ForLock => true,
                Waits::Somewhere => !call.progress.has_lock() || disk_works(),
                Waits::ForOthers => false,
            };
            call.count(now, kept, 2 * late);
            if call.held >= too_late && !std::mem::replace(&mut call.reported, true) {
                jobs.push(call.job);
            }
        }
        jobs
    }
}

#[cfg(test)]
#[path = "handoff_tests.rs"]
mod tests;
