//! YAML into a tree that knows the place of every value, within bounds that hold before memory is taken.
//!
//! Aliases share what they repeat, and each repetition counts as if it were written out: ten lines that stand for a
//! billion values are refused at the first value too many.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use super::error::{Place, WorkflowError, shown};

/// Longest workflow file in bytes.
pub const MAX_TEXT: usize = 8 << 20;
/// Most values of a file, aliases written out.
const MAX_VALUES: usize = 1_000_000;
/// Most bytes of all values, aliases written out.
const MAX_BYTES: usize = 16 << 20;
/// Most keys of a mapping that are compared one by one; nearly every mapping has fewer.
const FEW: usize = 16;
/// Deepest nesting of lists and mappings; a workflow needs six.
const MAX_DEPTH: usize = 32;

/// A value and its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: Place,
    pub(super) value: Value,
}

/// A value where it stands: its own, or one that aliases repeat.
#[derive(Debug)]
pub(super) enum Link {
    Own(Node),
    Shared(Rc<Node>),
}

impl Deref for Link {
    type Target = Node;

    fn deref(&self) -> &Node {
        match self {
            Link::Own(node) => node,
            Link::Shared(node) => node,
        }
    }
}

/// A value of the tree. Scalars keep their text: `no` is the word, not a truth value.
#[derive(Debug)]
pub(super) enum Value {
    /// An empty plain scalar, `~` or `null`.
    Null,
    Scalar(String),
    List(Vec<Link>),
    Map(Vec<(Key, Link)>),
}

/// A key of a mapping and its place.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) at: Place,
    pub(super) text: String,
}

/// The size of a value with its aliases written out.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    values: usize,
    bytes: usize,
}

impl Weight {
    fn add(&mut self, other: Weight) {
        self.values = self.values.saturating_add(other.values);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// A list or mapping whose end has not come.
struct Open {
    at: Place,
    anchor: usize,
    weight: Weight,
    inside: Inside,
}

enum Inside {
    List(Vec<Link>),
    Map {
        entries: Vec<(Key, Link)>,
        /// All keys, once there are more than [`FEW`].
        seen: HashSet<String>,
        key: Option<Key>,
    },
}

/// The tree under construction.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, (Rc<Node>, Weight)>,
    total: Weight,
    root: Option<Link>,
}

/// Reads one document.
///
/// # Errors
/// No YAML, more than one document, a key twice, a tag, a key that is no word, or more than a bound allows.
pub(super) fn read(text: &str) -> Result<Link, WorkflowError> {
    let start = Place { line: 1, column: 1 };
    if text.len() > MAX_TEXT {
        let why = format!("the file has more than {MAX_TEXT} bytes");
        return Err(WorkflowError::yaml(start, why));
    }
    let mut builder = Builder::default();
    let mut documents = 0;
    for next in Parser::new_from_str(text) {
        let (event, span) = next.map_err(|e| WorkflowError::yaml(place(e.marker()), shown(e.info())))?;
        let at = place(&span.start);
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
            if documents > 1 {
                return Err(WorkflowError::yaml(at, "a second document begins; one file is one workflow"));
            }
        }
        builder.take(event, at)?;
    }
    builder.root.ok_or_else(|| WorkflowError::yaml(start, "the file is empty; it has no jobs"))
}

