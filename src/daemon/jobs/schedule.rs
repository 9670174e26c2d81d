//! Jobs that wait for a time of the wall clock.
//!
//! One timerfd stands for the earliest of them. It is set to an absolute time of CLOCK_REALTIME, and the kernel wakes us
//! too when somebody sets that clock (TFD_TIMER_CANCEL_ON_SET, timerfd_create(2)): a job starts when the clock shows its
//! time, however the clock came there. Set back, it waits longer; set forward over its time, it starts at once.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::daemon::sources::{Registered, Source, Sources};
use crate::job::JobId;

/// The jobs that wait for a time, and their timer.
#[derive(Debug)]
pub(in crate::daemon) struct Schedule {
    timer: Registered,
    // Equal times start in the order of acceptance.
    waiting: BTreeSet<(i64, u64, JobId)>,
}

impl Schedule {
    /// An empty schedule. [`Source::Schedule`] is reported when [`Schedule::due`] may have something.
    ///
    /// # Errors
    /// No timerfd, or it cannot be watched.
    pub(in crate::daemon) fn new(sources: &Sources) -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = sources.watch(Source::Schedule, timerfd_create(TimerfdClockId::Realtime, flags)?)?;
        Ok(Schedule { timer, waiting: BTreeSet::new() })
    }

    /// A descriptor that is open as long as the daemon runs.
    pub(in crate::daemon) fn timer(&self) -> impl AsFd {
        &self.timer
    }

    /// Adds a job: `at` in ns since the epoch, `serial` its place in the order of acceptance.
    ///
    /// # Errors
    /// The timer cannot be set. The job waits all the same, and [`Schedule::due`] finds it when it is called next.
    pub(in crate::daemon) fn add(&mut self, at: i64, serial: u64, id: JobId) -> io::Result<()> {
        self.waiting.insert((at, serial, id));
        self.arm()
    }

    /// Takes a job out.
    pub(in crate::daemon) fn remove(&mut self, at: i64, serial: u64, id: JobId) {
        self.waiting.remove(&(at, serial, id));
    }

    /// How many wait.
    pub(in crate::daemon) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes out the jobs whose time has come, the earliest first, and sets the timer for the others. A timer that cannot
    /// be read or set keeps no job back that is due; the caller then comes again by another clock.
    pub(in crate::daemon) fn due(&mut self, now_ns: i64) -> (Vec<JobId>, io::Result<()>) {
        let mut word = [0u8; 8];
        let read = match rustix::io::read(&self.timer, &mut word) {
            // The clock was set, or nothing has come due: either way the times are looked at.
            Ok(_) | Err(Errno::CANCELED | Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(why) => Err(why.into()),
        };
        let later = self.waiting.split_off(&(now_ns.saturating_add(1), 0, JobId::nil()));
        let due = std::mem::replace(&mut self.waiting, later);
        let ready = read.and(self.arm());
        (due.into_iter().map(|(_, _, id)| id).collect(), ready)
    }

    fn arm(&self) -> io::Result<()> {
        let Some((at, ..)) = self.waiting.first() else { return Ok(()) };
        let at = Timespec { tv_sec: at.div_euclid(1_000_000_000), tv_nsec: at.rem_euclid(1_000_000_000) };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        loop {
            match timerfd_settime(&self.timer, flags, &Itimerspec { it_interval: never, it_value: at }) {
                // The clock was set since the last read, which this has noted now, so that nobody would be woken for it. The
                // kernel fires our timer before it tells of that, and we may be quicker than it. Set once more, the
                // timer goes by the clock as it is.
                Err(Errno::CANCELED) => {}
                other => return other.map(drop).map_err(io::Error::from),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_times_come_in_order_of_acceptance() {
        let poll = mio::Poll::new().unwrap();
        let sources = Sources::new(poll.registry().try_clone().unwrap());
        let mut schedule = Schedule::new(&sources).unwrap();
        let ids: Vec<JobId> = (0..4).map(|_| JobId::random()).collect();
        for (at, serial, id) in [(20, 9, ids[0]), (10, 8, ids[1]), (10, 7, ids[2]), (30, 1, ids[3])] {
            schedule.add(at, serial, id).unwrap();
        }
        let due = |schedule: &mut Schedule, now| {
            let (due, ready) = schedule.due(now);
            ready.unwrap();
            due
        };
        assert_eq!(due(&mut schedule, 9), []);
        assert_eq!(due(&mut schedule, 20), [ids[2], ids[1], ids[0]]);
        schedule.remove(30, 1, ids[3]);
        assert_eq!((schedule.len(), due(&mut schedule, i64::MAX)), (0, vec![]));
    }

    /// Jobs that were due when the timer for the others could not be set were in neither list any more.
    #[test]
    fn due_jobs_are_not_lost_when_the_timer_fails() {
        let poll = mio::Poll::new().unwrap();
        let sources = Sources::new(poll.registry().try_clone().unwrap());
        let mut schedule = Schedule::new(&sources).unwrap();
        let (now, later) = (JobId::random(), JobId::random());
        schedule.add(10, 1, now).unwrap();
        schedule.add(20, 2, later).unwrap();
        // Anything but a timer: timerfd_settime(2) refuses it.
        let (pipe, _writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        schedule.timer = sources.watch(Source::Schedule, pipe).unwrap();
        let (due, ready) = schedule.due(10);
        assert_eq!((due, ready.is_err(), schedule.len()), (vec![now], true, 1));
        assert!(schedule.add(30, 3, JobId::random()).is_err());
        assert_eq!(schedule.due(40).0.len(), 2, "both are found by another clock");
    }
}
