//! Environment of a job: which names and values are allowed, and secrets that cannot be printed.

use std::fmt;

use super::InvalidField;

/// A value that must never be shown: Debug and Display print `***`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The secret itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How secrets are stored: their names alone.
pub(super) mod names_only {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Secret;

    pub(crate) fn serialize<S: Serializer>(pairs: &[(String, Secret)], to: S) -> Result<S::Ok, S::Error> {
        pairs.iter().map(|(name, _)| name).collect::<Vec<_>>().serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, Secret)>, D::Error> {
        let names = Vec::<String>::deserialize(from)?;
        Ok(names.into_iter().map(|name| (name, Secret::default())).collect())
    }
}

/// The text shown in place of a secret's value.
pub const MASK: &str = "***";

/// Longest name of a variable, in bytes.
pub const MAX_NAME: usize = 256;
/// Longest value of a variable, in bytes.
pub const MAX_VALUE: usize = 32_768;

/// Checks one variable of a request.
///
/// # Errors
/// An empty or too long name, `=` or NUL in it, a name that joblet reserves (`JOB_*`, `JOBLET_*`), a value
/// with NUL or longer than [`MAX_VALUE`]. The text never contains the value.
pub fn check(name: &str, value: &str) -> Result<(), InvalidField> {
    let shown = name.escape_debug();
    let wrong =
        |why: &str| Err(InvalidField::new(format!("invalid environment variable name \"{shown}\": {why}")));
    if name.is_empty() {
        return wrong("it is empty");
    }
    if name.len() > MAX_NAME {
        return Err(InvalidField::new(format!(
            "invalid environment variable name: it has {} bytes, at most {MAX_NAME} are allowed",
            name.len()
        )));
    }
    if name.contains('=') {
        return wrong("it contains '='");
    }
    if name.contains('\0') {
        return wrong("it contains a NUL byte");
    }
    if name.starts_with("JOB_") || name.starts_with("JOBLET_") {
        return wrong("names starting with JOB_ or JOBLET_ are set by joblet itself; choose another name");
    }
    if value.contains('\0') {
        return Err(InvalidField::new(format!(
            "environment variable \"{shown}\": the value contains a NUL byte"
        )));
    }
    if value.len() > MAX_VALUE {
        return Err(InvalidField::new(format!(
            "environment variable \"{shown}\": value is too long ({} bytes, max {MAX_VALUE})",
            value.len()
        )));
    }
    Ok(())
}

/// Whether a plain variable's name says that its value is a secret, which rnx then hides in its texts:
/// prefix `SECRET_`, suffix `_TOKEN`, `_KEY`, `_PASSWORD` or `_SECRET`.
pub fn looks_secret(name: &str) -> bool {
    name.starts_with("SECRET_")
        || ["_TOKEN", "_KEY", "_PASSWORD", "_SECRET"].iter().any(|s| name.ends_with(s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_stars() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn hostile_variables_are_refused_and_loader_variables_are_not() {
        for bad in ["", "A=B", "A\0", "JOB_ID", "JOBLET_MODE"] {
            assert!(check(bad, "x").is_err(), "{bad:?}");
        }
        assert!(check("A", "x\0y").is_err());
        assert!(check("A", &"x".repeat(MAX_VALUE + 1)).is_err());
        for good in ["LD_PRELOAD", "PATH", "a.b", "_"] {
            assert!(check(good, "line\nbreak").is_ok(), "{good}");
        }
    }

    #[test]
    fn an_error_about_a_value_does_not_show_it() {
        let error = check("TOKEN", "hun\0ter2").unwrap_err().to_string();
        assert!(!error.contains("ter2"), "{error}");
    }
}
