//! Points in time as people write them: `--schedule`, `--since`, `--until`; and spans of time: `--timeout`, `--interval`.
//!
//! Three forms. A time with an offset (RFC 3339) is absolute. A time without one is local time where rnx runs. Once
//! a year a local time does not exist, and rnx refuses it; once a year it occurs twice, and rnx takes the earlier
//! one that can be meant (a schedule is never in the past) with a note. A duration counts from now, forward or
//! back. Every form becomes one absolute time, and the server never learns of our time zone. Pure: the caller passes the
//! time, and with it the time zone.

use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, Unit, Zoned};

use super::super::error::Result;
use super::value::invalid;
use crate::job::units;

/// The longest delay of a schedule, seconds: a year, as the API's other clients have it.
const LONGEST_DELAY: u64 = 365 * DAY;

const DAY: u64 = 86_400;

/// Names of the units of durations, seconds in each.
const UNITS: [(&[&str], u64); 4] = [
    (&["s", "sec", "secs", "second", "seconds"], 1),
    (&["m", "min", "mins", "minute", "minutes"], 60),
    (&["h", "hour", "hours"], 3600),
    (&["d", "day", "days"], DAY),
];

/// A time that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    /// When; its `Display` is RFC 3339 with `Z`.
    pub(crate) time: Timestamp,
    /// A note for the author of the text on how it was read.
    pub(crate) note: Option<String>,
}

/// Reads `--schedule`: an absolute time, or a delay of 1 s to 365 d from `now`. A time that is past is
/// taken, with a note: the server starts such a job at once.
pub(crate) fn schedule(text: &str, now: &Zoned) -> Result<Given> {
    let refuse = |why: String| {
        invalid("schedule", text, &why)
            .hint("a time: 2025-08-03T15:00 (here), 2025-08-03T15:00:00Z; or a delay: 45s, 30min, 2h30m, 1d")
    };
    let given = match read(text).map_err(refuse)? {
        Form::Duration { seconds, .. } if !(1..=LONGEST_DELAY).contains(&seconds) => {
            return Err(refuse("a delay is between 1 s and 365 days".into()));
        }
        Form::Duration { seconds, .. } => {
            let time = shifted(now, SignedDuration::from_secs(seconds as i64)).map_err(refuse)?;
            Given { time, note: None }
        }
        other => resolve(other, now, now.timestamp()).map_err(refuse)?,
    };
    if given.time < now.timestamp() {
        let past = format!("{} is past: the job starts at once", given.time);
        let note = Some(given.note.map_or(past.clone(), |note| format!("{note}; {past}")));
        return Ok(Given { note, ..given });
    }
    Ok(given)
}

/// Reads `--since` or `--until`: an absolute time, or how long before `now`.
pub(crate) fn past(flag: &str, text: &str, now: &Zoned) -> Result<Given> {
    let refuse = |why: String| {
        invalid(flag, text, &why).hint(
            "a time: 2025-08-03T15:00 (here), 2025-08-03T15:00:00Z; or how long ago: 45s, 10m, 2h30m, 1d",
        )
    };
    match read(text).map_err(refuse)? {
        Form::Duration { ahead: true, .. } => Err(refuse("without + it is that long ago".into())),
        Form::Duration { seconds, .. } => {
            // More than fits is before everything, and fails below.
            let back = -SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            Ok(Given { time: shifted(now, back).map_err(refuse)?, note: None })
        }
        other => resolve(other, now, Timestamp::MIN).map_err(refuse),
    }
}

/// Reads a span of time such as `--timeout`: every duration that `--schedule` takes, fractions and milliseconds, or a plain
/// number of seconds, as timeout(1) has it.
pub(crate) fn span(flag: &str, text: &str) -> Result<Duration> {
    let refused = match units::parse_duration(text) {
        Ok(span) => return Ok(span),
        Err(why) => why.to_string(),
    };
    if let Ok(seconds) = text.trim().parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    match duration(text.trim()) {
        Ok(Form::Duration { seconds, ahead: false }) => Ok(Duration::from_secs(seconds)),
        _ => Err(invalid(flag, text, &refused).hint("30s, 5m, 2h30m, 2d, or a number of seconds: 90")),
    }
}

/// The form of a text, before it is compared with a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Now,
    Absolute(Timestamp),
    /// A date and a time of the wall clock here.
    Wall(DateTime),
    /// `ahead`: with a plus sign.
    Duration {
        seconds: u64,
        ahead: bool,
    },
}

fn read(text: &str) -> std::result::Result<Form, String> {
    let text = text.trim();
    match text.as_bytes() {
        [] => Err("it is empty".into()),
        b"now" => Ok(Form::Now),
        [a, b, c, d, b'-', ..] if [a, b, c, d].iter().all(|x| x.is_ascii_digit()) => absolute(text),
        _ => duration(text),
    }
}

/// An absolute time for everything but a duration. A wall-clock time that occurs twice is
/// the first of the two from `earliest` on.
fn resolve(form: Form, now: &Zoned, earliest: Timestamp) -> std::result::Result<Given, String> {
    match form {
        Form::Absolute(time) => Ok(Given { time, note: None }),
        Form::Wall(wall) => on_the_wall(wall, now.time_zone(), earliest),
        Form::Now | Form::Duration { .. } => Ok(Given { time: now.timestamp(), note: None }),
    }
}

