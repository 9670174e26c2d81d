//! Job identifiers: UUID v4, lower case, and the prefixes by which people call them.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::InvalidField;

/// The identity of one job: a random UUID (version 4), printed in lower case with hyphens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(Uuid);

impl JobId {
    /// A fresh id from the kernel's randomness.
    pub fn random() -> Self {
        JobId(Uuid::new_v4())
    }

    /// The id that is below all others, and no job's.
    pub fn nil() -> Self {
        JobId(Uuid::nil())
    }

    /// The lowest id that can begin with a prefix of lower-case hexadecimal digits and hyphens; `None`: no id can.
    pub fn lowest_with(prefix: &str) -> Option<Self> {
        let form = "00000000-0000-0000-0000-000000000000";
        JobId::parse(&format!("{prefix}{}", form.get(prefix.len()..)?))
    }

    /// Parses the 36-character form; `None` for everything else.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 36 {
            return None;
        }
        Uuid::try_parse(text).ok().map(JobId)
    }

    /// The first eight hexadecimal digits, which people type and which name the job's host.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl TryFrom<String> for JobId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        JobId::parse(&text).ok_or_else(|| format!("\"{}\" is no job id", text.escape_debug()))
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> String {
        id.to_string()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

/// How a request names a job: by its whole id or by a unique prefix of at least four characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobRef {
    /// The whole id.
    Exact(JobId),
    /// At least four of the leading characters, lower case.
    Prefix(String),
    /// Text that no id can match: the answer is "not found", with the text as it was given.
    Unknown(String),
}

impl JobRef {
    /// Reads a request's `uuid` field.
    ///
    /// # Errors
    /// The field is empty, or a prefix of fewer than four characters.
    pub fn parse(text: &str) -> Result<Self, InvalidField> {
        let text = text.trim();
        if text.is_empty() {
            return Err(InvalidField::new("uuid is required"));
        }
        if let Some(id) = JobId::parse(text) {
            return Ok(JobRef::Exact(id));
        }
        let plausible = text.len() < 36 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        if !plausible {
            return Ok(JobRef::Unknown(text.to_owned()));
        }
        if text.len() < 4 {
            return Err(InvalidField::new(format!(
                "job id prefix \"{text}\" is too short: give at least 4 characters"
            )));
        }
        Ok(JobRef::Prefix(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for JobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobRef::Exact(id) => id.fmt(f),
            JobRef::Prefix(text) | JobRef::Unknown(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_in_the_form_it_is_read() {
        let id = JobId::random();
        assert_eq!(JobId::parse(&id.to_string()), Some(id));
        assert_eq!(id.short().len(), 8);
    }

    #[test]
    fn ids_with_a_prefix_stand_behind_the_lowest_one() {
        let id = JobId::random();
        let text = id.to_string();
        for length in 0..36 {
            let lowest = JobId::lowest_with(&text[..length]).unwrap();
            assert!(lowest <= id && lowest.to_string().starts_with(&text[..length]));
        }
        assert_eq!(JobId::lowest_with("ab-cd"), None);
    }

    #[test]
    fn a_reference_needs_four_characters_and_may_be_unknown() {
        assert!(JobRef::parse("").is_err());
        assert!(JobRef::parse("f47").is_err());
        assert_eq!(JobRef::parse("F47A").unwrap(), JobRef::Prefix("f47a".into()));
        assert_eq!(JobRef::parse("not-a-job").unwrap(), JobRef::Unknown("not-a-job".into()));
    }
}
