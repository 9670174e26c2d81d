//! "Did you mean": the nearest known word within two edits.

use crate::config::edit_distance::edits;

/// The candidate that differs from `typed` by at most two edits (one for words of up to three letters), or by
/// nothing but case and the marks `-` and `_`.
pub(super) fn nearest<'a>(typed: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // No known word is that long, and a row of the edits has the length of the word.
    if typed.len() > 64 {
        return None;
    }
    let plain = letters(typed);
    let allowed = if plain.len() <= 3 { 1 } else { 2 };
    candidates
        .filter(|c| c.len() <= 64)
        .map(|c| (edits(&plain, &letters(c)), c))
        .filter(|(d, _)| *d <= allowed)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

fn letters(word: &str) -> Vec<char> {
    word.chars().filter(|c| !"-_".contains(*c)).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_marks_and_two_edits_are_forgiven_and_noise_is_not() {
        let known = ["max_memory", "max_io_bps", "requires", "env"];
        let find = |word: &str| nearest(word, known.iter().copied());
        assert_eq!(find("maxMemory"), Some("max_memory"));
        assert_eq!(find("max_iobps"), Some("max_io_bps"));
        assert_eq!(find("reqiures"), Some("requires"));
        assert_eq!(find("banana"), None);
        assert_eq!(find(&"m".repeat(100_000)), None);
    }
}
