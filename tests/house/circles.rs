//! No two files of one room import each other, neither at once nor in a circle of several.
//!
//! An import counts by the file in which the item is written: where a `mod.rs` passes it on (`pub use child::Item`), the
//! child. The imports of a `mod.rs` for its own code count as in every file, unlike items that it passes on and children
//! that it names as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::sources::{Source, sources};

/// One import: the path, and whether it is passed on.
struct Used {
    path: Vec<String>,
    is_passed_on: bool,
}

/// Every path that the `use` declarations of a text name, braces expanded: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn used_paths(code: &str) -> Vec<Used> {
    let mut all = Vec::new();
    for statement in code.split(';') {
        let words: Vec<&str> = statement.split_whitespace().collect();
        let Some(at) = words.iter().position(|word| *word == "use") else { continue };
        // A `use` in the middle of other code is one of a function, behind its brace.
        let tree = words[at + 1..].join(" ");
        let mut found = Vec::new();
        expand(&tree, &[], &mut found);
        let is_passed_on = words[..at].iter().any(|word| word.starts_with("pub"));
        all.extend(found.into_iter().map(|path| Used { path, is_passed_on }));
    }
    all
}

fn expand(tree: &str, above: &[String], found: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let (head, rest) = match tree.find('{') {
        Some(brace) => (&tree[..brace], Some(&tree[brace + 1..tree.rfind('}').unwrap_or(tree.len())])),
        None => (tree.split(" as ").next().unwrap_or(tree), None),
    };
    let mut path = above.to_vec();
    path.extend(head.split("::").map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned));
    let Some(rest) = rest else {
        found.push(path);
        return;
    };
    let (mut depth, mut start) = (0, 0);
    for (at, letter) in rest.char_indices().chain([(rest.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !rest[start..at].trim().is_empty() {
                    expand(&rest[start..at], &path, found);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// The module that a file is: `src/a/b.rs` and `src/a/b/mod.rs` are `a::b`.
fn module_of(path: &Path) -> Vec<String> {
    let below = path.strip_prefix("src").unwrap_or(path).with_extension("");
    let mut parts: Vec<String> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// The absolute module path of an import; `None` where it is another crate's.
fn absolute(
    from: &[String],
    path: &[String],
    modules: &BTreeMap<Vec<String>, PathBuf>,
) -> Option<Vec<String>> {
    let mut here = from.to_vec();
    let mut rest = path;
    match rest.first().map(String::as_str) {
        Some("crate") => {
            here.clear();
            rest = &rest[1..];
        }
        Some("self") => rest = &rest[1..],
        Some("super") => {
            while rest.first().is_some_and(|part| part == "super") {
                here.pop();
                rest = &rest[1..];
            }
        }
        Some(first) => {
            let child = [here.as_slice(), &[first.to_owned()]].concat();
            modules.get(&child)?;
        }
        None => return None,
    }
    Some([here.as_slice(), rest].concat())
}

/// For each file the files of its room that it imports from.
fn edges(files: &[Source]) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
    let modules: BTreeMap<_, _> = files.iter().map(|f| (module_of(&f.path), f.path.clone())).collect();
    let code = |f: &Source| f.code.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
    let uses: BTreeMap<_, _> = files.iter().map(|f| (f.path.clone(), used_paths(&code(f)))).collect();
    // The file in which the item behind a path is written, and whether the path names the file as a whole.
    let file_of = |path: &[String]| {
        let mut path = path.to_vec();
        for _ in 0..4 {
            let depth = (1..=path.len()).rev().find(|n| modules.contains_key(&path[..*n]))?;
            let file = &modules[&path[..depth]];
            let Some(item) = path.get(depth).filter(|item| file.ends_with("mod.rs") && *item != "*") else {
                return Some((file.clone(), path.len() == depth));
            };
            let Some(import) = uses[file].iter().find(|used| used.path.last() == Some(item)) else {
                return Some((file.clone(), false));
            };
            path = absolute(&path[..depth], &import.path, &modules)?;
        }
        None
    };
    let mut found: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for file in files {
        for used in &uses[&file.path] {
            let is_mod = file.path.ends_with("mod.rs");
            let Some(path) = absolute(&module_of(&file.path), &used.path, &modules) else { continue };
            let Some((target, is_whole)) = file_of(&path).filter(|(target, _)| *target != file.path) else {
                continue;
            };
            let puts_together = is_mod && (used.is_passed_on || is_whole);
            if puts_together || is_whole && target.ends_with("mod.rs") {
                continue;
            }
            let room = |path: &Path| path.iter().nth(1).map(ToOwned::to_owned);
            if room(&target) == room(&file.path) {
                found.entry(file.path.clone()).or_default().insert(target);
            }
        }
    }
    found
}

/// A circle that leads from a file back to it.
fn circle(start: &PathBuf, edges: &BTreeMap<PathBuf, BTreeSet<PathBuf>>) -> Option<Vec<PathBuf>> {
    let mut ways = vec![vec![start.clone()]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        for next in edges.get(way.last()?).into_iter().flatten() {
            if next == start {
                return Some(way);
            }
            if seen.insert(next.clone()) {
                ways.push([way.as_slice(), std::slice::from_ref(next)].concat());
            }
        }
    }
    None
}

#[test]
fn files_of_a_room_import_each_other_in_no_circle() {
    let mut files = sources(&["src"]);
    files.retain(|f| !f.path.ends_with("tests.rs") && !f.path.to_string_lossy().ends_with("_tests.rs"));
    let edges = edges(&files);
    assert!(edges.len() > 100, "imports are seen: {}", edges.len());
    let circles: BTreeSet<_> = edges
        .keys()
        .filter_map(|file| {
            let mut circle = circle(file, &edges)?;
            circle.sort();
            Some(circle)
        })
        .collect();
    assert_eq!(circles, BTreeSet::new());
}

#[test]
fn circle_through_a_passed_on_name_is_seen() {
    let source = |path: &str, code: &str| Source::of(path, code);
    let files = [
        source("src/a/mod.rs", "mod b; mod c; pub use b::B;"),
        source("src/a/b.rs", "use super::c::{C, D as E};"),
        source("src/a/c.rs", "use crate::a::B; #[cfg(test)] mod tests { use super::*; }"),
        source("src/a/d.rs", "use super::{b::B, c};"),
        source("src/a/e/mod.rs", "mod f; use f::F; pub(super) use f::G; struct Own;"),
        source("src/a/e/f.rs", "use super::Own;"),
        source("src/a/g/mod.rs", "mod h; pub use h::H; struct Own;"),
        source("src/a/g/h.rs", "use super::Own;"),
    ];
    let edges = edges(&files);
    assert_eq!(circle(&"src/a/b.rs".into(), &edges).map(|c| c.len()), Some(2));
    assert_eq!(circle(&"src/a/e/f.rs".into(), &edges).map(|c| c.len()), Some(2), "an item of a mod.rs");
    assert_eq!(circle(&"src/a/g/h.rs".into(), &edges), None, "passing on is no import");
    assert_eq!((circle(&"src/a/d.rs".into(), &edges), edges[Path::new("src/a/d.rs")].len()), (None, 2));
}
