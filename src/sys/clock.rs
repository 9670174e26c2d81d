//! The two clocks that times of jobs are taken from.

use std::time::{SystemTime, UNIX_EPOCH};

/// The current time, ns since the epoch. 0 on a host whose clock stands before 1970.
pub fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64)
}

/// CLOCK_MONOTONIC, ns: the clock of [`std::time::Instant`], which a later process of the same boot can read on.
pub fn monotonic_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
