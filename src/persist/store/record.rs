//! One record: a line of JSON for each row of the spool and for each sample.
//!
//! Records are written by hand: a writer over serde structs takes three to four times the processor time. The keys stand
//! in a fixed order without blanks, so most records are also read by hand; serde_json reads those that others wrote.

use std::io::BufRead;

use serde::Deserialize;

use crate::output::Stream;

/// Digits of base64 (RFC 4648), as pairs for each value of twelve bits.
static PAIRS: [[u8; 2]; 4096] = pairs();
/// The bits of each digit at each place of a group of four: three bytes in their order, the first one lowest.
static BITS: [[u32; 256]; 4] = bits();

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// The bits of a byte that is no digit.
const NO_DIGIT: u32 = 1 << 31;

const fn pairs() -> [[u8; 2]; 4096] {
    let mut table = [[0; 2]; 4096];
    let mut n = 0;
    while n < 4096 {
        table[n] = [DIGITS[n >> 6], DIGITS[n & 63]];
        n += 1;
    }
    table
}

const fn bits() -> [[u32; 256]; 4] {
    let mut table = [[NO_DIGIT; 256]; 4];
    let mut n = 0;
    while n < 256 {
        let (place, value) = (n / 64, n % 64);
        let bits = (value as u32) << (18 - 6 * place);
        table[place][DIGITS[value] as usize] = bits >> 16 | bits & 0xff00 | (bits & 0xff) << 16;
        n += 1;
    }
    table
}

/// Appends the base64 form of some bytes, with padding.
fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, b'=');
    let (groups, rest) = bytes.as_chunks::<3>();
    let (quads, _) = out[start..].as_chunks_mut::<4>();
    for ([a, b, c], quad) in groups.iter().zip(quads.iter_mut()) {
        let bits = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let (high, low) = (PAIRS[bits >> 12], PAIRS[bits & 4095]);
        *quad = [high[0], high[1], low[0], low[1]];
    }
    if let (Some(quad), false) = (quads.last_mut(), rest.is_empty()) {
        let bits = usize::from(rest[0]) << 16 | usize::from(rest.get(1).copied().unwrap_or(0)) << 8;
        let (high, low) = (PAIRS[bits >> 12], PAIRS[bits & 4095]);
        *quad = [high[0], high[1], if rest.len() == 2 { low[0] } else { b'=' }, b'='];
    }
}

/// The three bytes of four digits, the first one lowest, or with [`NO_DIGIT`]. Written out: an array's own map is not
/// inlined in a build by parts, and took a tenth of a scan.
#[inline]
fn group(quad: &[u8; 4]) -> u32 {
    BITS[0][usize::from(quad[0])]
        | BITS[1][usize::from(quad[1])]
        | BITS[2][usize::from(quad[2])]
        | BITS[3][usize::from(quad[3])]
}

/// Appends the bytes of a base64 text. `None`: it is none; bytes may have been appended.
fn decode(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let padding = text.iter().rev().take_while(|digit| **digit == b'=').count();
    if !text.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let (text, end) = text.split_at(text.len() - if padding > 0 { 4 } else { 0 });
    let start = out.len();
    out.resize(start + text.len() / 4 * 3, 0);
    let (blocks, quads) = text.as_chunks::<16>();
    let (places, rest) = out[start..].as_chunks_mut::<12>();
    let mut wrong = 0;
    for ([a, b, c, d], place) in blocks.iter().map(quarters).zip(places) {
        wrong |= a | b | c | d;
        // Twelve bytes in three stores: byte by byte it takes half as long again.
        let words = [a | b << 24, b >> 8 & 0xffff | c << 16, c >> 16 & 0xff | d << 8];
        for (word, four) in words.into_iter().zip(place.as_chunks_mut::<4>().0) {
            *four = word.to_le_bytes();
        }
    }
    for (quad, three) in quads.as_chunks().0.iter().zip(rest.as_chunks_mut::<3>().0) {
        let bits = group(quad);
        wrong |= bits;
        three.copy_from_slice(&bits.to_le_bytes()[..3]);
    }
    if let Some([a, b, c, _]) = end.first_chunk() {
        let third = if padding == 1 { *c } else { b'A' };
        let bits = group(&[*a, *b, third, b'A']);
        wrong |= bits;
        out.extend_from_slice(&bits.to_le_bytes()[..3 - padding]);
    }
    (wrong < NO_DIGIT).then_some(())
}

