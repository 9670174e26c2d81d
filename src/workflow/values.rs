//! Values of a workflow file in the shapes that its keys take: mappings with known keys, texts, lists, variables.

use std::collections::HashSet;
use std::fmt::Display;

use super::environment::{self, Environment};
use super::error::{Place, WorkflowError, shown};
use super::yaml::{Key, Link, Node, Value};
use crate::job::Secret;

/// The keys of a mapping, all of them known.
pub(super) fn fields<'t>(
    node: &'t Node,
    of: &dyn Display,
    known: &[&str],
    elsewhere: &[(&str, &str)],
) -> Result<&'t [(Key, Link)], WorkflowError> {
    let Value::Map(entries) = &node.value else {
        return Err(WorkflowError::value(
            node.at,
            format!("{of} is a mapping with the keys {}", known.join(", ")),
        ));
    };
    for (key, _) in entries {
        if known.contains(&key.text.as_str()) {
            continue;
        }
        return Err(match elsewhere.iter().find(|(word, _)| *word == key.text) {
            Some((word, instead)) => WorkflowError::FindKey {
                at: key.at,
                why: format!("unknown key \"{word}\" in {of}: {instead}"),
            },
            None => WorkflowError::key(key.at, &key.text, &of.to_string(), known),
        });
    }
    Ok(entries)
}

/// A text; null is the empty one.
pub(super) fn string(key: &Key, node: &Node) -> Result<String, WorkflowError> {
    match &node.value {
        Value::Scalar(text) => Ok(text.clone()),
        Value::Null => Ok(String::new()),
        _ => Err(WorkflowError::value(
            node.at,
            format!("{}: is a single value, not a list or mapping", shown(&key.text)),
        )),
    }
}

/// A text of at most so many bytes.
pub(super) fn bounded(key: &Key, node: &Node, most: usize) -> Result<String, WorkflowError> {
    let text = string(key, node)?;
    if text.len() > most {
        let why = format!("{}: it has {} bytes, at most {most} are allowed", key.text, text.len());
        return Err(WorkflowError::value(node.at, why));
    }
    Ok(text)
}

/// A list of texts; null is the empty one.
pub(super) fn strings(key: &Key, node: &Node) -> Result<Vec<String>, WorkflowError> {
    match &node.value {
        Value::List(items) => items.iter().map(|item| string(key, item)).collect(),
        Value::Null => Ok(Vec::new()),
        _ => Err(WorkflowError::value(node.at, format!("{}: is a list", shown(&key.text)))),
    }
}

/// Names and values of `environment` or `secret_environment`.
pub(super) fn variables(key: &Key, node: &Node) -> Result<Vec<(String, String)>, WorkflowError> {
    let entries = match &node.value {
        Value::Map(entries) => entries,
        Value::Null => return Ok(Vec::new()),
        _ => {
            return Err(WorkflowError::value(
                node.at,
                format!("{}: is a mapping from names to values", key.text),
            ));
        }
    };
    let mut found = Vec::with_capacity(entries.len());
    for (name, node) in entries {
        let value = string(name, node)?;
        environment::check(&name.text, &value).map_err(|why| WorkflowError::value(name.at, why))?;
        found.push((name.text.clone(), value));
    }
    Ok(found)
}

/// Plain and secret variables of one level; none has both kinds.
pub(super) fn together(
    at: Place,
    plain: Vec<(String, String)>,
    secrets: Vec<(String, String)>,
) -> Result<Environment, WorkflowError> {
    let names: HashSet<&str> = plain.iter().map(|(name, _)| name.as_str()).collect();
    if let Some((name, _)) = secrets.iter().find(|(name, _)| names.contains(name.as_str())) {
        let why = format!("the variable \"{}\" stands in environment and in secret_environment", shown(name));
        return Err(WorkflowError::value(at, why));
    }
    let secrets = secrets.into_iter().map(|(name, value)| (name, Secret::new(value))).collect();
    Ok(Environment { plain, secrets })
}
