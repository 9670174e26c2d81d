//! Filters the bytes that a job, or a person who may name one, writes to a user's terminal.
//!
//! A terminal obeys bytes: they retitle windows, write the clipboard (OSC 52), answer queries as if typed,
//! overwrite other lines (cursor moves), or reverse the reading order (bidi controls). So on a terminal only text,
//! newlines, tabs, SGR colours and the three means of a progress bar pass: `\r`, backspace and erase-in-line, which
//! reach no further than the line that the job itself is writing. Where rnx writes on that line too ([`Filter::strict`]),
//! these three are shown like everything else: `^[` for ESC, `^M` for CR, `<U+202E>` for a bidi control or a C1
//! control, `\xff` for a byte that is not UTF-8. Pipes and files never come here: they get the bytes as they are.

/// The longest SGR sequence let through; real ones have less than 30 bytes.
const MAX_SGR: usize = 64;

/// Makes one stream of a job's output harmless. Characters and sequences may be split over chunks anywhere,
/// so every stream has a filter of its own.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// A character or escape sequence whose end has not come yet; never longer than [`MAX_SGR`].
    held: Vec<u8>,
    /// Colours were changed and not reset.
    coloured: bool,
    /// The characters of a progress bar are shown and not obeyed.
    strict: bool,
    /// Something stands on the last line.
    open: bool,
    /// The cursor is at the left edge of that line.
    at_edge: bool,
}

impl Filter {
    /// A filter for lines whose beginning rnx has written: nothing may go back over it.
    pub(crate) fn strict() -> Self {
        Filter { strict: true, ..Filter::default() }
    }

    /// Whether something stands on the last line, so that a line of ours would not begin at its left edge.
    pub(crate) fn is_line_open(&self) -> bool {
        self.open
    }

    /// The printable form of this chunk and of the bytes that were held back before it.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(chunk);
        let bytes = std::mem::take(&mut self.held);
        let mut out = Vec::with_capacity(bytes.len() + 16);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match self.take(rest, &mut out) {
                Some(used) => rest = &rest[used..],
                None => {
                    self.held = rest.to_vec();
                    break;
                }
            }
        }
        out
    }

    /// The bytes that were held back, made visible, and the colours reset.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.open |= !self.held.is_empty();
        for byte in std::mem::take(&mut self.held) {
            match byte {
                0x20..=0x7e => out.push(byte),
                0..=0x1f => caret(byte, &mut out),
                _ => hex(byte, &mut out),
            }
        }
        if std::mem::take(&mut self.coloured) {
            out.extend_from_slice(b"\x1b[0m");
        }
        out
    }

    /// Prints the first sequence and returns its length; `None`: its end has not come yet.
    fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let printed = out.len();
        let used = self.sequence(bytes, out)?;
        match &out[printed..] {
            [b'\r'] => self.at_edge = true,
            [0x08] | [0x1b, b'[', .., b'm'] => {}
            // The bar takes itself away.
            [0x1b, b'[', .., b'K'] => self.open &= !self.at_edge,
            shown => (self.open, self.at_edge) = (!shown.ends_with(b"\n"), false),
        }
        Some(used)
    }

    fn sequence(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        match bytes[0] {
            b'\n' | b'\t' | 0x20..=0x7e => {
                // The common case, in one piece.
                let end = bytes.iter().position(|b| !matches!(b, b'\n' | b'\t' | 0x20..=0x7e));
                let end = end.unwrap_or(bytes.len());
                out.extend_from_slice(&bytes[..end]);
                Some(end)
            }
            0x1b => self.escape(bytes, out),
            b'\r' | 0x08 if !self.strict => {
                out.push(bytes[0]);
                Some(1)
            }
            b'\r' => match bytes.get(1) {
                None => None,
                Some(b'\n') => {
                    out.extend_from_slice(b"\r\n");
                    Some(2)
                }
                Some(_) => {
                    caret(b'\r', out);
                    Some(1)
                }
            },
            control @ (0..=0x1f | 0x7f) => {
                caret(control, out);
                Some(1)
            }
            _ => character(bytes, out),
        }
    }

    /// ESC: an SGR sequence and an erase-in-line pass whole; of anything else the ESC alone is shown and the rest is
    /// text.
    fn escape(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let window = &bytes[..bytes.len().min(MAX_SGR)];
        let end = window.iter().skip(2).position(|b| !matches!(b, b'0'..=b'9' | b';' | b':')).map(|n| n + 2);
        match (window.get(1), end) {
            (None, _) => return None,
            (Some(b'['), None) if window.len() < MAX_SGR => return None,
            (Some(b'['), Some(end)) if window[end] == b'm' && is_colour(&window[2..end]) => {
                self.coloured = !matches!(&window[2..end], b"" | b"0");
                out.extend_from_slice(&window[..=end]);
                return Some(end + 1);
            }
            (Some(b'['), Some(end))
                if !self.strict
                    && window[end] == b'K'
                    && matches!(&window[2..end], b"" | b"0" | b"1" | b"2") =>
            {
                out.extend_from_slice(&window[..=end]);
                return Some(end + 1);
            }
            _ => {}
        }
        caret(0x1b, out);
        Some(1)
    }
}