fn place(marker: &Marker) -> Place {
    Place { line: marker.line(), column: marker.col() + 1 }
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: Place) -> Result<(), WorkflowError> {
        let no_tag = |tagged: bool| match tagged {
            true => Err(WorkflowError::yaml(at, "tags (!name) are not supported")),
            false => Ok(()),
        };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                no_tag(tag.is_some())?;
                let null = style == ScalarStyle::Plain && ["", "~", "null"].contains(&&*text);
                let weight = Weight { values: 1, bytes: text.len() };
                self.count(at, weight)?;
                if !null && anchor == 0 && self.wants_key() {
                    return self.put_key(at, text.into_owned(), weight);
                }
                let value = if null { Value::Null } else { Value::Scalar(text.into_owned()) };
                self.put(Node { at, value }, weight, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                no_tag(tag.is_some())?;
                self.begin(at, anchor, Inside::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                no_tag(tag.is_some())?;
                self.begin(at, anchor, Inside::Map { entries: Vec::new(), seen: HashSet::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let Some((node, weight)) = self.anchors.get(&anchor).cloned() else {
                    return Err(WorkflowError::yaml(at, "an alias stands inside the value that it repeats"));
                };
                self.count(at, weight)?;
                self.link(Link::Shared(node), weight)
            }
            _ => Ok(()),
        }
    }

    fn count(&mut self, at: Place, weight: Weight) -> Result<(), WorkflowError> {
        self.total.add(weight);
        if self.total.values > MAX_VALUES {
            let why = format!("more than {MAX_VALUES} values, with aliases written out");
            return Err(WorkflowError::yaml(at, why));
        }
        if self.total.bytes > MAX_BYTES {
            let why = format!("more than {MAX_BYTES} bytes of values, with aliases written out");
            return Err(WorkflowError::yaml(at, why));
        }
        Ok(())
    }

    fn begin(&mut self, at: Place, anchor: usize, inside: Inside) -> Result<(), WorkflowError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(WorkflowError::yaml(at, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let weight = Weight { values: 1, bytes: 0 };
        self.count(at, weight)?;
        self.open.push(Open { at, anchor, weight, inside });
        Ok(())
    }

    fn end(&mut self) -> Result<(), WorkflowError> {
        let Some(Open { at, anchor, weight, inside }) = self.open.pop() else { return Ok(()) };
        let value = match inside {
            Inside::List(items) => Value::List(items),
            Inside::Map { entries, .. } => Value::Map(entries),
        };
        self.put(Node { at, value }, weight, anchor)
    }

    /// Adds a whole value, which aliases may repeat where it has an anchor.
    fn put(&mut self, node: Node, weight: Weight, anchor: usize) -> Result<(), WorkflowError> {
        if anchor == 0 {
            return self.link(Link::Own(node), weight);
        }
        let node = Rc::new(node);
        self.anchors.insert(anchor, (Rc::clone(&node), weight));
        self.link(Link::Shared(node), weight)
    }

    /// Adds a whole value to what is open: an item, a key, or the value of the key before it.
    fn link(&mut self, node: Link, weight: Weight) -> Result<(), WorkflowError> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.inside {
            Inside::List(items) => items.push(node),
            Inside::Map { entries, key, .. } => match key.take() {
                Some(key) => entries.push((key, node)),
                None => {
                    let Value::Scalar(text) = &node.value else {
                        return Err(WorkflowError::yaml(node.at, "a key is a word here"));
                    };
                    return self.put_key(node.at, text.clone(), weight);
                }
            },
        }
        open.weight.add(weight);
        Ok(())
    }

    /// Whether a key of a mapping comes next.
    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { inside: Inside::Map { key: None, .. }, .. }))
    }

    /// Adds a key to the mapping that is open.
    fn put_key(&mut self, at: Place, text: String, weight: Weight) -> Result<(), WorkflowError> {
        let Some(Open { weight: whole, inside: Inside::Map { entries, seen, key }, .. }) =
            self.open.last_mut()
        else {
            return Ok(());
        };
        let is_known = if entries.len() <= FEW {
            entries.iter().any(|(known, _)| known.text == text)
        } else {
            if seen.is_empty() {
                seen.extend(entries.iter().map(|(known, _)| known.text.clone()));
            }
            !seen.insert(text.clone())
        };
        if is_known {
            return Err(WorkflowError::yaml(at, format!("the key \"{}\" stands twice", shown(&text))));
        }
        whole.add(weight);
        *key = Some(Key { at, text });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn refusal(text: &str) -> String {
        let begun = Instant::now();
        let error = read(text).unwrap_err().to_string();
        assert!(begun.elapsed() < Duration::from_secs(20), "{error} after {:?}", begun.elapsed());
        error
    }

    #[test]
    fn billion_laughs_are_refused_at_the_bound() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let below = format!("*a{}", level - 1);
            text += &format!("a{level}: &a{level} [{}]\n", vec![below; 10].join(", "));
        }
        assert_eq!(refusal(&text), "line 6, column 45: more than 1000000 values, with aliases written out");
        let long = "x".repeat(100_000);
        let text = format!("a: &a {long}\nb: [{}]", vec!["*a"; 1000].join(", "));
        assert!(refusal(&text).contains("bytes of values, with aliases written out"));
    }

    #[test]
    fn oversized_deep_and_broken_files_are_refused_with_a_place() {
        assert!(refusal(&" ".repeat(MAX_TEXT + 1)).starts_with("line 1, column 1: the file has"));
        for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
            let error = refusal(&text);
            assert!(error.contains("line 1, column "), "{error}");
        }
        assert_eq!(refusal("a: 1\nb: 2\na: 3"), "line 3, column 1: the key \"a\" stands twice");
        let many: String = (0..3 * FEW).map(|n| format!("k{n}: {n}\n")).collect();
        for twice in [0, 1, FEW - 1, FEW, FEW + 1, 3 * FEW - 1] {
            let error = refusal(&format!("{many}k{twice}: again"));
            assert_eq!(error, format!("line {}, column 1: the key \"k{twice}\" stands twice", 3 * FEW + 1));
        }
        assert!(refusal("&a k: 1\n*a : 2").contains("the key \"k\" stands twice"));
        assert!(refusal("a: &a [*a]").contains("an alias stands inside"));
        assert!(refusal("a: !!binary aGk=").contains("tags"));
        assert!(refusal("a: 1\n---\nb: 1").contains("a second document begins"));
        assert!(refusal("? [a]\n: 1").contains("a key is a word here"));
        assert!(refusal("").contains("empty"));
    }

    #[test]
    fn words_keep_their_text() {
        let Value::Map(entries) = &read("a: no\nb: 010\nc: '~'\nd: ~\ne:").unwrap().value else { panic!() };
        let texts: Vec<_> = entries
            .iter()
            .map(|(_, node)| match &node.value {
                Value::Scalar(text) => text.as_str(),
                _ => "(null)",
            })
            .collect();
        assert_eq!(texts, ["no", "010", "~", "(null)", "(null)"]);
        assert_eq!((entries[1].0.at.line, entries[1].1.at.column), (2, 4));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "[a-c:\\-\\[\\]{}&*!?|>'\"#%~, \n\t\r\u{e9}]{0,120}") {
            let _ = read(&text);
        }
    }
}
