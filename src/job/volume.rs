//! Volumes: the name of one, its kind, and how a job uses it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::InvalidField;
use super::given_name::{self, text_of_name};

/// Most volumes of one job.
pub const MOST_OF_A_JOB: usize = 32;
/// The owner of all files of volumes on disk, whatever job wrote them. It is the first id of the range that systemd
/// reserves for images ("foreign" ids): no process of any host has it, so a setuid program in an image gives nobody
/// anything where somebody mounts it by hand.
pub const OWNER: u32 = 0x7ffe_0000;
/// The word behind the name of a volume that the job may not write.
const READ_ONLY: &str = "ro";

/// The name of a volume: 1 to 63 letters, digits, `-` and `_`, a letter or a digit at both ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(String);

text_of_name!(VolumeName);

impl FromStr for VolumeName {
    type Err = InvalidField;

    fn from_str(name: &str) -> Result<Self, InvalidField> {
        const THING: &str = "a volume";
        given_name::check(name, THING)?;
        if !name.ends_with(|last: char| last.is_ascii_alphanumeric()) {
            return Err(given_name::refuse(name, THING, "it must end with a letter or a digit"));
        }
        Ok(VolumeName(name.to_owned()))
    }
}

/// Where the files of a volume are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeKind {
    /// In a file system of its own on the host's disk.
    Filesystem,
    /// In the host's memory, as long as the daemon lives.
    Memory,
}

impl VolumeKind {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            VolumeKind::Filesystem => "filesystem",
            VolumeKind::Memory => "memory",
        }
    }

    /// Whether its files are on the host's disk, and outlive the daemon.
    pub fn is_on_disk(self) -> bool {
        match self {
            VolumeKind::Filesystem => true,
            VolumeKind::Memory => false,
        }
    }

    /// Whether a volume can get a smaller size than it has.
    pub fn can_shrink(self) -> bool {
        match self {
            VolumeKind::Filesystem => false,
            VolumeKind::Memory => true,
        }
    }

    /// Reads the word on the wire; the empty one is `filesystem`. `shown` is what an error repeats of it.
    ///
    /// # Errors
    /// Another word.
    pub fn parse(word: &str, shown: &str) -> Result<Self, InvalidField> {
        match word {
            "" | "filesystem" => Ok(VolumeKind::Filesystem),
            "memory" => Ok(VolumeKind::Memory),
            _ => Err(InvalidField::new(format!(
                "invalid volume type: \"{shown}\" (must be \"filesystem\" or \"memory\")"
            ))),
        }
    }
}

/// A volume as a job uses it. Its text, `NAME` or `NAME:ro`, is stored and stands in messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeUse {
    /// The name of the volume.
    pub name: VolumeName,
    /// Whether the job may only read it.
    pub read_only: bool,
}

impl VolumeUse {
    /// Where the job finds it.
    pub fn place(&self) -> String {
        format!("/volumes/{}", self.name)
    }

    /// The access of the job, in one word.
    pub fn access(&self) -> &'static str {
        if self.read_only { "read-only" } else { "read-write" }
    }
}

impl fmt::Display for VolumeUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.read_only { write!(f, "{}:{READ_ONLY}", self.name) } else { self.name.fmt(f) }
    }
}

impl FromStr for VolumeUse {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, InvalidField> {
        let (name, read_only) = match text.rsplit_once(':') {
            None => (text, false),
            Some((name, READ_ONLY)) => (name, true),
            Some((name, other)) => {
                let name: VolumeName = name.parse()?;
                let other: String = other.chars().take(given_name::LONGEST).collect();
                let other = other.escape_debug();
                return Err(InvalidField::new(format!(
                    "volume \"{name}\": \"{other}\" is no way to use it; write {name}, or {name}:{READ_ONLY} to read only"
                )));
            }
        };
        Ok(VolumeUse { name: name.parse()?, read_only })
    }
}

impl TryFrom<String> for VolumeUse {
    type Error = InvalidField;

    fn try_from(text: String) -> Result<Self, InvalidField> {
        text.parse()
    }
}

impl From<VolumeUse> for String {
    fn from(used: VolumeUse) -> String {
        used.to_string()
    }
}

/// Reads the volumes of a job.
///
/// # Errors
/// A text that names none, a volume that stands twice, or too many.
pub fn parse_uses(texts: &[String]) -> Result<Vec<VolumeUse>, InvalidField> {
    if texts.len() > MOST_OF_A_JOB {
        let count = texts.len();
        return Err(InvalidField::new(format!(
            "{count} volumes are too many, a job has at most {MOST_OF_A_JOB}"
        )));
    }
    let mut uses: Vec<VolumeUse> = Vec::new();
    for text in texts {
        let used: VolumeUse = text.parse()?;
        if uses.iter().any(|other| other.name == used.name) {
            return Err(InvalidField::new(format!("volume \"{}\" stands twice", used.name)));
        }
        uses.push(used);
    }
    Ok(uses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_volumes_have_their_characters_and_ends() {
        for name in ["data", "a", "team_1-x", "0", &"n".repeat(63)] {
            assert_eq!(name.parse::<VolumeName>().unwrap().as_str(), name);
        }
        for (name, why) in [
            ("", "1 to 63 characters"),
            (&*"n".repeat(64), "1 to 63 characters"),
            ("-a", "begin with"),
            ("a_", "end with"),
            ("..", "letters, digits"),
            ("a/b", "letters, digits"),
            ("a b", "letters, digits"),
            ("lab\n", "letters, digits"),
            ("\u{e4}", "letters, digits"),
        ] {
            let said = name.parse::<VolumeName>().unwrap_err().0;
            assert!(said.contains(why) && said.contains("cannot be the name of a volume"), "{name}: {said}");
        }
        assert!("x".repeat(1 << 20).parse::<VolumeName>().unwrap_err().0.len() < 200);
    }

    #[test]
    fn uses_are_read_and_written_as_the_same_text() {
        for text in ["data", "data:ro"] {
            let used: VolumeUse = text.parse().unwrap();
            assert_eq!((used.to_string().as_str(), used.read_only), (text, text.ends_with(":ro")));
            let stored = serde_json::to_string(&used).unwrap();
            assert_eq!(serde_json::from_str::<VolumeUse>(&stored).unwrap(), used);
        }
        for text in ["data:rw", "data:", ":ro", "a:b:ro", ""] {
            assert!(text.parse::<VolumeUse>().is_err(), "{text}");
        }
        let two = |a: &str, b: &str| parse_uses(&[a.to_owned(), b.to_owned()]);
        assert_eq!(two("a", "b:ro").unwrap().len(), 2);
        assert!(two("a", "a:ro").unwrap_err().0.contains("stands twice"));
        let many: Vec<String> = (0..=MOST_OF_A_JOB).map(|n| format!("v{n}")).collect();
        assert!(parse_uses(&many).unwrap_err().0.contains("too many"));
    }

    proptest! {
        #[test]
        fn texts_of_uses_never_panic(text in "\\PC{0,80}") {
            let used = text.parse::<VolumeUse>();
            prop_assert!(used.is_err() || used.unwrap().to_string() == text);
        }
    }
}
