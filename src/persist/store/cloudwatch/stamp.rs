//! Times that CloudWatch accepts.
//!
//! An event is rejected when it is older than 14 days or than the group's retention, or more than two hours ahead of AWS's
//! clock; a request with events out of order fails as a whole. So an event's own time is moved into that window, and never
//! before the event in front of it. The true time stays in the message.

/// One day in milliseconds.
pub(super) const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// The age at which logs and metrics are rejected, in days.
const OLDEST_DAYS: i64 = 14;
/// The distance that is kept from that age, for the time that a request takes.
const MARGIN_MS: i64 = 60 * 60 * 1000;

/// The times that AWS accepts at one moment, ms since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// The earliest time.
    pub(super) floor_ms: i64,
    /// The latest time, which is now.
    pub(super) now_ms: i64,
}

impl Window {
    /// The window at this time for a group that keeps events so many days; `None`: for ever.
    pub(super) fn at(now_ms: i64, retention_days: Option<i64>) -> Window {
        let days = retention_days.map_or(OLDEST_DAYS, |days| days.min(OLDEST_DAYS));
        Window { floor_ms: now_ms - days * DAY_MS + MARGIN_MS, now_ms }
    }

    /// The time to send for an event of this time, behind one that was sent with `last_ms`.
    pub(super) fn stamp(self, time_ms: i64, last_ms: i64) -> i64 {
        time_ms.max(last_ms).max(self.floor_ms).min(self.now_ms)
    }

    /// Whether nothing of this time is accepted any more.
    pub(super) fn is_past(self, time_ms: i64) -> bool {
        time_ms < self.floor_ms
    }
}

/// Nanoseconds as milliseconds, rounded down.
pub(super) fn ms(time_ns: i64) -> i64 {
    time_ns.div_euclid(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    #[test]
    fn times_are_moved_into_the_window_and_stay_in_order() {
        let window = Window::at(NOW, Some(7));
        assert_eq!(window.stamp(NOW - 5, 0), NOW - 5);
        assert_eq!(window.stamp(NOW - 5, NOW - 2), NOW - 2);
        assert_eq!(window.stamp(NOW + 9_000_000, 0), NOW);
        assert_eq!(window.stamp(0, 0), NOW - 7 * DAY_MS + MARGIN_MS);
        // The clock was set back: nothing is sent ahead of it.
        assert_eq!(window.stamp(NOW, NOW + 60_000), NOW);
    }

    #[test]
    fn the_floor_is_the_retention_or_two_weeks() {
        assert_eq!(Window::at(NOW, Some(1)).floor_ms, NOW - DAY_MS + MARGIN_MS);
        assert_eq!(Window::at(NOW, Some(365)), Window::at(NOW, None));
        assert_eq!(Window::at(NOW, None).floor_ms, NOW - 14 * DAY_MS + MARGIN_MS);
        assert!(Window::at(NOW, None).is_past(NOW - 14 * DAY_MS));
        assert_eq!(ms(-1), -1);
    }
}
