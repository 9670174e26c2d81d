//! The bytes of a line, and its place in the chain.
//!
//! ```text
//! {"prev":"<64 digits>","time":"2026-01-02T03:04:05.123456789Z","event":"request", ... ,"hash":"<64 digits>"}
//! ```
//!
//! `hash` is the SHA-256 of all bytes of the line before `,"hash"`; `prev` is the `hash` of the line before.

use std::fmt;

use jiff::Timestamp;
use openssl::sha::sha256;
use serde::Serialize;

use super::Entry;

/// The longest line, bytes; a longer one is none of ours.
pub(super) const LONGEST: usize = 64 << 10;
/// The text before the first hash.
const PREV: &str = "{\"prev\":\"";
/// The text before the second one.
const HASH: &str = ",\"hash\":\"";
/// Digits of a hash.
const DIGITS: usize = 64;

/// The hash of a line, SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Hash(pub(super) [u8; 32]);

impl Hash {
    /// The digest of some bytes.
    pub(super) fn of(bytes: &[u8]) -> Hash {
        Hash(sha256(bytes))
    }

    /// Reads 64 lower-case digits.
    pub fn parse(text: &str) -> Option<Hash> {
        let digits = text.as_bytes();
        if digits.len() != DIGITS || digits.iter().any(u8::is_ascii_uppercase) {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        // A sign would be read too.
        (Hash(hash).to_string() == text).then_some(Hash(hash))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A line with its chain, as it is serialized before its hash.
#[derive(Serialize)]
struct Chained<'a> {
    prev: String,
    time: String,
    #[serde(flatten)]
    entry: &'a Entry,
}

/// Appends a line with its end, and returns its hash.
pub(super) fn append(to: &mut Vec<u8>, entry: &Entry, prev: Hash, time_ns: i64) -> Hash {
    let begin = to.len();
    let chained = Chained { prev: prev.to_string(), time: stamp(time_ns), entry };
    serde_json::to_writer(&mut *to, &chained)
        .expect("texts and numbers have a JSON form, and a Vec takes them");
    to.pop();
    let hash = Hash::of(&to[begin..]);
    to.extend_from_slice(format!("{HASH}{hash}\"}}\n").as_bytes());
    hash
}

/// RFC 3339 with nine digits, so that texts sort as times.
fn stamp(time_ns: i64) -> String {
    let time = Timestamp::from_nanosecond(time_ns.into()).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
}

/// Both hashes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Links {
    pub(super) prev: Hash,
    pub(super) hash: Hash,
}

/// The hashes of a line without its end; `None`: it is no line, or not as it was written.
pub(super) fn links(line: &[u8]) -> Option<Links> {
    let line = line.strip_suffix(b"\"}")?;
    let (line, hash) = line.split_at_checked(line.len().checked_sub(DIGITS)?)?;
    let body = line.strip_suffix(HASH.as_bytes())?;
    let prev = body.strip_prefix(PREV.as_bytes())?.get(..DIGITS)?;
    let hash = Hash::parse(std::str::from_utf8(hash).ok()?)?;
    let prev = Hash::parse(std::str::from_utf8(prev).ok()?)?;
    (Hash::of(body) == hash).then_some(Links { prev, hash })
}

/// The time of a line, ns since the epoch.
pub(super) fn time_ns(line: &serde_json::Value) -> Option<i64> {
    let time: Timestamp = line.get("time")?.as_str()?.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::super::Event;
    use super::*;

    #[test]
    fn a_line_is_json_with_both_hashes_at_its_ends() {
        let mut text = Vec::new();
        let mut entry = Entry::new(Event::Request);
        entry.about("job", "f47ac10b");
        let hash = append(&mut text, &entry, Hash::default(), 1_700_000_000_000_000_001);
        let line = text.strip_suffix(b"\n").unwrap();
        assert_eq!(links(line), Some(Links { prev: Hash::default(), hash }));
        let value: serde_json::Value = serde_json::from_slice(line).unwrap();
        assert_eq!(value["time"], "2023-11-14T22:13:20.000000001Z");
        assert_eq!(value["object"]["job"], "f47ac10b");
        assert_eq!(value["event"], "request");
        assert_eq!(time_ns(&value), Some(1_700_000_000_000_000_001));
        assert_eq!(Hash::parse(&hash.to_string()), Some(hash));
        for wrong in ["", "+1", &"A".repeat(64), &format!("+{}", "1".repeat(63))] {
            assert_eq!(Hash::parse(wrong), None);
        }
    }
}
