//! Runtimes by name: the name of one, its version, and the texts by which clients ask for one.
//!
//! [`RuntimeSpec`] is what a client asks for, [`RuntimeId`] the one version that this comes to, which jobs and records hold.
//! Names and versions are names of directories, so their rules leave nothing that could lead elsewhere.

mod version;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::InvalidField;
pub use version::Version;

/// Longest name of a runtime.
const LONGEST_NAME: usize = 63;
/// The word for the highest version that is installed.
const LATEST: &str = "latest";

/// The name of a runtime: 1 to 63 small letters, digits, `-` and `.`, a letter or a digit first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RuntimeName(String);

impl RuntimeName {
    /// The name as text. It can be the name of a directory: it is never empty, `.` or `..`, and has no `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuntimeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RuntimeName {
    type Err = InvalidField;

    fn from_str(name: &str) -> Result<Self, InvalidField> {
        let no = |why: &str| {
            Err(InvalidField::new(format!("\"{}\" cannot be the name of a runtime: {why}", shown(name))))
        };
        if name.is_empty() || name.len() > LONGEST_NAME {
            return no("it must have 1 to 63 characters");
        }
        if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.') {
            return no("it may have small letters, digits, '-' and '.' only");
        }
        if !name.as_bytes()[0].is_ascii_alphanumeric() {
            return no("it must begin with a letter or a digit");
        }
        Ok(RuntimeName(name.to_owned()))
    }
}

impl TryFrom<String> for RuntimeName {
    type Error = InvalidField;

    fn try_from(name: String) -> Result<Self, InvalidField> {
        name.parse()
    }
}

impl From<RuntimeName> for String {
    fn from(name: RuntimeName) -> String {
        name.0
    }
}

/// The beginning of a text, for an error, without control characters.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(LONGEST_NAME).collect();
    if shown.len() < text.len() {
        shown += "...";
    }
    shown.escape_debug().to_string()
}

/// One version of a runtime. Its text, `NAME@VERSION`, is stored and stands in messages.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RuntimeId {
    /// The name of the runtime.
    pub name: RuntimeName,
    /// The version of the runtime.
    pub version: Version,
}

impl fmt::Display for RuntimeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

impl FromStr for RuntimeId {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, InvalidField> {
        let Some((name, version)) = text.split_once('@') else {
            let text = shown(text);
            return Err(InvalidField::new(format!(
                "\"{text}\" names no version of a runtime (NAME@VERSION)"
            )));
        };
        Ok(RuntimeId { name: name.parse()?, version: version.parse()? })
    }
}

impl TryFrom<String> for RuntimeId {
    type Error = InvalidField;

    fn try_from(text: String) -> Result<Self, InvalidField> {
        text.parse()
    }
}

impl From<RuntimeId> for String {
    fn from(id: RuntimeId) -> String {
        id.to_string()
    }
}

/// The version that a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The highest one.
    Latest,
    /// Exactly this version.
    Exactly(Version),
}

/// A runtime as clients ask for it:
///
/// | text | means |
/// |---|---|
/// | `python-3.11-ml`, `python-3.11-ml@latest` | the highest version of that name |
/// | `python-3.11-ml@1.3.1` | that version |
/// | `python:3.11-ml`, `python:3.11+ml` | the older way to write `python-3.11-ml` |
///
/// Nothing is guessed: `python` does not name `python-3.11`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RuntimeSpec {
    /// The name of the runtime.
    pub name: RuntimeName,
    /// The version of the runtime.
    pub version: Wanted,
}

impl RuntimeSpec {
    /// The parts of the name that the older notation tells apart: the language, its version, the variants.
    pub fn parts(&self) -> (&str, &str, Vec<&str>) {
        let mut parts = self.name.as_str().split('-');
        let language = parts.next().unwrap_or_default();
        let mut rest = parts.peekable();
        let version = match rest.peek() {
            Some(part) if part.as_bytes().first().is_some_and(u8::is_ascii_digit) => rest.next(),
            _ => None,
        };
        (language, version.unwrap_or_default(), rest.collect())
    }
}

impl fmt::Display for RuntimeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Wanted::Latest => write!(f, "{}@{LATEST}", self.name),
            Wanted::Exactly(version) => write!(f, "{}@{version}", self.name),
        }
    }
}

impl TryFrom<String> for RuntimeSpec {
    type Error = InvalidField;

    fn try_from(text: String) -> Result<Self, InvalidField> {
        text.parse()
    }
}

