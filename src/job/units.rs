//! Durations ("30s", "2h30m", "100ms") and sizes ("512M", "1GiB") as people write them.

use std::time::Duration;

/// The reason why a text is no duration or size. The sentence contains the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not of the shape that a duration has.
    #[error(
        "cannot read {text:?} as a duration; write numbers with units, such as \"30s\", \"100ms\", \"2h30m\" or \"2d\""
    )]
    ParseDuration {
        /// The text that was given.
        text: String,
    },
    /// Not of the shape that a size has.
    #[error("cannot read {text:?} as a size; write a number and a unit, such as \"512M\" or \"1GiB\"")]
    ParseSize {
        /// The text that was given.
        text: String,
    },
    /// More than can be counted.
    #[error("{text:?} is too large")]
    TooLarge {
        /// The text that was given.
        text: String,
    },
}

/// Longest spelling first, because "m" also begins "ms".
const TIME_UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Longest duration that is taken: nanoseconds in an i64, what Go's durations and the wire can hold (292 years).
const MAX_NANOS: u64 = i64::MAX as u64;

/// Reads a duration in Go's notation and in days: one or more numbers, each with a unit of ns, us, ms, s, m, h or d, which
/// add up; a fraction is allowed ("1.5h"). "0" needs no unit.
///
/// # Errors
/// Another shape, a sign, or more than 292 years.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let wrong = || UnitError::ParseDuration { text: text.into() };
    let too_large = || UnitError::TooLarge { text: text.into() };
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut nanos: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = split_number(rest);
        let (name, unit) =
            TIME_UNITS.into_iter().find(|(name, _)| after.starts_with(name)).ok_or_else(wrong)?;
        let part = scale(number, unit).ok_or_else(wrong)?.ok_or_else(too_large)?;
        nanos = nanos.checked_add(part).filter(|n| *n <= MAX_NANOS).ok_or_else(too_large)?;
        rest = &after[name.len()..];
    }
    Ok(Duration::from_nanos(nanos))
}

/// Writes a duration the way [`parse_duration`] reads it, in the largest units that are exact: "1h", "1m30s".
pub fn format_duration(duration: Duration) -> String {
    let mut nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".into();
    }
    let mut out = String::new();
    for name in ["h", "m", "s", "ms", "us", "ns"] {
        let unit = TIME_UNITS.iter().find(|(n, _)| *n == name).map_or(1, |(_, unit)| u128::from(*unit));
        if nanos >= unit {
            out += &format!("{}{name}", nanos / unit);
            nanos %= unit;
        }
    }
    out
}

/// Writes a duration as Go prints one, which other clients of the API expect: "1h0m0s", "1m30s", "1.5s", "100ms".
pub fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos < 1_000_000_000 {
        let small = [("ms", 1_000_000), ("\u{b5}s", 1000)].into_iter().find(|(_, unit)| nanos >= *unit);
        return match small {
            _ if nanos == 0 => "0s".into(),
            Some((name, unit)) => format!("{}{name}", decimal(nanos, unit)),
            None => format!("{nanos}ns"),
        };
    }
    let minutes = duration.as_secs() / 60;
    let seconds = decimal(nanos - u128::from(minutes) * 60_000_000_000, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// `nanos` in a unit of so many ns, a power of ten, without zeros at the end.
fn decimal(nanos: u128, unit: u128) -> String {
    let width = unit.ilog10() as usize;
    let fraction = format!("{:0width$}", nanos % unit);
    match fraction.trim_end_matches('0') {
        "" => (nanos / unit).to_string(),
        digits => format!("{}.{digits}", nanos / unit),
    }
}

/// Reads a size in bytes: a number, alone or with K, M, G or T, each also as KB or KiB. All of them count in
/// 1024s, as the kernel's own files and the memory limits of jobs do. A fraction is allowed ("1.5G").
///
/// # Errors
/// Another shape, a sign, or more than 2^63 bytes.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let wrong = || UnitError::ParseSize { text: text.into() };
    let (number, unit) = split_number(text.trim());
    let shift = match unit.trim_start().to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(wrong()),
    };
    scale(number, 1 << shift)
        .ok_or_else(wrong)?
        .filter(|n| *n <= i64::MAX as u64)
        .ok_or_else(|| UnitError::TooLarge { text: text.into() })
}

