//! Values of `security` that name a file instead of being the text.

use std::path::Path;

use crate::config::permissions::{Holds, guard};
use crate::config::{self, ConfigError};

/// PEM never starts with a slash.
pub(super) fn is_path(value: &str) -> bool {
    value.starts_with('/')
}

/// The text of the file that `value` names; `None`: it names none, it is the text.
pub(super) fn pem_file(key: &'static str, value: &str, holds: Holds) -> Result<Option<String>, ConfigError> {
    if !is_path(value) {
        return Ok(None);
    }
    let path = Path::new(value.trim_end());
    let (file, text) = config::read(path).map_err(|e| match e {
        ConfigError::Read { path, source } => ConfigError::ReadPem { key, path, source },
        other => other,
    })?;
    guard(path, &file, holds)?;
    Ok(Some(text))
}
