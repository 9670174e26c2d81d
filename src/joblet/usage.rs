//! The failure of a wrong command line.

/// A wrong command line: exit code 2 instead of 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}; try joblet --help")]
pub(super) struct Usage(pub(super) String);