/// SGR parameters without 8 (conceal), which hides text; the arguments of 38, 48 and 58 are colours.
fn is_colour(parameters: &[u8]) -> bool {
    let mut numbers = parameters.split(|b| *b == b';').map(|n| {
        let first = n.split(|b| *b == b':').next().unwrap_or_default();
        (
            std::str::from_utf8(first).ok().and_then(|d| d.parse::<u32>().ok()).unwrap_or(0),
            first.len() < n.len(),
        )
    });
    while let Some((number, has_arguments)) = numbers.next() {
        match number {
            8 => return false,
            38 | 48 | 58 if !has_arguments => match numbers.next() {
                Some((5, _)) => drop(numbers.next()),
                Some((2, _)) => drop(numbers.by_ref().nth(2)),
                _ => return false,
            },
            _ => {}
        }
    }
    true
}

/// A character beyond ASCII, or a byte that is none.
fn character(bytes: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let window = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(window) {
        Ok(text) => text,
        Err(e) if e.valid_up_to() > 0 => std::str::from_utf8(&window[..e.valid_up_to()]).unwrap_or_default(),
        Err(e) if e.error_len().is_none() && window.len() < 4 => return None,
        Err(_) => "",
    };
    match valid.chars().next() {
        Some(c) if is_hidden(c) => {
            out.extend_from_slice(format!("<U+{:04X}>", c as u32).as_bytes());
            Some(c.len_utf8())
        }
        Some(c) => {
            out.extend_from_slice(&bytes[..c.len_utf8()]);
            Some(c.len_utf8())
        }
        None => {
            hex(bytes[0], out);
            Some(1)
        }
    }
}

/// C1 controls, bidi controls, and characters that take no room or look like nothing.
fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}'
        | '\u{17b5}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn caret(control: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'^', control ^ 0x40]);
}

fn hex(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
}

