//! Output as lines, for readers with a filter or a tail: the spool knows bytes only.

use super::Stream;

/// Bytes of the longest line that is handled as one; a longer line is handled in pieces of this size. A reader holds at
/// most this much of each stream, whatever the job prints.
pub const LONGEST: usize = 16 * 1024;

/// A cutter of each stream into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The bytes of each stream behind its last line break.
    held: [Vec<u8>; 2],
}

impl Lines {
    /// Starts a stream behind these bytes: their last line, if it has not ended, is the beginning of the next line.
    pub(super) fn begin(&mut self, stream: Stream, before: &[u8]) {
        let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        self.held[stream.place()] = before[start..].to_vec();
    }

    /// Adds bytes of a stream and calls `line` for every line that ends in them, with its line break.
    pub(super) fn push(&mut self, stream: Stream, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        let held = &mut self.held[stream.place()];
        while !bytes.is_empty() {
            let room = LONGEST.saturating_sub(held.len()).min(bytes.len());
            let end = bytes[..room].iter().position(|b| *b == b'\n').map(|at| at + 1);
            let (piece, rest) = bytes.split_at(end.unwrap_or(room));
            let whole = end.is_some() || held.len() + piece.len() >= LONGEST;
            match (whole, held.is_empty()) {
                (true, true) => line(piece),
                (true, false) => {
                    held.extend_from_slice(piece);
                    line(held);
                    held.clear();
                }
                (false, _) => held.extend_from_slice(piece),
            }
            bytes = rest;
        }
    }

    /// The beginning of the line that has not ended yet.
    pub(super) fn open(&self, stream: Stream) -> &[u8] {
        &self.held[stream.place()]
    }

    /// Takes the beginning of the line that has not ended, if there is one, as a whole line.
    pub(super) fn take(&mut self, stream: Stream) -> Option<Vec<u8>> {
        Some(std::mem::take(&mut self.held[stream.place()])).filter(|line| !line.is_empty())
    }
}

/// A text to search for in lines, in time linear in the line (Knuth, Morris, Pratt): no choice of text and line makes
/// the search go back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needle {
    text: Vec<u8>,
    /// For each prefix of the text: the length of the longest shorter prefix that it ends with.
    back: Vec<usize>,
}

impl Needle {
    /// Prepares the search for a text, which must not be empty.
    pub fn new(text: &[u8]) -> Self {
        let mut back = vec![0; text.len()];
        let mut length = 0;
        for at in 1..text.len() {
            while length > 0 && text[at] != text[length] {
                length = back[length - 1];
            }
            length += usize::from(text[at] == text[length]);
            back[at] = length;
        }
        Needle { text: text.to_vec(), back }
    }

    /// Whether the line contains the text.
    pub(super) fn is_in(&self, line: &[u8]) -> bool {
        let mut length = 0;
        line.iter().any(|byte| {
            while length > 0 && *byte != self.text[length] {
                length = self.back[length - 1];
            }
            length += usize::from(*byte == self.text[length]);
            length == self.text.len()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut got) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.push(Stream::Stdout, piece, |line| got.push(line.to_vec()));
        }
        got.extend(lines.take(Stream::Stdout));
        got
    }

    #[test]
    fn a_line_is_whole_however_it_came() {
        assert_eq!(cut(&[b"a\nb", b"c\n\nd"]), [&b"a\n"[..], b"bc\n", b"\n", b"d"]);
        let (mut lines, mut got) = (Lines::default(), Vec::new());
        lines.begin(Stream::Stderr, b"old\nbegun ");
        lines.push(Stream::Stdout, b"beside", |_| panic!("no line has ended"));
        lines.push(Stream::Stderr, b"before\n", |line| got.extend_from_slice(line));
        assert_eq!(got, b"begun before\n");
    }

    #[test]
    fn a_line_without_end_is_cut_into_pieces_that_fit() {
        let long = vec![b'x'; 5 * LONGEST / 2];
        let lengths: Vec<usize> =
            cut(&[&long[..LONGEST + 7], &long[LONGEST + 7..]]).iter().map(Vec::len).collect();
        assert_eq!(lengths, [LONGEST, LONGEST, LONGEST / 2]);
    }

    proptest! {
        #[test]
        fn cutting_loses_and_adds_no_byte(pieces in prop::collection::vec("[ab\n]{0,40}", 0..20)) {
            let bytes: Vec<&[u8]> = pieces.iter().map(String::as_bytes).collect();
            prop_assert_eq!(cut(&bytes).concat(), pieces.concat().into_bytes());
        }

        #[test]
        fn a_text_is_found_exactly_where_it_is(text in "[ab]{1,8}", line in "[ab]{0,60}") {
            prop_assert_eq!(Needle::new(text.as_bytes()).is_in(line.as_bytes()), line.contains(&text));
        }
    }
}
