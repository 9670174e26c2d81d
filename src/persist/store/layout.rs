//! The directories of the store, and those of a job in it.

use std::path::{Path, PathBuf};

use crate::job::JobId;

/// The directories of the store. They may be file systems of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The directory of jobs' output.
    pub logs: PathBuf,
    /// The directory of jobs' samples.
    pub metrics: PathBuf,
    /// The directory that holds the tombstones, in `deleted`.
    pub state: PathBuf,
}

impl Layout {
    /// The layout below one directory, with the names of the documentation.
    pub fn below(base: &Path) -> Layout {
        Layout { logs: base.join("logs"), metrics: base.join("metrics"), state: base.to_owned() }
    }

    pub(super) fn deleted(&self) -> PathBuf {
        self.state.join("deleted")
    }
}

/// A job's directories of output and of samples.
pub(super) fn job_dirs(layout: &Layout, id: JobId) -> (PathBuf, PathBuf) {
    (layout.logs.join(id.to_string()), layout.metrics.join(id.to_string()))
}