impl From<RuntimeSpec> for String {
    fn from(spec: RuntimeSpec) -> String {
        spec.to_string()
    }
}

impl From<RuntimeId> for RuntimeSpec {
    fn from(id: RuntimeId) -> RuntimeSpec {
        RuntimeSpec { name: id.name, version: Wanted::Exactly(id.version) }
    }
}

impl FromStr for RuntimeSpec {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, InvalidField> {
        let (name, version) = match text.split_once('@') {
            None => (text, None),
            Some((name, version)) => (name, Some(version)),
        };
        let name = match name.split_once(':') {
            None => name.parse()?,
            Some((language, rest)) if !language.is_empty() && !rest.is_empty() && !rest.contains(':') => {
                format!("{language}-{}", rest.replace('+', "-")).parse()?
            }
            Some(_) => {
                return Err(InvalidField::new(format!(
                    "\"{}\" names no runtime; write NAME, NAME@VERSION or LANGUAGE:VERSION[-VARIANT]",
                    shown(text)
                )));
            }
        };
        let version = match version {
            None | Some(LATEST) => Wanted::Latest,
            Some(version) => Wanted::Exactly(version.parse()?),
        };
        Ok(RuntimeSpec { name, version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_runtimes_are_names_of_directories() {
        for name in ["python-3.11-ml", "openjdk-21", "a", "0", "graalvmjdk-21", &"n".repeat(63)] {
            assert_eq!(name.parse::<RuntimeName>().unwrap().as_str(), name);
        }
        for (name, why) in [
            ("", "1 to 63 characters"),
            (&*"n".repeat(64), "1 to 63 characters"),
            (".layers", "begin with"),
            ("..", "begin with"),
            ("-a", "begin with"),
            ("a/b", "small letters"),
            ("Python", "small letters"),
            ("a b\n", "small letters"),
        ] {
            let said = name.parse::<RuntimeName>().unwrap_err().0;
            assert!(said.contains(why) && said.contains("cannot be the name of a runtime"), "{name}: {said}");
        }
        assert!("x".repeat(1 << 20).parse::<RuntimeName>().unwrap_err().0.len() < 200);
    }

    #[test]
    fn both_notations_name_the_same_runtime() {
        for (text, name, shown) in [
            ("python-3.11-ml", "python-3.11-ml", "python-3.11-ml@latest"),
            ("python-3.11-ml@latest", "python-3.11-ml", "python-3.11-ml@latest"),
            ("python-3.11-ml@1.3.1", "python-3.11-ml", "python-3.11-ml@1.3.1"),
            ("python:3.11-ml", "python-3.11-ml", "python-3.11-ml@latest"),
            ("python:3.11+ml+gpu", "python-3.11-ml-gpu", "python-3.11-ml-gpu@latest"),
            ("openjdk:21@1.0.0-rc.1", "openjdk-21", "openjdk-21@1.0.0-rc.1"),
        ] {
            let spec: RuntimeSpec = text.parse().unwrap();
            assert_eq!((spec.name.as_str(), spec.to_string().as_str()), (name, shown), "{text}");
        }
        for text in
            ["", "@1.0.0", "a@", "a@1", "a@1.0.0@2.0.0", ":", "a:", ":3", "a:b:c", "../a", "a@../b", "A"]
        {
            assert!(text.parse::<RuntimeSpec>().is_err(), "{text}");
        }
    }

    #[test]
    fn parts_of_a_name_are_language_version_and_variants() {
        let parts = |text: &str| {
            let spec: RuntimeSpec = text.parse().unwrap();
            let (language, version, variants) = spec.parts();
            format!("{language} {version} {}", variants.join(","))
        };
        assert_eq!(parts("python:3.11-ml+gpu"), "python 3.11 ml,gpu");
        assert_eq!(parts("openjdk-21"), "openjdk 21 ");
        assert_eq!(parts("alpine-slim"), "alpine  slim");
    }

    proptest! {
        #[test]
        fn texts_of_runtimes_never_panic_and_come_back(text in "\\PC{0,90}") {
            if let Ok(spec) = text.parse::<RuntimeSpec>() {
                prop_assert_eq!(spec.to_string().parse::<RuntimeSpec>().unwrap(), spec);
            }
            let id = text.parse::<RuntimeId>();
            prop_assert!(id.is_err() || id.unwrap().to_string() == text);
        }
    }
}
