//! Waits between attempts, and the flag that ends them.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The bound of the first wait.
const FIRST: Duration = Duration::from_millis(200);
/// The bound of the longest wait.
const LONGEST: Duration = Duration::from_secs(30);

/// A flag that is set once and wakes all who wait.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    /// A flag that is not set.
    pub fn new() -> Stop {
        Stop::default()
    }

    /// Sets the flag: waits and requests under way end with an error.
    pub fn set(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Whether the flag is set.
    pub fn is_set(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for this long; true: the flag is set.
    pub(super) fn wait(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut set = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if *set || left.is_zero() {
                return *set;
            }
            set = self.0.1.wait_timeout(set, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The wait after so many failures in a row, with full jitter: any time up to a bound that doubles from 200 ms to 30 s.
/// `random` is uniform over all numbers.
pub(super) fn delay(failures: u32, random: u64) -> Duration {
    let bound = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(random % (nanos + 1))
}

/// A random number of the kernel.
pub(super) fn random() -> u64 {
    let mut bytes = [0; 8];
    // A short answer cannot be (random(4): up to 256 bytes come whole); zeros would only remove the jitter.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_of_the_wait_doubles_up_to_half_a_minute() {
        let longest = |failures| (0..2000).map(|_| delay(failures, random())).max().unwrap();
        for (failures, bound) in [(1, 200), (2, 400), (5, 3200), (8, 25_600), (9, 30_000), (400, 30_000)] {
            let (seen, bound) = (longest(failures), Duration::from_millis(bound));
            assert!(seen <= bound && seen > bound * 9 / 10, "{failures}: {seen:?}");
        }
        assert_eq!(delay(3, 0), Duration::ZERO);
    }

    #[test]
    fn a_set_flag_ends_a_wait_on_another_thread() {
        let stop = Stop::new();
        let waiter = std::thread::spawn({
            let stop = stop.clone();
            move || stop.wait(Duration::from_secs(600))
        });
        stop.set();
        assert!(waiter.join().unwrap());
        assert!(stop.is_set());
        assert!(!Stop::new().wait(Duration::from_millis(1)));
    }
}