/// The four groups of sixteen digits.
#[inline]
fn quarters(block: &[u8; 16]) -> [u32; 4] {
    let at = |n: usize| group(&[block[n], block[n + 1], block[n + 2], block[n + 3]]);
    [at(0), at(4), at(8), at(12)]
}

/// Appends a decimal number.
fn number(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn signed(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    number(value.unsigned_abs(), out);
}

/// The bytes of a row, or the number of bytes that are lost in their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content<'a> {
    Bytes(&'a [u8]),
    Lost(u64),
}

/// The part of a record that orders it: stream, time and sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) stream: Stream,
    pub(super) time_ns: i64,
    pub(super) sequence: u64,
}

/// Appends the record of a row, with its line feed.
pub(super) fn write_row(job: &str, place: Place, content: Content<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"job_id\":\"");
    out.extend_from_slice(job.as_bytes());
    out.extend_from_slice(b"\",\"stream\":");
    out.push(b'0' + place.stream.number());
    out.extend_from_slice(b",\"timestamp\":");
    signed(place.time_ns, out);
    out.extend_from_slice(b",\"sequence\":");
    number(place.sequence, out);
    match content {
        Content::Bytes(bytes) => {
            out.extend_from_slice(b",\"content\":\"");
            encode(bytes, out);
            out.extend_from_slice(b"\"}\n");
        }
        Content::Lost(bytes) => {
            out.extend_from_slice(b",\"lost_bytes\":");
            number(bytes, out);
            // Without it `jq -r .content` prints "null", which base64(1) takes for three bytes.
            out.extend_from_slice(b",\"content\":\"\"}\n");
        }
    }
}

/// The bytes that [`write_row`] appends at most for content of this length.
pub(super) const fn row_bytes(content: usize) -> usize {
    content.div_ceil(3) * 4 + 192
}

/// A record as it is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) sequence: u64,
    pub(super) time_ns: i64,
    /// The stream's number; 0 where the record has none.
    pub(super) stream: u8,
    /// Bytes of content, which were appended to the reader's buffer.
    pub(super) bytes: usize,
    /// Bytes that are lost here.
    pub(super) lost: u64,
}

/// Reads one line without its line feed and appends its content. `None`: it is no record of output, and nothing is
/// appended.
pub(super) fn read_row(line: &[u8], content: &mut Vec<u8>) -> Option<Record> {
    let start = content.len();
    let record = read_own(line, content).or_else(|| {
        content.truncate(start);
        read_foreign(line, content)
    });
    if record.is_none() {
        content.truncate(start);
    }
    record
}

/// The lines of some JSON without their line feeds; empty ones are left out.
pub(super) fn lines(json: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = json;
    let next = move || {
        let before = rest;
        // The standard library's search is several times as fast as a loop over bytes.
        let length = rest.skip_until(b'\n').ok().filter(|length| *length > 0)?;
        let line = &before[..length];
        Some(line.strip_suffix(b"\n").unwrap_or(line))
    };
    std::iter::from_fn(next).filter(|line| !line.is_empty())
}

/// The digits at the start of a text as a number, and the text behind them.
pub(super) fn leading_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit())?;
    let digits = std::str::from_utf8(text.get(..end)?).ok()?;
    Some((digits.parse().ok()?, &text[end..]))
}

/// A record that [`write_row`] wrote.
fn read_own(line: &[u8], content: &mut Vec<u8>) -> Option<Record> {
    let rest = line.strip_prefix(b"{\"job_id\":\"")?.get(36..)?.strip_prefix(b"\",\"stream\":")?;
    let (stream, rest) = leading_number(rest)?;
    let rest = rest.strip_prefix(b",\"timestamp\":")?;
    let (time, rest) = leading_number(rest)?;
    let (sequence, rest) = leading_number(rest.strip_prefix(b",\"sequence\":")?)?;
    let start = content.len();
    let lost = match rest.strip_prefix(b",\"content\":\"") {
        Some(rest) => {
            decode(rest.strip_suffix(b"\"}")?, content)?;
            0
        }
        None => leading_number(rest.strip_prefix(b",\"lost_bytes\":")?)?.0,
    };
    let (bytes, time_ns) = (content.len() - start, i64::try_from(time).ok()?);
    Some(Record { sequence, time_ns, stream: u8::try_from(stream).ok()?, bytes, lost })
}

