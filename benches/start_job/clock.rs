//! The time stamp counter, which the payload can read by its first instruction, before it has a C library.

use std::time::{Duration, Instant};

/// A moment, in ticks of the counter (invariant and the same on all cores of the machines we run on).
pub type Ticks = u64;

/// The current moment.
#[allow(unsafe_code, reason = "one instruction")]
pub fn now() -> Ticks {
    // SAFETY: rdtsc exists on every x86_64 processor and touches no memory.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// The number of ticks in a microsecond.
#[derive(Debug, Clone, Copy)]
pub struct Rate(f64);

impl Rate {
    /// Compares the counter with the monotonic clock for a fifth of a second.
    pub fn calibrate() -> Rate {
        let (clock, ticks) = (Instant::now(), now());
        while clock.elapsed() < Duration::from_millis(200) {
            std::hint::spin_loop();
        }
        Rate((now() - ticks) as f64 / clock.elapsed().as_secs_f64() / 1e6)
    }

    /// Microseconds between two moments.
    pub fn us(self, from: Ticks, to: Ticks) -> f64 {
        to.wrapping_sub(from).cast_signed() as f64 / self.0
    }
}
