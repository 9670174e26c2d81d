//! Lengths of time as people read them: how old a job is, and how long it ran.

use std::time::Duration;

use jiff::Timestamp;

/// The seconds between two times of the API; `None` where one of them is not given.
pub(crate) fn between(start: &str, end: &str) -> Option<u64> {
    let time = |text: &str| text.parse::<Timestamp>().ok();
    // Clocks that were put back make no negative time.
    u64::try_from(time(end)?.duration_since(time(start)?).as_secs().max(0)).ok()
}

/// An age in its largest unit: `45s`, `12m`, `7h`, `3d`.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A duration in its two largest units: `45s`, `1m05s`, `2h03m`, `3d04h`.
pub(crate) fn took(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A duration that was measured here: `23.7 s`, from a minute on as [`took`] has it.
pub(crate) fn measured(span: Duration) -> String {
    if span < Duration::from_secs(60) {
        // Rounded down: 59.96 s is not 60.0 s.
        let tenths = span.as_millis() / 100;
        return format!("{}.{} s", tenths / 10, tenths % 10);
    }
    took(span.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_the_units_that_matter() {
        for (seconds, old, long) in [
            (0, "0s", "0s"),
            (59, "59s", "59s"),
            (65, "65s", "1m05s"),
            (120, "2m", "2m00s"),
            (7_199, "119m", "1h59m"),
            (7_380, "2h", "2h03m"),
            (172_799, "47h", "1d23h"),
            (360_000, "4d", "4d04h"),
        ] {
            assert_eq!((age(seconds).as_str(), took(seconds).as_str()), (old, long), "{seconds}");
        }
        assert_eq!(measured(Duration::from_millis(23_789)), "23.7 s");
        assert_eq!(measured(Duration::from_millis(59_990)), "59.9 s");
        assert_eq!(measured(Duration::from_secs(60)), "1m00s");
    }

    #[test]
    fn time_between_two_texts_is_never_negative() {
        let (early, late) = ("2024-01-15T10:30:00Z", "2024-01-15T10:31:05Z");
        assert_eq!(between(early, late), Some(65));
        assert_eq!(between(late, early), Some(0));
        assert_eq!(between("", late), None);
        assert_eq!(between(early, "soon"), None);
    }
}
