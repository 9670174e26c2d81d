//! `logging:`, the daemon's own log.

use serde::{Deserialize, Serialize};

use crate::config::values::LogLevel;
use crate::diag::{self, Format, Output};

/// `logging:`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// Least severity.
    pub level: LogLevel,
    /// Shape of a line.
    pub format: Format,
    /// Destination.
    pub output: Output,
}

impl Default for Logging {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: Format::Text, output: Output::Stdout }
    }
}

impl Logging {
    /// The same for the log itself.
    pub fn settings(&self) -> diag::Settings {
        diag::Settings { level: self.level.into(), format: self.format, output: self.output.clone() }
    }
}
