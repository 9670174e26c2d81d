//! The message of a log event: one row of a job's output as a JSON object.
//!
//! `{"seq":7,"off":4096,"t":1767323045678000000,"log":"text"}`: the row's sequence, the offset of its first byte in the
//! stream, its time in ns, its text. Bytes that are no UTF-8 stand in `b64` instead of `log`, a gap has `lost` with the
//! number of bytes at the place where they would be; `refused` counts bytes that CloudWatch did not take. CloudWatch takes no empty message, keeps milliseconds only, and may store a request twice whose answer
//! was lost; with these keys a reader gets the exact bytes and drops doubles, and filter patterns find text in `log`.
//!
//! A row whose edge cuts a letter becomes two or three events, so that only the cut letter is base64. A row of another
//! writer that is longer than [`PIECE`] is cut too. The pair of `seq` and `off` is unique.

use serde::Deserialize;

use crate::output::spool::{Row, Span};

/// Most bytes of output in one event. An event may have 256 KiB (since 2025 1 MB), and text grows to the double at most.
pub(super) const PIECE: usize = 64 * 1024;
/// The letters around the text or base64 of an event, at most.
const FRAME: usize = 100;

/// One event that waits to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// The sequence of its row.
    pub(super) sequence: u64,
    /// The time of its row, ns since the epoch.
    pub(super) time_ns: i64,
    /// The offset of its first byte in the stream; that of the next byte for a gap.
    pub(super) offset: u64,
    /// Bytes of the stream that it stands for; 0 for a gap.
    pub(super) covers: u64,
    /// Whether it stands for bytes that AWS refused.
    pub(super) refused: bool,
    /// The text to be sent.
    pub(super) message: String,
}

/// Makes the events of one row, in order. Bytes of the stream before `end` are there already.
pub(super) fn of_row(row: &Row, bytes: &[u8], end: u64) -> Vec<Event> {
    let offset = match row.span {
        Span::Bytes { offset, .. } => offset,
        Span::Lost(lost) => return vec![absent(row.sequence, row.time_ns, end, "lost", lost)],
    };
    let known = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX).min(bytes.len());
    let mut at = offset + known as u64;
    let mut events = Vec::with_capacity(1);
    for piece in cut(bytes.get(known..).unwrap_or_default()) {
        events.push(content(row, at, piece));
        at += piece.len() as u64;
    }
    events
}

/// The event for bytes that are not there.
fn absent(sequence: u64, time_ns: i64, offset: u64, key: &str, bytes: u64) -> Event {
    let message = format!("{{\"seq\":{sequence},\"off\":{offset},\"t\":{time_ns},\"{key}\":{bytes}}}");
    Event { sequence, time_ns, offset, covers: 0, refused: false, message }
}

impl Event {
    /// The counted gap that takes the place of an event that AWS refuses.
    pub(super) fn refuse(&self) -> Event {
        let gap = absent(self.sequence, self.time_ns, self.offset, "refused", self.covers);
        Event { covers: self.covers, refused: true, ..gap }
    }
}

fn content(row: &Row, offset: u64, bytes: &[u8]) -> Event {
    let head = format!("{{\"seq\":{},\"off\":{offset},\"t\":{},", row.sequence, row.time_ns);
    // Text full of control characters grows sixfold by its escapes; base64 is shorter then.
    let text = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| serde_json::to_string(text).ok())
        .filter(|text| text.len() <= 2 * bytes.len() + FRAME);
    let message = match text {
        Some(text) => format!("{head}\"log\":{text}}}"),
        None => format!("{head}\"b64\":\"{}\"}}", openssl::base64::encode_block(bytes)),
    };
    Event {
        sequence: row.sequence,
        time_ns: row.time_ns,
        offset,
        covers: bytes.len() as u64,
        refused: false,
        message,
    }
}

/// Cuts bytes so that what is text stays text: at most [`PIECE`] each, letters that the row's edges cut apart.
fn cut(bytes: &[u8]) -> Vec<&[u8]> {
    if bytes.len() <= PIECE && std::str::from_utf8(bytes).is_ok() {
        return vec![bytes];
    }
    let mut pieces = Vec::new();
    for piece in bytes.chunks(PIECE) {
        // At most three bytes of a letter can stand before its cut, and three behind it (RFC 3629).
        let head = piece.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
        let (front, rest) = piece.split_at(head);
        let end = match std::str::from_utf8(rest) {
            Ok(_) => rest.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => 0,
        };
        if end == 0 {
            pieces.push(piece);
            continue;
        }
        let (middle, back) = rest.split_at(end);
        pieces.extend([front, middle, back].into_iter().filter(|part| !part.is_empty()));
    }
    pieces
}

/// The content of one event, as its reader needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// The sequence of the row.
    pub(super) sequence: u64,
    /// The offset of the first byte, or of the byte behind a gap of the spool.
    pub(super) offset: u64,
    /// The time of the row, ns since the epoch.
    pub(super) time_ns: i64,
    /// The bytes, or how many are gone.
    pub(super) content: Content,
}

/// The bytes of an event, or their number where they are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// Output of the job.
    Bytes(Vec<u8>),
    /// Number of bytes that were discarded before they had an offset.
    Lost(u64),
    /// Number of bytes that CloudWatch refused; the offsets count them.
    Refused(u64),
}

