//! The words that texts, tables and JSON share.

use nix::sys::signal::Signal;

use super::super::terminal::one_line;

/// The first eight characters of an id, as people say it.
pub(crate) fn short(uuid: &str) -> &str {
    uuid.get(..8).unwrap_or(uuid)
}

/// `9 (SIGKILL)`, or the number alone for signals without a name.
pub(crate) fn signal_name(signal: i32) -> String {
    match Signal::try_from(signal) {
        Ok(known) => format!("{signal} ({})", known.as_str()),
        Err(_) => signal.to_string(),
    }
}

/// Whether a job in this status has ended.
pub(crate) fn is_terminal_status(status: &str) -> bool {
    matches!(status, "COMPLETED" | "FAILED" | "STOPPED" | "CANCELED")
}

/// Whether a job in this status has an exit code: it ran, or it was about to.
pub(crate) fn has_exit_code(status: &str) -> bool {
    matches!(status, "COMPLETED" | "FAILED" | "STOPPED")
}

/// A network as texts have it.
pub(crate) fn network(mode: &str) -> &str {
    if mode == "host" { "host (shared with system)" } else { mode }
}

/// A command and its arguments as one would type them into a shell: words that need it are quoted, so that
/// it can be seen where one ends, and control characters become `$'...'`.
pub(crate) fn command_line(command: &str, args: &[String]) -> String {
    let words = std::iter::once(command).chain(args.iter().map(String::as_str));
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,~^".contains(c);
    if !word.is_empty() && word.chars().all(plain) && one_line(word) == word {
        return word.to_string();
    }
    if !word.chars().any(char::is_control) {
        return one_line(&format!("'{}'", word.replace('\'', r"'\''")));
    }
    let mut text = String::from("$'");
    for c in word.chars() {
        match c {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\'' | '\\' => text.extend(['\\', c]),
            c if c.is_control() && c.is_ascii() => text.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() => text.push_str(&format!("\\u{:04x}", c as u32)),
            c => text.push(c),
        }
    }
    text.push('\'');
    one_line(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_only_where_a_shell_would_need_it() {
        let line = |words: &[&str]| {
            let args: Vec<String> = words[1..].iter().map(|w| w.to_string()).collect();
            command_line(words[0], &args)
        };
        assert_eq!(line(&["python3", "script.py", "--n=3"]), "python3 script.py --n=3");
        assert_eq!(line(&["bash", "-c", "sleep 10 && echo done"]), "bash -c 'sleep 10 && echo done'");
        assert_eq!(line(&["printf", "", "it's", "$HOME", "größe"]), r"printf '' 'it'\''s' '$HOME' größe");
        assert_eq!(line(&["sh", "-c", "a\nb\t'\x1b[2J\\"]), r"sh -c $'a\nb\t\'\x1b[2J\\'");
        assert_eq!(line(&["x", "\u{9b}2J", "a\u{202e}b"]), r"x $'\u009b2J' 'a<U+202E>b'");
    }

    #[test]
    fn short_ids_survive_odd_servers() {
        assert_eq!(short("f47ac10b-58cc"), "f47ac10b");
        assert_eq!(short("0"), "0");
        assert_eq!(short("ééééé"), "éééé");
        assert_eq!(short("aéééé"), "aéééé");
    }

    #[test]
    fn signals_have_names() {
        assert_eq!(signal_name(9), "9 (SIGKILL)");
        assert_eq!(signal_name(64), "64");
    }
}