/// `2025-08-03T15:00`, with seconds, a fraction and an offset if there are any; a blank may stand for the T.
/// The shape is checked here and not left to jiff, which takes more than RFC 3339 has.
fn absolute(text: &str) -> std::result::Result<Form, String> {
    let shape = || "it is not of the form YYYY-MM-DDTHH:MM[:SS[.fraction]][Z or +HH:MM]".to_string();
    if text.contains('[') {
        return Err("names of time zones are not taken; give the offset, such as +02:00".into());
    }
    let date = text.get(..10).filter(|d| is_like(d, "0000-00-00")).ok_or_else(shape)?;
    let rest = &text[10..];
    if rest.is_empty() {
        return Err(format!("the time of day is missing: {date}T00:00"));
    }
    let rest = rest.strip_prefix(['T', 't', ' ']).ok_or_else(shape)?;
    let at = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (clock, offset) = rest.split_at(at);
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let digits = fraction.len() <= 9 && !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
    if !(is_like(whole, "00:00:00") || is_like(clock, "00:00")) || !digits {
        return Err(shape());
    }
    let date: Date = date.parse().map_err(|_| format!("there is no day {date}"))?;
    let time: Time = clock.parse().map_err(|_| format!("there is no time of day {clock}"))?;
    let wall = date.to_datetime(time);
    let offset = match offset {
        "" => return Ok(Form::Wall(wall)),
        "Z" | "z" => Offset::UTC,
        other => offset_of(other).ok_or_else(shape)?,
    };
    let time = offset.to_timestamp(wall).map_err(|_| "it is beyond the calendar".to_string())?;
    Ok(Form::Absolute(time))
}

/// Reads an offset such as `+02:00`.
fn offset_of(text: &str) -> Option<Offset> {
    let digits = text.get(1..).filter(|d| is_like(d, "00:00"))?;
    let (hours, minutes): (i32, i32) = (digits[..2].parse().ok()?, digits[3..].parse().ok()?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = (hours * 60 + minutes) * 60;
    Offset::from_seconds(if text.starts_with('-') { -seconds } else { seconds }).ok()
}

/// The same length, digits where the pattern has them, else the same characters.
fn is_like(text: &str, pattern: &str) -> bool {
    text.len() == pattern.len()
        && text.bytes().zip(pattern.bytes()).all(|(t, p)| if p == b'0' { t.is_ascii_digit() } else { t == p })
}

/// A time of the wall clock in this time zone.
fn on_the_wall(wall: DateTime, zone: &TimeZone, earliest: Timestamp) -> std::result::Result<Given, String> {
    let beyond = |_| "it is beyond the calendar".to_string();
    let here = zone.iana_name().unwrap_or("the local time zone");
    match zone.to_ambiguous_zoned(wall).offset() {
        AmbiguousOffset::Unambiguous { offset } => {
            let unknown = || "the local time zone is not known: the time is read as UTC".to_string();
            let note = zone.is_unknown().then(unknown);
            Ok(Given { time: offset.to_timestamp(wall).map_err(beyond)?, note })
        }
        AmbiguousOffset::Gap { before, after } => Err(format!(
            "{here} has no {wall}: clocks are put forward then; give an offset, {wall}{} or {wall}{}",
            spelled(before),
            spelled(after)
        )),
        AmbiguousOffset::Fold { before, after } => {
            let (first, second) = (before.to_timestamp(wall), after.to_timestamp(wall));
            let (first, second) = (first.map_err(beyond)?, second.map_err(beyond)?);
            let (time, which) = if first < earliest {
                (second, "second one is meant")
            } else {
                (first, "first one is meant")
            };
            let note = format!(
                "{wall} comes twice in {here}, as {wall}{} and {wall}{}; the {which}",
                spelled(before),
                spelled(after)
            );
            Ok(Given { time, note: Some(note) })
        }
    }
}

fn spelled(offset: Offset) -> String {
    let minutes = offset.seconds() / 60;
    let sign = if minutes < 0 { '-' } else { '+' };
    format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
}

/// Numbers with units that add up: `2h30m`, `1 hour 5 min`.
fn duration(text: &str) -> std::result::Result<Form, String> {
    let mut rest = text.strip_prefix('+').unwrap_or(text).trim_start();
    let ahead = text.starts_with('+');
    let mut seconds: u64 = 0;
    loop {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
        if number.is_empty() {
            return Err(format!("{rest:?} is neither a date nor a number with a unit"));
        }
        if after.starts_with(['.', ',']) {
            return Err("write whole numbers: 1h30m, not 1.5h".into());
        }
        let after = after.trim_start();
        let (name, after) = after.split_at(after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len()));
        if name.is_empty() {
            return Err(format!("the unit behind {number} is missing: s, m, h or d"));
        }
        let unit = UNITS.iter().find(|(names, _)| names.contains(&name)).map(|(_, unit)| *unit);
        let unit = unit.ok_or_else(|| format!("{name:?} is no unit; they are s, min, h and d"))?;
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
        seconds = part.and_then(|p| seconds.checked_add(p)).ok_or("it is too long")?;
        rest = after.trim_start();
        if rest.is_empty() {
            return Ok(Form::Duration { seconds, ahead });
        }
    }
}

/// Milliseconds are the finest step that a person or a timer can distinguish.
fn shifted(now: &Zoned, by: SignedDuration) -> std::result::Result<Timestamp, String> {
    let time = now.timestamp().checked_add(by).and_then(|t| t.round(Unit::Millisecond));
    time.map_err(|_| "it is beyond the calendar".to_string())
}

#[cfg(test)]
#[path = "time_tests.rs"]
mod tests;
