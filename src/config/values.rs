//! How single values are written in YAML.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::diag::{LevelFilter, Output as LogOutput};

/// A whole section that is there but empty (every key in it commented out) counts as absent.
pub(super) fn section<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// Durations as text; a bare 0 is allowed, any other bare number has no unit and is refused.
pub(super) mod duration {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    use crate::job::units;

    pub(in crate::config) fn serialize<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&units::format_duration(*value))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        super::scalar(d, units::parse_duration)
    }
}

/// Sizes as text or as a number of bytes.
pub(super) mod size {
    use serde::{Deserializer, Serializer};

    use crate::job::units;

    pub(in crate::config) fn serialize<S: Serializer>(value: &u64, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&units::format_size(*value))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
        super::scalar(d, units::parse_size)
    }
}

/// Secrets are read and never written.
pub(super) mod secret {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::job::Secret;

    pub(in crate::config) fn serialize<S: Serializer>(value: &Secret, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(if value.expose().is_empty() { "" } else { "***" })
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Secret, D::Error> {
        Ok(Secret::new(Option::<String>::deserialize(d)?.unwrap_or_default()))
    }
}

/// TCP ports, with the message that people search for.
pub(super) fn port<'de, D: Deserializer<'de>>(d: D) -> Result<u16, D::Error> {
    scalar(d, parse_port)
}

/// 1..65535 from text.
pub(super) fn parse_port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|p| *p != 0).ok_or_else(|| format!("invalid server port: {text} (1..65535)"))
}

/// Converts a YAML string or number, given as text. The conversion runs inside the visitor, because only errors
/// from there get the path of the key and its line.
fn scalar<'de, D: Deserializer<'de>, T, E: fmt::Display>(
    d: D,
    convert: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, D::Error> {
    struct Scalar<F>(F);
    impl<T, E: fmt::Display, F: FnOnce(&str) -> Result<T, E>> de::Visitor<'_> for Scalar<F> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a number")
        }
        fn visit_str<X: de::Error>(self, text: &str) -> Result<T, X> {
            (self.0)(text).map_err(X::custom)
        }
        fn visit_u64<X: de::Error>(self, number: u64) -> Result<T, X> {
            self.visit_str(&number.to_string())
        }
        fn visit_i64<X: de::Error>(self, number: i64) -> Result<T, X> {
            self.visit_str(&number.to_string())
        }
        fn visit_f64<X: de::Error>(self, number: f64) -> Result<T, X> {
            self.visit_str(&format!("{number:?}"))
        }
    }
    d.deserialize_any(Scalar(convert))
}

/// The version of the file's format: "3.0", with or without quotes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Version(String);

impl Default for Version {
    fn default() -> Self {
        Version("3.0".into())
    }
}

impl Version {
    /// Whether the keys of this version mean what we take them for.
    pub(super) fn is_known(&self) -> bool {
        self.0.split('.').next() == Some("3")
    }
}

/// A version that need not be known: the caller warns.
pub(super) fn any_version<'de, D: Deserializer<'de>>(d: D) -> Result<Version, D::Error> {
    scalar(d, |text| Ok::<_, std::convert::Infallible>(Version(text.into())))
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.escape_debug().to_string())
    }
}

impl<'de> Deserialize<'de> for Version {
    /// Any 3.x; another major version is an error, because its keys may mean something else.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        scalar(d, |text| match Version(text.into()) {
            known if known.is_known() => Ok(known),
            _ => Err(format!("version {text:?} is not supported; this joblet reads 3.x")),
        })
    }
}

/// Least severity that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Every line, also those for debugging.
    Debug,
    /// Life-cycle lines and more severe ones.
    Info,
    /// Recoverable trouble and failures.
    Warn,
    /// Failures and nothing else.
    Error,
}

impl LogLevel {
    /// Reads INFO and the like, in any case.
    ///
    /// # Errors
    /// Another word.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_uppercase().as_str() {
            "DEBUG" => Ok(Self::Debug),
            "INFO" => Ok(Self::Info),
            "WARN" => Ok(Self::Warn),
            "ERROR" => Ok(Self::Error),
            _ => Err(format!("invalid log level: {} (DEBUG, INFO, WARN, ERROR)", text.escape_debug())),
        }
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Debug => Self::Debug,
            LogLevel::Info => Self::Info,
            LogLevel::Warn => Self::Warn,
            LogLevel::Error => Self::Error,
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        })
    }
}

impl Serialize for LogLevel {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LogLevel {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        scalar(d, LogLevel::parse)
    }
}

impl Serialize for LogOutput {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Stdout => s.serialize_str("stdout"),
            Self::Stderr => s.serialize_str("stderr"),
            Self::File(path) => s.collect_str(&path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for LogOutput {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        scalar(d, |text| match text {
            "stdout" => Ok(Self::Stdout),
            "stderr" => Ok(Self::Stderr),
            path if path.starts_with('/') => Ok(Self::File(path.into())),
            _ => Err(format!("{text:?} is neither stdout, stderr nor an absolute path")),
        })
    }
}
