use super::*;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;

const SOON: Duration = Duration::from_millis(5);
const NEVER: Duration = Duration::from_secs(3600);

/// The ends of one test: a handoff whose state is a number, and the jobs that were reported.
struct Bench {
    handoff: Arc<Handoff<u32>>,
    reported: (Sender<JobId>, Receiver<JobId>),
}

impl Bench {
    /// On a kernel that hides where threads sleep.
    fn new(late: Duration, too_late: Duration) -> Bench {
        Bench::watched(late, too_late, |_| Waits::Somewhere)
    }

    fn watched(late: Duration, too_late: Duration, look: fn(i32) -> Waits) -> Bench {
        Bench { handoff: Arc::new(Handoff::new(late, too_late, look)), reported: unbounded() }
    }

    /// A standby that ends with the state that it has taken. `replaced`: whether another standby could be started.
    fn stand_by(&self, replaced: bool) -> JoinHandle<Option<(JobId, u32)>> {
        let (handoff, report) = (self.handoff.clone(), self.reported.0.clone());
        std::thread::spawn(move || handoff.stand_by(|| replaced, |job| report.send(job).unwrap()))
    }

    /// A call that lasts until the sender is dropped, with or without the pipe's lock.
    fn call(&self, job: JobId, has_lock: bool) -> (Sender<()>, JoinHandle<Option<u32>>) {
        let (end, wait) = bounded(0);
        let handoff = self.handoff.clone();
        let thread = std::thread::spawn(move || {
            let work = |progress: &Progress| {
                progress.set_has_lock(has_lock);
                let _ = wait.recv();
                ((), false)
            };
            handoff.call(7, job, &Progress::of_this_thread(), work).0
        });
        (end, thread)
    }
}

#[test]
fn late_call_loses_its_state_to_the_standby() {
    let bench = Bench::new(SOON, NEVER);
    let standby = bench.stand_by(true);
    let job = JobId::random();
    let (end, call) = bench.call(job, false);
    assert_eq!(standby.join().unwrap(), Some((job, 7)));
    assert_eq!(bench.handoff.late(), [job]);
    // The next call keeps its own state, also while the late one is not back.
    assert_eq!(bench.handoff.call(8, job, &Progress::of_this_thread(), |_| ((), true)).0, Some(8));
    drop(end);
    assert_eq!(call.join().unwrap(), None);
    bench.handoff.stop();
    assert_eq!(bench.handoff.wait_for_end(NEVER), []);
}

#[test]
fn call_that_waits_for_the_lock_is_reported_once() {
    let bench = Bench::new(SOON, SOON);
    // No thread can be started: the last one is still the watchdog.
    let standby = bench.stand_by(false);
    let job = JobId::random();
    let (end, call) = bench.call(job, false);
    assert_eq!(bench.reported.1.recv().unwrap(), job);
    drop(end);
    assert_eq!(call.join().unwrap(), Some(7));
    bench.handoff.stop();
    assert_eq!(standby.join().unwrap(), None);
    assert!(bench.reported.1.is_empty());
}

#[test]
fn call_behind_the_lock_is_reported_when_the_disk_works() {
    let bench = Bench::new(SOON, SOON);
    let first = bench.stand_by(true);
    let (slow, other) = (JobId::random(), JobId::random());
    let (end, call) = bench.call(slow, true);
    assert_eq!(first.join().unwrap(), Some((slow, 7)));
    let second = bench.stand_by(true);
    let (other_end, other_call) = bench.call(other, false);
    // The report of a later call shows that the watchdog has looked, and that it spared the first one.
    assert_eq!(bench.reported.1.recv().unwrap(), other);
    assert!(bench.reported.1.is_empty());
    assert_eq!(second.join().unwrap(), Some((other, 7)));
    let third = bench.stand_by(true);
    assert_eq!(bench.handoff.call(9, other, &Progress::of_this_thread(), |_| ((), true)).0, Some(9));
    assert_eq!(bench.reported.1.recv().unwrap(), slow);
    drop((end, other_end));
    assert_eq!((call.join().unwrap(), other_call.join().unwrap()), (None, None));
    bench.handoff.stop();
    assert_eq!(third.join().unwrap(), None);
}

#[test]
fn starved_thread_loses_its_state_and_names_nobody() {
    static LOOKS: AtomicUsize = AtomicUsize::new(0);
    let bench = Bench::watched(SOON, SOON, |_| {
        LOOKS.fetch_add(1, Ordering::SeqCst);
        Waits::ForOthers
    });
    let first = bench.stand_by(true);
    let job = JobId::random();
    let (end, call) = bench.call(job, false);
    assert_eq!(first.join().unwrap(), Some((job, 7)));
    let second = bench.stand_by(false);
    assert_eq!(bench.handoff.call(8, job, &Progress::of_this_thread(), |_| ((), true)).0, Some(8));
    while LOOKS.load(Ordering::SeqCst) < 20 {
        std::thread::yield_now();
    }
    drop(end);
    assert_eq!(call.join().unwrap(), None);
    bench.handoff.stop();
    assert_eq!(second.join().unwrap(), None);
    assert!(bench.reported.1.is_empty());
}

/// A call that begins at this time, as the state between threads has it.
fn call_of(job: JobId, since: Instant) -> Shared<u32> {
    let progress = Progress::of_this_thread();
    let call = Call {
        number: 1,
        job,
        since,
        progress,
        looked: (since, true),
        held: Duration::ZERO,
        reported: false,
    };
    Shared {
        current: Some((call, 7)),
        late: Vec::new(),
        calls: 1,
        stored: None,
        sleeps: false,
        stopped: false,
    }
}

#[test]
fn call_is_reported_after_two_seconds_of_sleep_for_the_lock() {
    let (start, job) = (Instant::now(), JobId::random());
    let at = |ms| start + Duration::from_millis(ms);
    let mut shared = call_of(job, start);
    let mut look = |ms, waits| shared.count(at(ms), &[(1, waits)], LATE, TOO_LATE);
    // A second without a processor, then the lock.
    for ms in (50..=1000).step_by(50) {
        assert_eq!(look(ms, Waits::ForOthers), []);
    }
    for ms in (1050..3050).step_by(50) {
        assert_eq!(look(ms, Waits::ForLock), [], "{ms}");
    }
    // The machine stood still for a minute: that counts for two looks.
    assert_eq!(look(3000 + 60_000, Waits::ForLock), [job]);
    assert_eq!(look(3000 + 70_000, Waits::ForLock), []);
}

#[test]
fn machine_that_stood_still_blames_no_job() {
    let (start, job) = (Instant::now(), JobId::random());
    let mut shared = call_of(job, start);
    for minute in 1..10 {
        let now = start + Duration::from_secs(60 * minute);
        assert_eq!(shared.count(now, &[(1, Waits::ForLock)], LATE, TOO_LATE), []);
    }
}
