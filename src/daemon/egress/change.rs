//! The answer to a change of a list.

use std::sync::Arc;

use crate::daemon::command::{Answer, EgressWish};
use crate::job::JobId;
use crate::job::egress::List;

/// A change that is in force, or was refused.
#[derive(Debug)]
pub(in crate::daemon) struct EgressChange {
    /// The job whose list changes.
    pub(in crate::daemon) id: JobId,
    /// The list that it was to have.
    pub(in crate::daemon) list: Arc<List>,
    /// The entries to add and to remove.
    pub(in crate::daemon) wish: EgressWish,
    /// Whether it has that list now, or why not.
    pub(in crate::daemon) result: Result<(), String>,
    /// Where the request is answered.
    pub(in crate::daemon) answer: Answer<(JobId, Vec<String>)>,
}