/// A name, a message or a value as one harmless line: control and hidden characters are shown, also line
/// breaks, so that no value can add a line of its own to a list. Used for every text that rnx prints around
/// a job, on terminals and in pipes alike; JSON has its own escapes.
pub(crate) fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7f}' => out.push_str("^?"),
            c if (c as u32) < 0x20 => out.extend(['^', char::from(c as u8 ^ 0x40)]),
            c if is_hidden(c) => out.push_str(&format!("<U+{:04X}>", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// [`one_line`] for texts that may have several lines, such as an error of the server.
pub(crate) fn lines(text: &str) -> String {
    text.lines().map(one_line).collect::<Vec<_>>().join("\n")
}

/// The same JSON with the characters escaped that JSON may carry as they are and a terminal obeys or hides.
/// They can only stand inside strings, where a `\u` escape means the same.
pub(crate) fn escaped_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\u{7f}' || is_hidden(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(bytes: &[u8]) -> String {
        through(Filter::default(), bytes)
    }

    fn through(mut filter: Filter, bytes: &[u8]) -> String {
        let mut out = filter.push(bytes);
        out.extend(filter.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_colours_and_line_ends_pass() {
        for text in [
            "plain\ttext\n",
            "dos\r\n",
            "grüße 世界 🦀\n",
            "\x1b[1;31mred\x1b[0m\n",
            "\x1b[38;5;8mgrey\x1b[m",
            "\x1b[48;2;1;2;8mx\x1b[0m",
            " 10 %\r 20 %\r\x1b[K\r\x1b[0K\x1b[1K\x1b[2K done\n",
            "|\x08/\x08-\x08 \x08",
            "end\r",
        ] {
            assert_eq!(whole(text.as_bytes()), text);
        }
    }

    #[test]
    fn terminal_control_sequences_are_shown_escaped() {
        let cases: &[(&[u8], &str)] = &[
            (b"\x1b]52;c;ZXZpbA==\x07", "^[]52;c;ZXZpbA==^G"),
            (b"\x1b]0;title\x1b\\", "^[]0;title^[\\"),
            (b"\x1b]8;;http://evil\x07link\x1b]8;;\x07", "^[]8;;http://evil^Glink^[]8;;^G"),
            (b"\x1b[2J\x1b[H", "^[[2J^[[H"),
            (b"\x1bP$qm\x1b\\", "^[P$qm^[\\"),
            (b"\x1b[?1049h", "^[[?1049h"),
            (b"\x1b[6n", "^[[6n"),
            (b"\x1bc", "^[c"),
            (b"\x1b[8mhidden", "^[[8mhidden"),
            (b"\x1b[31;8mhidden", "^[[31;8mhidden"),
            (b"\x07\x7f\x00\x0b\x0c", "^G^?^@^K^L"),
            (b"\x1b[A\x1b[1G\x1b[3K\x1b[?K\x1b[2;1K\x1b[J", "^[[A^[[1G^[[3K^[[?K^[[2;1K^[[J"),
            ("\u{9b}2J".as_bytes(), "<U+009B>2J"),
            (b"\x9b2J", "\\x9b2J"),
            ("a\u{202e}b\u{200b}c\u{feff}".as_bytes(), "a<U+202E>b<U+200B>c<U+FEFF>"),
            (b"\xff\xc3(\xe4\xb8", "\\xff\\xc3(\\xe4\\xb8"),
            (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
            (b"end\x1b", "end^["),
            (b"end\x1b[31", "end^[[31"),
        ];
        for (input, expected) in cases {
            assert_eq!(whole(input), *expected);
        }
        assert!(whole(&[b"\x1b[".as_slice(), &[b'1'; 200], b"m"].concat()).starts_with("^[[111"));
    }

    #[test]
    fn nothing_goes_back_over_a_line_that_rnx_began() {
        let cases: &[(&[u8], &str)] = &[
            (b"good\rEVIL\n", "good^MEVIL\n"),
            (b"\x08\x1b[2K\x1b[K", "^H^[[2K^[[K"),
            (b"dos\r\n\x1b[31mred\x1b[0m", "dos\r\n\x1b[31mred\x1b[0m"),
            (b"end\r", "end^M"),
        ];
        for (input, expected) in cases {
            assert_eq!(through(Filter::strict(), input), *expected);
        }
    }

    #[test]
    fn progress_bar_is_shown_as_it_comes_and_leaves_an_open_line() {
        let mut filter = Filter::default();
        assert!(!filter.is_line_open());
        assert_eq!(filter.push(b" 50 %\r"), b" 50 %\r", "not held back until the next step");
        assert!(filter.is_line_open());
        filter.push(b"100 %\r\x1b[K");
        assert!(!filter.is_line_open(), "it has taken itself away");
        filter.push(b"\x1b[31mred\n\x1b[0m");
        assert!(!filter.is_line_open());
        filter.push(b"\x1b");
        assert!(!filter.is_line_open(), "nothing was printed yet");
        filter.finish();
        assert!(filter.is_line_open());
    }

    #[test]
    fn colours_left_on_are_set_back_at_the_end() {
        assert_eq!(whole(b"\x1b[31mred"), "\x1b[31mred\x1b[0m");
    }

    #[test]
    fn ordinary_text_is_not_held_back() {
        let mut filter = Filter::default();
        assert_eq!(filter.push(b"name? "), b"name? ");
        assert_eq!(filter.push("é".as_bytes()), "é".as_bytes());
    }

    #[test]
    fn a_value_stays_on_its_line() {
        assert_eq!(one_line("a\nb\r\tc\x1b[31m\u{7f}\u{202e}é"), "a\\nb\\r\\tc^[[31m^?<U+202E>é");
        assert_eq!(lines("one\ntwo\x1b[2J\n"), "one\ntwo^[[2J");
    }

    #[test]
    fn escaped_json_keeps_its_value_without_control_characters() {
        let text = "a\u{9b}2J\u{202e}\u{e0041}\u{7f}é\n";
        let json = escaped_json(&serde_json::to_string(text).unwrap());
        assert_eq!(json, r#""a\u009b2J\u202e\udb40\udc41\u007fé\n""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }

    /// Bytes that exercise every branch.
    fn noise() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            "[a-z\n\r\t]{0,4}".prop_map(String::into_bytes),
            "\\PC{0,3}".prop_map(String::into_bytes),
            prop::sample::select(vec![
                &b"\x1b[31m"[..],
                b"\x1b[",
                b"\x1b",
                b"\x1b]52;",
                b"\xe4\xb8",
                b"\xc2\x9b",
                b"\r\n",
                b"\r",
                b"\x08",
                b"\x1b[2K",
                b"\x1b[8m"
            ])
            .prop_map(<[u8]>::to_vec),
            prop::collection::vec(any::<u8>(), 0..4),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|v| v.concat())
    }

    proptest! {
        #[test]
        fn chunk_boundaries_do_not_change_the_filtered_text(
            bytes in noise(),
            cuts in prop::collection::vec(1usize..7, 1..40),
        ) {
            let mut filter = Filter::default();
            let (mut out, mut rest, mut cuts) = (Vec::new(), bytes.as_slice(), cuts.into_iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
                out.extend(filter.push(now));
                prop_assert!(filter.held.len() <= MAX_SGR);
                rest = later;
            }
            out.extend(filter.finish());
            prop_assert_eq!(String::from_utf8(out).unwrap(), whole(&bytes));
        }

        #[test]
        fn nothing_but_colours_and_its_own_line_is_a_jobs_to_change(bytes in noise(), strict in any::<bool>()) {
            let mut shown = through(Filter { strict, ..Filter::default() }, &bytes);
            while let Some(at) = shown.find("\x1b[") {
                let end = shown[at..].find(['m', 'K']).unwrap() + at;
                let is_erase = shown[end..].starts_with('K');
                prop_assert!(!is_erase || (!strict && end - at <= 3));
                prop_assert!(shown[at + 2..end].bytes().all(|b| b.is_ascii_digit() || b";:".contains(&b)));
                shown.replace_range(at..=end, "");
            }
            let own_line = if strict { "" } else { "\r\x08" };
            let is_bad = |c: &char| {
                (c.is_control() && !"\n\t".contains(*c) && !own_line.contains(*c)) || is_hidden(*c)
            };
            let bad = shown.replace("\r\n", "\n").chars().find(is_bad);
            prop_assert_eq!(bad, None);
        }
    }
}
