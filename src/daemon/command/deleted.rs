//! Jobs that were deleted, as replies show them.

use crate::job::JobId;

/// What DeleteAllJobs did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// Jobs that are gone.
    pub deleted: u32,
    /// Jobs that were not terminal.
    pub skipped: u32,
    /// Whether their history is gone too; else it goes when the history process is back.
    pub history_gone: bool,
}

/// A job that was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// Its whole id.
    pub id: JobId,
    /// Whether its history is gone too; else it goes when the history process is back.
    pub history_gone: bool,
}
