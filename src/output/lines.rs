//! Output as lines, for readers with a filter or a tail: the spool knows bytes only.

use std::io::BufRead;

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
        self.held[stream.place()] = before[start_of_line(before)..].to_vec();
    }

    /// Adds bytes of a stream and calls `line` for every line that ends in them, with its line break.
    pub(super) fn push(&mut self, stream: Stream, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        let held = &mut self.held[stream.place()];
        while !bytes.is_empty() {
            let room = LONGEST.saturating_sub(held.len()).min(bytes.len());
            let end = behind(&bytes[..room], b'\n');
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

    /// Adds bytes of a stream and calls `line` for every line that ends in them and contains the text. The others cost a
    /// search in all of them together and are not cut.
    pub(super) fn push_with(
        &mut self,
        stream: Stream,
        bytes: &[u8],
        text: &Needle,
        mut line: impl FnMut(&[u8]),
    ) {
        let mut cut = |lines: &mut Lines, bytes: &[u8]| {
            lines.push(stream, bytes, |found| {
                if text.is_in(found) {
                    line(found)
                }
            });
        };
        let mut rest = bytes;
        if !self.open(stream).is_empty() {
            let (first, others) = rest.split_at(behind(rest, b'\n').unwrap_or(rest.len()));
            cut(self, first);
            rest = others;
        }
        while let Some(at) = text.find(rest) {
            let start = start_of_line(&rest[..at]);
            let end = behind(&rest[at..], b'\n').map_or(rest.len(), |end| at + end);
            cut(self, &rest[start..end]);
            rest = &rest[end..];
        }
        cut(self, &rest[start_of_line(rest)..]);
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

/// A text to search for in lines, in time linear in the line: no choice of text and line makes the search go back.
///
/// Two bytes of the text that are rare in logs are looked for in blocks, which the compiler turns into vector
/// instructions. Where both stand in a block as in the text, Knuth, Morris and Pratt decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needle {
    text: Vec<u8>,
    /// For each prefix of the text: the length of the longest shorter prefix that it ends with.
    back: Vec<usize>,
    /// The places of the two rare bytes.
    rare: [usize; 2],
}

/// Starts of the text that are looked at together.
const BLOCK: usize = 16;
/// Bytes of logs, the most frequent one first. Which they are decides about time alone.
const FREQUENT: &[u8] = b" e0ta1o2ni-r3s:l.5d4c/67u89mpgfh=\"Tbw_,v";

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
        let frequency = |at: &usize| FREQUENT.iter().rev().position(|byte| *byte == text[*at]);
        let mut places: Vec<usize> = (0..text.len()).collect();
        places.sort_by_key(frequency);
        let rare = [0, 1].map(|n| places.get(n).or(places.first()).copied().unwrap_or_default());
        Needle { text: text.to_vec(), back, rare }
    }

    /// Whether the line contains the text.
    pub(super) fn is_in(&self, line: &[u8]) -> bool {
        self.find(line).is_some()
    }

    /// The place of the first such text.
    fn find(&self, bytes: &[u8]) -> Option<usize> {
        let (mut at, mut length) = (0, 0);
        while length < self.text.len() {
            if length == 0 {
                at = self.pass(bytes, at);
            }
            let byte = *bytes.get(at)?;
            while length > 0 && byte != self.text[length] {
                length = self.back[length - 1];
            }
            length += usize::from(byte == self.text[length]);
            at += 1;
        }
        Some(at - length)
    }

    /// The first place at or behind `at` from which on the text may start.
    fn pass(&self, bytes: &[u8], at: usize) -> usize {
        let [first, second] = self.rare.map(|place| (self.text[place], bytes.get(at + place..)));
        let ((first, Some(firsts)), (second, Some(seconds))) = (first, second) else { return bytes.len() };
        let blocks = firsts.as_chunks::<BLOCK>().0.iter().zip(seconds.as_chunks::<BLOCK>().0);
        let passed =
            BLOCK * blocks.take_while(|(firsts, seconds)| !meet(firsts, first, seconds, second)).count();
        let mut pairs = firsts[passed..].iter().zip(&seconds[passed.min(seconds.len())..]).take(BLOCK);
        let start = pairs.position(|(one, two)| *one == first && *two == second);
        at + passed + start.unwrap_or(BLOCK)
    }
}

/// Whether two bytes stand at the same place of two blocks.
#[inline]
fn meet(firsts: &[u8; BLOCK], first: u8, seconds: &[u8; BLOCK], second: u8) -> bool {
    let pairs = firsts.iter().zip(seconds);
    pairs.fold(0, |met, (one, two)| met | u8::from(*one == first) & u8::from(*two == second)) != 0
}

/// The place behind the last line break.
fn start_of_line(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

/// The place behind the first of these bytes in some others. The standard library's search is several times as fast as a
/// loop over bytes.
fn behind(mut bytes: &[u8], byte: u8) -> Option<usize> {
    let all = bytes;
    let length = bytes.skip_until(byte).ok()?;
    (length > 0 && all[length - 1] == byte).then_some(length)
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
        fn a_text_is_found_exactly_where_it_is(text in "[ab]{1,8}", line in "[ab]{0,60}", before in "[a-c]{0,300}") {
            let needle = Needle::new(text.as_bytes());
            prop_assert_eq!(needle.find(line.as_bytes()), line.find(&text));
            let line = before + &line;
            prop_assert_eq!(needle.find(line.as_bytes()), line.find(&text));
        }

        #[test]
        fn lines_with_a_text_are_those_of_all_that_have_it(
            text in "[ab\n]{1,3}",
            pieces in prop::collection::vec(("[a-d\n]{0,200}", 0..3 * LONGEST / 2), 0..8),
        ) {
            let needle = Needle::new(text.as_bytes());
            let (mut all, mut wanted) = ((Lines::default(), Vec::new()), (Lines::default(), Vec::new()));
            for (piece, more) in pieces {
                let bytes = [piece.as_bytes(), &vec![b'c'; more][..], piece.as_bytes()].concat();
                all.0.push(Stream::Stdout, &bytes, |line| if needle.is_in(line) { all.1.push(line.to_vec()) });
                wanted.0.push_with(Stream::Stdout, &bytes, &needle, |line| wanted.1.push(line.to_vec()));
                prop_assert_eq!(all.0.open(Stream::Stdout), wanted.0.open(Stream::Stdout));
            }
            prop_assert_eq!(all.1, wanted.1);
        }
    }
}