/// Writes a size the way [`parse_size`] reads it, in the largest unit that is exact: "512MiB", "1GiB", "100".
pub fn format_size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| bytes != 0 && bytes.trailing_zeros() >= *shift) {
        Some((name, shift)) => format!("{}{name}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// The leading digits and dots, and what follows.
fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()))
}

/// number * unit, rounded down. `None`: no number. `Some(None)`: does not fit.
fn scale(number: &str, unit: u64) -> Option<Option<u64>> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits_only = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits_only(whole) || !digits_only(fraction) {
        return None;
    }
    let whole: Option<u64> = if whole.is_empty() { Some(0) } else { whole.parse().ok() };
    // Twelve digits are beyond a nanosecond of an hour and a byte of a TiB, and stay far inside a u128.
    let fraction = &fraction[..fraction.len().min(12)];
    let part = if fraction.is_empty() {
        0
    } else {
        let digits: u128 = fraction.parse().ok()?;
        u64::try_from(digits * u128::from(unit) / 10u128.pow(fraction.len() as u32)).ok()?
    };
    Some(whole.and_then(|w| w.checked_mul(unit)).and_then(|w| w.checked_add(part)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_in_gos_notation() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("100ms", 100_000_000),
            ("30s", 30_000_000_000),
            ("1h", 3_600_000_000_000),
            ("2h30m", 9_000_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            (" 5us ", 5_000),
            ("1m1ms1ns", 60_001_000_001),
            ("2d", 172_800_000_000_000),
            ("1d12h", 129_600_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn a_duration_without_unit_with_a_sign_or_with_junk_is_refused() {
        for text in
            ["", " ", "30", "-1s", "+1s", "1w", "s", "1s2", "1 s", ".s", "1..5s", "1h-1m", "１s", "1e3s"]
        {
            assert!(matches!(parse_duration(text), Err(UnitError::ParseDuration { .. })), "{text}");
        }
        for text in ["9999999999h", "99999999999999999999s", "2562048h", "2562047h2562047h"] {
            assert!(matches!(parse_duration(text), Err(UnitError::TooLarge { .. })), "{text}");
        }
    }

    #[test]
    fn durations_of_replies_are_written_as_go_writes_them() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5\u{b5}s"),
            (100_000_000, "100ms"),
            (2_050_000, "2.05ms"),
            (1_000_000_000, "1s"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (9_000_000_000_001, "2h30m0.000000001s"),
            (3_240_000_000_000_000, "900h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), text);
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn sizes_count_in_1024s() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("512M", 512 << 20),
            ("512MB", 512 << 20),
            ("512MiB", 512 << 20),
            ("1.5G", 3 << 29),
            ("1 gib", 1 << 30),
            ("2T", 2 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "-1", "1X", "1MM", "1M1", "0x10"] {
            assert!(matches!(parse_size(text), Err(UnitError::ParseSize { .. })), "{text}");
        }
        for text in ["99999999999999999999", "9223372036854775808", "9999999999T"] {
            assert!(matches!(parse_size(text), Err(UnitError::TooLarge { .. })), "{text}");
        }
    }

    #[test]
    fn durations_and_sizes_are_written_in_the_largest_exact_units() {
        assert_eq!(format_duration(Duration::from_secs(3600)), "1h");
        assert_eq!(format_duration(Duration::from_millis(90_500)), "1m30s500ms");
        assert_eq!(format_duration(Duration::ZERO), "0s");
        assert_eq!(format_size(1 << 30), "1GiB");
        assert_eq!(format_size(1536 << 20), "1536MiB");
        assert_eq!(format_size(0), "0");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in ".{0,40}", units in "[0-9.]{0,25}[a-zA-Zµ]{0,3}") {
            for t in [&text, &units] {
                let _ = parse_duration(t);
                let _ = parse_size(t);
            }
        }

        #[test]
        fn a_duration_that_was_written_is_read_back(nanos in 0u64..=i64::MAX as u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn a_size_that_was_written_is_read_back(bytes in 0u64..=i64::MAX as u64) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }
    }
}
