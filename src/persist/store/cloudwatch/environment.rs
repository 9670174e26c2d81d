//! The environment variables that the store looks at.

use std::collections::BTreeMap;

use crate::job::Secret;

/// A snapshot of the variables, which may hold credentials.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, Secret>);

impl Environment {
    /// The variables of this process that name AWS or the home directory.
    pub fn of_process() -> Environment {
        std::env::vars().filter(|(name, _)| name.starts_with("AWS_") || name == "HOME").collect()
    }

    /// The value of a variable; one that is empty counts as not set.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::expose).filter(|value| !value.is_empty())
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(pairs: T) -> Environment {
        Environment(pairs.into_iter().map(|(name, value)| (name.into(), Secret::new(value))).collect())
    }
}
