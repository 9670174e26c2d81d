//! The refusals of a workflow file. Each says where and, if one is near, the word that was meant.

use std::fmt;

use super::nearest::nearest;

/// A place in a file, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The line of the file.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// The reason why a workflow file is refused. Texts from the file are escaped; values of secrets never occur.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkflowError {
    /// Reading the text as YAML, within its bounds.
    #[error("{at}: {why}")]
    ReadYaml {
        /// Where it stops being a workflow file.
        at: Place,
        /// The rule that is broken.
        why: String,
    },
    /// Finding the meaning of a key.
    #[error("{at}: {why}")]
    FindKey {
        /// The place of the key.
        at: Place,
        /// The key, and the nearest known one or the keys that exist.
        why: String,
    },
    /// Taking the value of a key.
    #[error("{at}: {why}")]
    TakeValue {
        /// The place of the value.
        at: Place,
        /// The key and the rule.
        why: String,
    },
    /// Finding the job that another one waits for.
    #[error("{at}: job '{job}' depends on non-existent job '{missing}'{hint}")]
    FindJob {
        /// The place of the name.
        at: Place,
        /// The job that waits.
        job: String,
        /// The name that no job has.
        missing: String,
        /// The nearest name, or nothing.
        hint: String,
    },
    /// Putting the jobs in order.
    #[error("{at}: circular dependency detected: {}", cycle.join(" -> "))]
    OrderJobs {
        /// The place of the first job of the circle.
        at: Place,
        /// The jobs of the circle; the first one also stands at the end. A long circle is shortened.
        cycle: Vec<String>,
    },
}

impl WorkflowError {
    pub(super) fn yaml(at: Place, why: impl Into<String>) -> Self {
        WorkflowError::ReadYaml { at, why: why.into() }
    }

    pub(super) fn value(at: Place, why: impl Into<String>) -> Self {
        WorkflowError::TakeValue { at, why: why.into() }
    }

    /// The refusal of a key, with the nearest of `known` or all of them.
    pub(super) fn key(at: Place, key: &str, of: &str, known: &[&str]) -> Self {
        let shown = shown(key);
        let why = match nearest(key, known.iter().copied()) {
            Some(near) => format!("unknown key \"{shown}\" in {of}; did you mean \"{near}\"?"),
            None => format!("unknown key \"{shown}\" in {of}; it has {}", known.join(", ")),
        };
        WorkflowError::FindKey { at, why }
    }
}

/// A text of the file for a message: escaped and at most 64 characters.
pub(super) fn shown(text: &str) -> String {
    let short: String = text.chars().take(64).collect();
    let more = if short.len() < text.len() { "..." } else { "" };
    format!("{}{more}", short.escape_debug())
}
