//! Old names of keys. They are replaced in the YAML tree before anything reads it, so that the rest of the
//! room, its warnings and the effective configuration know the new names only.

use serde_yaml::{Mapping, Value};

/// An old key and its new name. Both are paths of sections and a key, and both lie in the same section.
pub(super) type Alias = (&'static str, &'static str);

/// Every old name of a key in the daemon's file.
pub(super) const DAEMON: &[Alias] = &[("joblet.readyBerths", "joblet.warmSandboxes")];

/// Renames the old keys of `tree`. Returns whether it found one.
///
/// # Errors
/// The file has both names of one key; the text names both.
pub(super) fn rename(tree: &mut Value, aliases: &[Alias]) -> Result<bool, String> {
    let mut renamed = false;
    for (old, new) in aliases {
        let (sections, old_key) = split(old);
        let (_, new_key) = split(new);
        let Some(section) = section(tree, sections) else { continue };
        if !section.contains_key(old_key) {
            continue;
        }
        if section.contains_key(new_key) {
            return Err(format!("{old} is the old name of {new}, and the file has both; remove {old}"));
        }
        replace(section, old_key, new_key);
        renamed = true;
    }
    Ok(renamed)
}

/// The path of the section and the key's own name.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

/// The mapping at a path of sections; `None` where the file has no such section, or an empty one.
fn section<'t>(tree: &'t mut Value, path: &str) -> Option<&'t mut Mapping> {
    let mut at = tree;
    for name in path.split('.').filter(|name| !name.is_empty()) {
        at = at.get_mut(name)?;
    }
    at.as_mapping_mut()
}

/// Gives a key another name, in its place: warnings come in the order of the file.
fn replace(section: &mut Mapping, old: &str, new: &str) {
    let pairs = std::mem::take(section);
    let renamed = pairs.into_iter().map(|(key, value)| {
        let key = if key.as_str() == Some(old) { Value::from(new) } else { key };
        (key, value)
    });
    *section = renamed.collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALIASES: &[Alias] = &[("a.b.old", "a.b.new"), ("first", "second")];

    fn renamed(text: &str) -> Result<(bool, Value), String> {
        let mut tree = serde_yaml::from_str(text).unwrap();
        rename(&mut tree, ALIASES).map(|found| (found, tree))
    }

    #[test]
    fn old_keys_are_renamed_in_their_place() {
        let (found, tree) = renamed("first: 1\na: {b: {x: 1, old: 2, y: 3}}").unwrap();
        assert!(found);
        let expected = "second: 1\na:\n  b:\n    x: 1\n    new: 2\n    y: 3\n";
        assert_eq!(serde_yaml::to_string(&tree).unwrap(), expected);
    }

    #[test]
    fn both_names_of_a_key_are_refused_by_name() {
        let error = renamed("a: {b: {old: 2, new: 2}}").unwrap_err();
        assert_eq!(error, "a.b.old is the old name of a.b.new, and the file has both; remove a.b.old");
    }

    #[test]
    fn files_without_old_keys_are_left_alone() {
        for text in ["", "a:", "a: 5", "a: [old]", "old: 1", "a: {b: {new: 1}}", "[1, 2]"] {
            let before: Value = serde_yaml::from_str(text).unwrap();
            assert_eq!(renamed(text), Ok((false, before)), "{text}");
        }
    }

    #[test]
    fn both_names_of_each_daemon_key_lie_in_one_section() {
        for (old, new) in DAEMON {
            assert_eq!(split(old).0, split(new).0, "{old}");
        }
    }
}
