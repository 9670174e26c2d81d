//! `audit:`, the trail of changes and refusals.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::DaemonConfig;
use super::range::{absolute, between};
use crate::config::values;
use crate::job::units::format_size;

/// The fate of a call whose line cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditOnFull {
    /// It is refused before it changes anything.
    Block,
    /// It goes on; a later line tells how many lines are lost.
    Continue,
}

/// The section `audit:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Audit {
    /// Keeps the trail.
    pub enabled: bool,
    /// The directory of its files; empty: `<dataDir>/audit`.
    pub directory: PathBuf,
    /// Bytes after which a file is followed by the next one, 64KiB..1GiB.
    #[serde(with = "values::size")]
    pub max_bytes: u64,
    /// Files that are kept, 2..10000.
    pub keep: u32,
    /// The fate of a call whose line cannot be written.
    pub on_full: AuditOnFull,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            enabled: true,
            directory: PathBuf::new(),
            max_bytes: 32 << 20,
            keep: 16,
            on_full: AuditOnFull::Continue,
        }
    }
}

impl Audit {
    /// The directory of the trail of a node with this dataDir.
    pub fn place(&self, data_dir: &Path) -> PathBuf {
        if self.directory.as_os_str().is_empty() { data_dir.join("audit") } else { self.directory.clone() }
    }
}

pub(super) fn check(c: &DaemonConfig) -> Result<(), String> {
    if !c.audit.directory.as_os_str().is_empty() {
        absolute("audit.directory", &c.audit.directory)?;
    }
    if !(64 << 10..=1 << 30).contains(&c.audit.max_bytes) {
        return Err(format!(
            "audit.maxBytes: {} is out of range 64KiB..1GiB",
            format_size(c.audit.max_bytes)
        ));
    }
    between("audit.keep", c.audit.keep, 2, 10_000)
}
