//! A workflow file without the values of its secrets, as replies and records have it.
//!
//! Only the characters of those values are replaced, so that comments and layout stay. An alias below
//! `secret_environment` makes a secret of what it repeats, wherever that stands.

use std::collections::HashSet;

use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::job::env::MASK;

/// The text in place of a file whose secrets cannot be told from the rest.
const HIDDEN: &str = "# joblet does not show this file: its secrets cannot be told from the rest\n";

/// A value of the file.
struct Scalar {
    /// Its characters in the text, from and to.
    span: (usize, usize),
    is_block: bool,
    value: String,
    secret: bool,
    /// The anchors around it.
    anchors: Vec<usize>,
}

/// An alias of the file.
struct Alias {
    anchor: usize,
    secret: bool,
    anchors: Vec<usize>,
}

/// A list or mapping that is open.
struct Frame {
    is_map: bool,
    key_is_next: bool,
    /// All values in it are secrets.
    secret: bool,
    /// The value of the last key is a secret.
    secret_key: bool,
    anchor: usize,
}

/// The file with each value below `secret_environment` as `***`, and whether it has any.
pub fn masked(text: &str) -> (String, bool) {
    let Some(secrets) = secrets(text) else { return (HIDDEN.to_owned(), true) };
    if secrets.is_empty() {
        return (text.to_owned(), false);
    }
    let mut found = String::with_capacity(text.len());
    let mut characters = text.chars().enumerate().peekable();
    for Scalar { span: (from, to), is_block, .. } in &secrets {
        while characters.peek().is_some_and(|(at, _)| at < from) {
            found.extend(characters.next().map(|(_, c)| c));
        }
        let mut gone = String::new();
        while characters.peek().is_some_and(|(at, _)| at < to) {
            gone.extend(characters.next().map(|(_, c)| c));
        }
        // The parser counts an anchor to its value, and aliases need it.
        if gone.starts_with('&') {
            found.extend(gone.chars().take_while(|c| !c.is_whitespace()));
            found.push(' ');
        }
        match is_block {
            true => found += MASK,
            false => found += &format!("\"{MASK}\""),
        }
        // It counts the blanks behind a value too, up to the next key.
        found += &gone[gone.trim_end().len()..];
    }
    found.extend(characters.map(|(_, c)| c));
    // Looked at again: a layout that is not understood shows nothing rather than a secret.
    match self::secrets(&found) {
        Some(left) if left.len() == secrets.len() && left.iter().all(|s| s.value.trim_end() == MASK) => {
            (found, true)
        }
        _ => (HIDDEN.to_owned(), true),
    }
}

/// The secret values in the order of the text; `None`: the text is no YAML.
fn secrets(text: &str) -> Option<Vec<Scalar>> {
    let (mut scalars, mut aliases): (Vec<Scalar>, Vec<Alias>) = (Vec::new(), Vec::new());
    let mut open: Vec<Frame> = Vec::new();
    for next in Parser::new_from_str(text) {
        let (event, span) = next.ok()?;
        let span = (span.start.index(), span.end.index());
        match event {
            Event::Scalar(value, style, anchor, _) => {
                let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                if let Some(secret) = stands(&mut open, Some(&value)) {
                    let anchors = around(&open, anchor);
                    let value = value.into_owned();
                    scalars.push(Scalar { span, is_block: block, value, secret, anchors });
                }
            }
            Event::Alias(anchor) => {
                if let Some(secret) = stands(&mut open, None) {
                    aliases.push(Alias { anchor, secret, anchors: around(&open, 0) });
                }
            }
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => {
                let secret = stands(&mut open, None).unwrap_or(false);
                let is_map = matches!(event, Event::MappingStart(..));
                open.push(Frame { is_map, key_is_next: is_map, secret, secret_key: false, anchor });
            }
            Event::SequenceEnd | Event::MappingEnd => drop(open.pop()),
            _ => {}
        }
    }
    let mut repeated: HashSet<usize> = HashSet::new();
    // An alias repeats what stands before it, so one way back through all of them finds what each leads to.
    for alias in aliases.iter().rev() {
        if alias.secret || alias.anchors.iter().any(|anchor| repeated.contains(anchor)) {
            repeated.insert(alias.anchor);
        }
    }
    // A key without a value has nothing to hide.
    let is_secret = |s: &Scalar| s.secret || s.anchors.iter().any(|anchor| repeated.contains(anchor));
    scalars.retain(|s| s.span.0 < s.span.1 && is_secret(s));
    Some(scalars)
}

/// Whether the next value is a secret; `None`: it is a key.
fn stands(open: &mut [Frame], word: Option<&str>) -> Option<bool> {
    let Some(frame) = open.last_mut() else { return Some(false) };
    if frame.is_map && frame.key_is_next {
        frame.key_is_next = false;
        frame.secret_key = word == Some("secret_environment");
        return None;
    }
    frame.key_is_next = frame.is_map;
    Some(frame.secret || frame.secret_key)
}

fn around(open: &[Frame], own: usize) -> Vec<usize> {
    open.iter().map(|frame| frame.anchor).chain([own]).filter(|anchor| *anchor != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::parse;

    #[test]
    fn values_of_secrets_are_masked_in_every_layout() {
        let text = "# head\nsecret_environment: {A: hunter2, 'B': \"hunter2 \\\" é\"}\njobs:\n  one:\n    command: x\n    \
                    environment: {P: plain}\n    secret_environment:\n      C: |\n        hunter2\n        hunter2\n      \
                    D: >-\n        hunter2\n\n        hunter2\n      E: hunter2\n        hunter2 # why\n      F: &f \
                    'hunter2'''\n      G: *f\n      H:\n  two: {command: y}\n";
        let (shown, has) = masked(text);
        assert!(has && !shown.contains("hunter2"), "{shown}");
        for kept in ["# head", "{P: plain}", "{A: \"***\", 'B': \"***\"}", "&f \"***\"", "two: {command: y}"]
        {
            assert!(shown.contains(kept), "{kept}: {shown}");
        }
        let (before, after) = (parse(text).unwrap(), parse(&shown).unwrap());
        assert_eq!((before.jobs.len(), after.jobs.len()), (2, 2));
        let names = |secrets: &[(String, crate::job::Secret)]| -> Vec<String> {
            secrets.iter().map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(names(&before.jobs[0].environment.secrets), names(&after.jobs[0].environment.secrets));
    }

    #[test]
    fn secrets_behind_aliases_are_masked_where_they_stand() {
        let text = "environment: &e {A: hunter2, L: &l other}\nsecret_environment: {B: *l}\njobs:\n  one:\n    command: x\n    \
                    secret_environment: *e\n";
        let (shown, _) = masked(text);
        assert!(!shown.contains("hunter2") && !shown.contains("other"), "{shown}");
    }

    #[test]
    fn file_without_secrets_stays_as_it_is() {
        let text = "jobs: {a: {command: 'secret_environment'}}";
        assert_eq!(masked(text), (text.to_owned(), false));
        assert_eq!(masked("a: ["), (HIDDEN.to_owned(), true));
    }
}
