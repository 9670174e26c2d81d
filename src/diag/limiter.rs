//! A few lines in a while, and a count of the others.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Lines of one place in [`PERIOD`].
pub(super) const BURST: u32 = 5;
const PERIOD: Duration = Duration::from_secs(10);

/// One place in the code that clients can make write.
#[derive(Debug)]
pub struct Limiter(Mutex<Window>);

#[derive(Debug)]
struct Window {
    since: Option<Instant>,
    written: u32,
    suppressed: u64,
}

impl Limiter {
    /// A place that has written nothing yet.
    #[allow(clippy::new_without_default, reason = "made in statics only, where Default cannot be called")]
    pub const fn new() -> Self {
        Self(Mutex::new(Window { since: None, written: 0, suppressed: 0 }))
    }

    /// Whether a line may be written now, and how many were suppressed since the last that was.
    pub fn admit(&self) -> Option<u64> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Option<u64> {
        let mut w = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if w.since.is_none_or(|since| now.saturating_duration_since(since) >= PERIOD) {
            w.since = Some(now);
            w.written = 0;
        }
        if w.written == BURST {
            w.suppressed += 1;
            return None;
        }
        w.written += 1;
        Some(std::mem::take(&mut w.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_burst_lines_are_counted_until_the_period_is_over() {
        let (limiter, start) = (Limiter::new(), Instant::now());
        for _ in 0..BURST {
            assert_eq!(limiter.admit_at(start), Some(0));
        }
        for _ in 0..412 {
            assert_eq!(limiter.admit_at(start + Duration::from_secs(9)), None);
        }
        assert_eq!(limiter.admit_at(start + PERIOD), Some(412));
        assert_eq!(limiter.admit_at(start + PERIOD), Some(0));
    }
}
