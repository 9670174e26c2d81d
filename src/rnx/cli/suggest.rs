//! "Did you mean": the nearest known word within two edits. A word that ends or deletes something is never offered:
//! a hint is repeated without a second look, and a typing error is no wish to lose a job.

use crate::config::edit_distance::edits;

/// The last words of commands, and flags, that end or delete something.
const DESTRUCTIVE: [&str; 6] = ["stop", "cancel", "delete", "delete-all", "rm", "yes"];

/// The candidate that differs from `typed` by at most two edits (one for words of up to three letters).
pub(crate) fn nearest<'a>(typed: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = if typed.chars().count() <= 3 { 1 } else { 2 };
    // The bound keeps absurdly long words cheap: nothing that long is near a known one.
    if typed.len() > 64 {
        return None;
    }
    let letters = |word: &str| word.chars().collect::<Vec<char>>();
    let wanted = letters(typed);
    candidates
        .map(|c| (edits(&wanted, &letters(c)), c))
        .filter(|(d, _)| *d <= allowed)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
        // Nor the next best instead: it is not what was meant.
        .filter(|c| !is_destructive(c))
}

/// Whether a command or a flag ends or deletes something.
pub(super) fn is_destructive(name: &str) -> bool {
    name.rsplit(' ').next().is_some_and(|last| DESTRUCTIVE.contains(&last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_error_finds_its_word_and_noise_does_not() {
        let known = ["max-memory", "max-cpu", "env", "name"];
        let find = |w| nearest(w, known.iter().copied());
        assert_eq!(find("max-memroy"), Some("max-memory"));
        assert_eq!(find("maxcpu"), Some("max-cpu"));
        assert_eq!(find("nev"), Some("env"));
        assert_eq!(find("gpu"), None);
        assert_eq!(find("schedule"), None);
        assert_eq!(find(&"n".repeat(100_000)), None);
    }

    #[test]
    fn no_typing_error_is_answered_with_a_destructive_word() {
        let known =
            ["job status", "job stop", "job delete", "job delete-all", "job cancel", "rm", "raw", "yes"];
        for typed in
            ["job stpo", "job stop", "job delet", "job delte", "job delete-al", "job cancle", "rn", "yse"]
        {
            assert_eq!(nearest(typed, known.into_iter()), None, "{typed}");
        }
        assert_eq!(nearest("job statsu", known.into_iter()), Some("job status"));
    }
}
