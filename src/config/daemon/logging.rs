//! `logging:`, the daemon's own log.

use serde::{Deserialize, Serialize};

use crate::config::values::LogLevel;
use crate::diag::{self, Format, Output};

/// The section `logging:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// Least severity that is logged.
    pub level: LogLevel,
    /// Format of each line.
    pub format: Format,
    /// Destination of the lines.
    pub output: Output,
}

impl Default for Logging {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: Format::Text, output: Output::Stdout }
    }
}

impl Logging {
    /// The same values in the types of the log itself.
    pub fn settings(&self) -> diag::Settings {
        diag::Settings { level: self.level.into(), format: self.format, output: self.output.clone() }
    }
}