/// A record with its keys in any order; keys with zero values may be missing, as Go's encoder omits them.
fn read_foreign(line: &[u8], content: &mut Vec<u8>) -> Option<Record> {
    #[derive(Deserialize)]
    struct Row {
        #[serde(rename = "job_id")]
        _job_id: String,
        #[serde(default)]
        stream: u8,
        #[serde(default)]
        timestamp: i64,
        #[serde(default)]
        sequence: u64,
        #[serde(default)]
        content: String,
        #[serde(default)]
        lost_bytes: u64,
    }
    let row: Row = serde_json::from_slice(line).ok()?;
    let start = content.len();
    decode(row.content.as_bytes(), content)?;
    let bytes = content.len() - start;
    let Row { stream, timestamp: time_ns, sequence, lost_bytes: lost, .. } = row;
    Some(Record { sequence, time_ns, stream, bytes, lost })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const JOB: &str = "f47ac10b-58cc-4372-a567-0e02b2c3d479";

    fn written(time_ns: i64, sequence: u64, content: Content<'_>) -> Vec<u8> {
        let mut line = Vec::new();
        write_row(JOB, Place { stream: Stream::Stderr, time_ns, sequence }, content, &mut line);
        line
    }

    #[test]
    fn a_record_has_its_documented_form() {
        let line = written(1_705_314_600_000_000_000, 7, Content::Bytes(b"\x00\xff\n!"));
        let want = format!(
            "{{\"job_id\":\"{JOB}\",\"stream\":2,\"timestamp\":1705314600000000000,\"sequence\":7,\
             \"content\":\"AP8KIQ==\"}}\n"
        );
        assert_eq!(String::from_utf8(line).unwrap(), want);
        let gap = String::from_utf8(written(5, 8, Content::Lost(99))).unwrap();
        assert!(gap.ends_with(",\"sequence\":8,\"lost_bytes\":99,\"content\":\"\"}\n"), "{gap}");
    }

    #[test]
    fn a_foreign_record_is_read_whatever_its_order() {
        let line = br#"{ "content": "aGkK", "stream":1, "job_id":"x", "more":[1], "timestamp": 12}"#;
        let mut content = b"before".to_vec();
        let record = read_row(line, &mut content).unwrap();
        assert_eq!(record, Record { sequence: 0, time_ns: 12, stream: 1, bytes: 3, lost: 0 });
        assert_eq!(content, b"beforehi\n");
        for wrong in [&b"{}"[..], b"", b"null", b"{\"job_id\":\"x\",\"content\":\"a\"}"] {
            assert_eq!(read_row(wrong, &mut content), None);
            assert_eq!(content, b"beforehi\n");
        }
    }

    #[test]
    fn lines_are_cut_at_their_line_feeds() {
        let cut = |json: &'static [u8]| lines(json).collect::<Vec<_>>();
        assert_eq!(cut(b"a\n\nbc\nd"), [&b"a"[..], b"bc", b"d"]);
        assert_eq!(cut(b"\n"), [b""; 0]);
        assert_eq!(cut(b""), [b""; 0]);
    }

    proptest! {
        #[test]
        fn a_written_record_is_read_back(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            time_ns in any::<i64>(),
            sequence in any::<u64>(),
        ) {
            let line = written(time_ns, sequence, Content::Bytes(&bytes));
            prop_assert!(line.len() <= row_bytes(bytes.len()));
            let mut content = Vec::new();
            let record = read_row(&line[..line.len() - 1], &mut content).unwrap();
            prop_assert_eq!((record.sequence, record.time_ns, record.stream), (sequence, time_ns, 2));
            prop_assert_eq!(&content, &bytes);
            let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(json["sequence"].as_u64(), Some(sequence));
        }

        #[test]
        fn any_line_is_read_or_refused_but_never_a_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_row(&line, &mut Vec::new());
            let _ = decode(&line, &mut Vec::new());
        }
    }
}
