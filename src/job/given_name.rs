//! Names that users give to what a node keeps: networks and volumes.

use super::InvalidField;

/// Longest such name, in bytes.
pub(super) const LONGEST: usize = 63;

/// Checks what all such names have in common: 1 to 63 letters, digits, `-` and `_`, the first a letter or a digit.
///
/// # Errors
/// The rule that it breaks as the name of `thing`.
pub(super) fn check(name: &str, thing: &str) -> Result<(), InvalidField> {
    let Some(first) = name.bytes().next().filter(|_| name.len() <= LONGEST) else {
        return Err(refuse(name, thing, "it must have 1 to 63 characters"));
    };
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Err(refuse(name, thing, "it may have letters, digits, '-' and '_' only"));
    }
    if !first.is_ascii_alphanumeric() {
        return Err(refuse(name, thing, "it must begin with a letter or a digit"));
    }
    Ok(())
}

/// The error for a name that cannot be that of `thing`. It repeats the name's beginning.
pub(super) fn refuse(name: &str, thing: &str, why: &str) -> InvalidField {
    let mut shown: String = name.chars().take(LONGEST).collect();
    if shown.len() < name.len() {
        shown += "...";
    }
    let shown = shown.escape_debug();
    InvalidField::new(format!("\"{shown}\" cannot be the name of {thing}: {why}"))
}

/// Text of a name whose type has one field, a `String`, and parses by `FromStr`.
macro_rules! text_of_name {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidField;

            fn try_from(name: String) -> Result<Self, InvalidField> {
                name.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}
pub(super) use text_of_name;