#[derive(Deserialize)]
struct Message {
    seq: u64,
    off: u64,
    t: i64,
    log: Option<String>,
    b64: Option<String>,
    lost: Option<u64>,
    refused: Option<u64>,
}

/// Reads the message of an event; `None`: another program wrote it.
pub(super) fn read(message: &str) -> Option<Piece> {
    let Message { seq: sequence, off: offset, t: time_ns, log, b64, lost, refused } =
        serde_json::from_str(message).ok()?;
    let content = match (log, b64, lost, refused) {
        (Some(text), None, None, None) => Content::Bytes(text.into_bytes()),
        (None, Some(text), None, None) => Content::Bytes(decode(&text)?),
        (None, None, Some(lost), None) => Content::Lost(lost),
        (None, None, None, Some(refused)) => Content::Refused(refused),
        _ => return None,
    };
    (sequence > 0).then_some(Piece { sequence, offset, time_ns, content })
}

fn decode(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    openssl::base64::decode_block(text).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::output::Stream;

    fn row(offset: u64, length: usize) -> Row {
        Row {
            sequence: 7,
            time_ns: 1_767_323_045_678_000_001,
            stream: Stream::Stdout,
            span: Span::Bytes { offset, length: u32::try_from(length).unwrap() },
        }
    }

    fn keys(events: &[Event]) -> Vec<&str> {
        let kind = |event: &&Event| if event.message.contains("\"log\":") { "log" } else { "b64" };
        events.iter().map(|event| kind(&event)).collect()
    }

    fn events(row: &Row, bytes: &[u8]) -> Vec<Event> {
        of_row(row, bytes, 0)
    }

    #[test]
    fn a_row_of_text_is_one_readable_object() {
        let events = events(&row(4096, 6), b"a \"b\"\n");
        let expected = r#"{"seq":7,"off":4096,"t":1767323045678000001,"log":"a \"b\"\n"}"#;
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].message, expected);
        let refused = events[0].refuse();
        assert_eq!(refused.message, r#"{"seq":7,"off":4096,"t":1767323045678000001,"refused":6}"#);
        assert_eq!(read(&refused.message).unwrap().content, Content::Refused(6));
    }

    #[test]
    fn bytes_that_are_there_already_are_left_out() {
        let events = of_row(&row(10, 6), b"abcdef", 14);
        assert_eq!((events[0].offset, events[0].covers), (14, 2));
        assert!(events[0].message.contains(r#""off":14,"#) && events[0].message.contains(r#""log":"ef""#));
    }

    #[test]
    fn a_letter_cut_by_the_edge_leaves_the_rest_text() {
        let text = "grün und größer €".as_bytes();
        assert_eq!(keys(&events(&row(0, 3), &text[..3])), ["log", "b64"]);
        assert_eq!(keys(&events(&row(3, 9), &text[3..])), ["b64", "log"]);
        assert_eq!(keys(&events(&row(0, 2), &text[text.len() - 2..])), ["b64"]);
        assert_eq!(keys(&events(&row(0, 3), b"a\xffb")), ["b64"]);
        assert_eq!(keys(&events(&row(0, 99), &[0; 99])), ["b64"]);
    }

    #[test]
    fn a_gap_counts_and_covers_nothing() {
        let gap = Row { span: Span::Lost(512), ..row(0, 0) };
        let events = of_row(&gap, b"", 64);
        assert_eq!(events[0].message, r#"{"seq":7,"off":64,"t":1767323045678000001,"lost":512}"#);
        assert_eq!((events[0].covers, read(&events[0].message).unwrap().content), (0, Content::Lost(512)));
    }

    #[test]
    fn messages_of_other_programs_are_none_of_ours() {
        let both = r#"{"seq":1,"off":0,"t":0,"log":"a","lost":1}"#;
        for text in
            ["", "hello", "{}", r#"{"seq":1,"t":0,"log":"a"}"#, r#"{"seq":0,"off":0,"t":0,"log":"a"}"#, both]
        {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read(r#"{"seq":1,"off":0,"t":0,"b64":"a"}"#), None);
    }

    fn output() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 1..400),
            "\\PC{1,200}".prop_map(String::into_bytes),
            ("\\PC{1,80}", 0..4_usize, 0..4_usize).prop_map(|(text, front, back)| {
                let bytes = text.into_bytes();
                let end = bytes.len().saturating_sub(back).max(1);
                bytes[front.min(end - 1)..end].to_vec()
            }),
            (1..200_000_usize, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_exactly(bytes in output(), offset in 0..1_u64 << 50) {
            let events = events(&row(offset, bytes.len()), &bytes);
            let (mut at, mut back) = (offset, Vec::new());
            for event in &events {
                prop_assert!(!event.message.is_empty() && event.message.len() <= 2 * PIECE + 2 * FRAME);
                let piece = read(&event.message).unwrap();
                prop_assert_eq!((piece.sequence, piece.offset, piece.time_ns), (7, at, event.time_ns));
                let Content::Bytes(bytes) = piece.content else { panic!("no gap") };
                prop_assert_eq!(bytes.len() as u64, event.covers);
                at += bytes.len() as u64;
                back.extend(bytes);
            }
            prop_assert_eq!(back, bytes);
        }

        #[test]
        fn no_message_of_outside_ends_the_reader(text in "\\PC{0,60}|\\{\"seq\":[0-9]{1,30},\\PC{0,40}\\}") {
            let _ = read(&text);
        }
    }
}
