//! The format of a log line, and the guarantee that it is one line.

use std::{fmt::Write as _, io};

use jiff::Timestamp;
use log::Record;

use super::{CORE_WATCH, Format, Limiter, PAIRS};

/// Longest message that is written, in bytes.
const MAX_MESSAGE: usize = 4096;

/// Writes one record, with the pairs of the event if it is one.
pub(super) fn write(out: &mut impl io::Write, record: &Record<'_>, format: Format) -> io::Result<()> {
    let pairs = PAIRS.take();
    let mut message = cut(record.args().to_string(), MAX_MESSAGE);
    if record.module_path().is_some_and(|module| module.starts_with("grpcio")) {
        // Lines of gRPC's core: every peer that can connect can cause them, one for each failed handshake.
        static CORE: Limiter = Limiter::new();
        if let Some(watch) = CORE_WATCH.get() {
            watch(&message);
        }
        match CORE.admit() {
            None => return Ok(()),
            Some(0) => message.insert_str(0, "grpc: "),
            Some(n) => message = format!("grpc: {message} (suppressed {n} more)"),
        }
    }
    let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
    let line = match format {
        Format::Text => text(&time, record.level().as_str(), &message, &pairs),
        Format::Json => json(&time, record.level().as_str(), &message, &pairs),
    };
    out.write_all(line.as_bytes())
}

/// At most `max` bytes, cut between characters; what is cut off is counted.
pub(super) fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        let end = (0..=max).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        let lost = text.len() - end;
        text.truncate(end);
        let _ = write!(text, "… ({lost} more bytes)"); // a String takes any text
    }
    text
}

fn text(time: &str, level: &str, message: &str, pairs: &[(&'static str, String)]) -> String {
    let mut line = format!("[{time}] [{level}] ");
    escape(message, &mut line, false);
    for (i, (key, value)) in pairs.iter().enumerate() {
        line += if i == 0 { " | " } else { " " };
        line += key;
        line.push('=');
        if bare(value) {
            line += value;
        } else {
            line.push('"');
            escape(value, &mut line, true);
            line.push('"');
        }
    }
    line.push('\n');
    line
}

fn json(time: &str, level: &str, message: &str, pairs: &[(&'static str, String)]) -> String {
    let quoted = |s: &str| serde_json::Value::from(s).to_string();
    let mut line = format!("{{\"time\":\"{time}\",\"level\":\"{level}\",\"message\":{}", quoted(message));
    for (key, value) in pairs {
        line += &format!(",{}:{}", quoted(key), quoted(value));
    }
    line += "}\n";
    line
}

/// A value that needs no quotes.
fn bare(value: &str) -> bool {
    !value.is_empty()
        && !value
            .chars()
            .any(|c| c.is_whitespace() || unsafe_to_show(c) || matches!(c, '"' | '=' | '|' | '\\'))
}

fn escape(text: &str, out: &mut String, in_quotes: bool) {
    for c in text.chars() {
        match c {
            '"' | '\\' if in_quotes => out.extend(['\\', c]),
            c if unsafe_to_show(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
}

/// Characters that end a line, move a cursor, or turn the text around them (Unicode TR36, "Trojan Source").
fn unsafe_to_show(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(all: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        all.iter().map(|(k, v)| (*k, v.to_string())).collect()
    }

    #[test]
    fn values_are_quoted_when_they_need_it() {
        let line = text(
            "T",
            "INFO",
            "m",
            &pairs(&[("a", "x-1:/y"), ("b", "with spaces"), ("c", ""), ("d", "q\"\\")]),
        );
        assert_eq!(line, "[T] [INFO] m | a=x-1:/y b=\"with spaces\" c=\"\" d=\"q\\\"\\\\\"\n");
        assert_eq!(text("T", "WARN", "m", &[]), "[T] [WARN] m\n");
    }

    #[test]
    fn nothing_in_a_value_or_message_ends_the_line_or_fakes_a_key() {
        let hostile = "x\n[T] [INFO] fake | admin=true\r\u{1b}[2J\u{202e}\u{85}";
        let line = text("T", "INFO", hostile, &pairs(&[("v", hostile), ("w", "a=b")]));
        assert_eq!(line.lines().count(), 1);
        assert!(line[..line.len() - 1].chars().all(|c| !unsafe_to_show(c)), "{line:?}");
        assert!(
            line.contains("v=\"x\\n[T] [INFO] fake | admin=true\\r\\u{1b}[2J\\u{202e}\\u{85}\""),
            "{line}"
        );
        assert!(line.ends_with("w=\"a=b\"\n"), "{line}");
    }

    #[test]
    fn json_lines_keep_the_order_of_keys_and_read_back() {
        let line = json("T", "INFO", "m \"q\"\n", &pairs(&[("zeta", "1"), ("alpha", "\u{1b}")]));
        assert_eq!(line.lines().count(), 1);
        assert!(line.find("zeta") < line.find("alpha"));
        let back: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(back["message"], "m \"q\"\n");
        assert_eq!(back["alpha"], "\u{1b}");
    }

    #[test]
    fn long_values_are_cut_between_characters_and_say_so() {
        let cut = cut("ä".repeat(100), 9);
        assert_eq!(cut, "ääää… (192 more bytes)");
    }
}
