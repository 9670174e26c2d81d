//! Patterns for names, as shells have them: `*` any characters, `?` one, `[a-z]` one of these, `[!a-z]` one of the
//! others. A pattern without any of them is the name itself.

/// Whether the whole name is of this pattern. The time is bounded by the product of both lengths.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut read) = (0, 0);
    // Behind the last `*`, and how much of the name it has taken so far.
    let mut star = None;
    while read < name.len() {
        if pattern.get(at) == Some(&'*') {
            at += 1;
            star = Some((at, read));
        } else if let Some(next) = one(&pattern, at, name[read]) {
            (at, read) = (next, read + 1);
        } else if let Some((behind, taken)) = star {
            star = Some((behind, taken + 1));
            (at, read) = (behind, taken + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

/// The place behind the part of the pattern at `at`, if that part takes this character.
fn one(pattern: &[char], at: usize, c: char) -> Option<usize> {
    match pattern.get(at)? {
        '?' => Some(at + 1),
        '[' => match set(pattern, at + 1) {
            Some((is_other, members, next)) => (contains(members, c) != is_other).then_some(next),
            // A bracket that is not closed stands for itself.
            None => (c == '[').then_some(at + 1),
        },
        own => (*own == c).then_some(at + 1),
    }
}

/// The characters between brackets, whether the others are meant, and the place behind the closing one. A `]` in
/// front is a member.
fn set(pattern: &[char], at: usize) -> Option<(bool, &[char], usize)> {
    let is_other = matches!(pattern.get(at), Some('!' | '^'));
    let first = at + usize::from(is_other);
    let close = first + 1 + pattern.get(first + 1..)?.iter().position(|c| *c == ']')?;
    Some((is_other, &pattern[first..close], close + 1))
}

fn contains(members: &[char], c: char) -> bool {
    let mut rest = members;
    while let Some((first, behind)) = rest.split_first() {
        match behind {
            ['-', last, ..] => {
                if (*first..=*last).contains(&c) {
                    return true;
                }
                rest = &behind[2..];
            }
            _ if *first == c => return true,
            _ => rest = behind,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_take_the_names_that_a_shell_would() {
        for (pattern, yes, no) in [
            ("nightly", vec!["nightly"], vec!["nightly2", "Nightly", ""]),
            ("train-*", vec!["train-", "train-7"], vec!["train", "xtrain-7"]),
            ("*", vec!["", "x"], vec![]),
            ("*-a*b", vec!["-ab", "x-a-ab", "--a/b"], vec!["-a", "ab"]),
            ("v?", vec!["v1", "v\u{4e16}"], vec!["v", "v10"]),
            ("v[0-36]", vec!["v0", "v3", "v6"], vec!["v4", "v-", "v"]),
            ("[!a-c]x", vec!["dx", "-x"], vec!["ax", "x"]),
            ("[]x]", vec!["]", "x"], vec!["[", "[]x]"]),
            ("a[b", vec!["a[b"], vec!["ab"]),
            ("[a-]", vec!["a", "-"], vec!["b"]),
        ] {
            for name in yes {
                assert!(matches(pattern, name), "{pattern} {name}");
            }
            for name in no {
                assert!(!matches(pattern, name), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        assert!(!matches(&"*a".repeat(1000), &"a".repeat(999)));
    }

    proptest! {
        #[test]
        fn a_name_without_pattern_characters_takes_only_itself(name in "[a-z ._-]{0,8}", other in "[a-z ._-]{0,8}") {
            prop_assert!(matches(&name, &name));
            prop_assert_eq!(matches(&name, &other), name == other);
        }

        #[test]
        fn no_pattern_makes_the_matching_panic(pattern in "[\\[\\]!^*?a-c-]{0,12}", name in "[a-c\\[\\]-]{0,8}") {
            let _ = matches(&pattern, &name);
        }
    }
}
