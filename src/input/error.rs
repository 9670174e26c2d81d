//! Why bytes were not accepted.

use std::io;
use std::sync::Arc;

/// The reason for which a client cannot send input, or not these bytes.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InputError {
    /// It was started without one, or it has ended, or its input has.
    #[error(
        "it has no open standard input: it was started without one, has ended, reads no more, or its input was ended"
    )]
    NotOpen,
    /// Another client sends it.
    #[error("another client sends its standard input; take it over, or wait until that client is done")]
    Held,
    /// The client lost it to another one.
    #[error("another client has taken its standard input over")]
    Taken,
    /// Bytes are missing before these.
    #[error(
        "the bytes begin at offset {offset}, but the input has only {accepted} bytes so far: there is a gap"
    )]
    Gap {
        /// The offset of the bytes.
        offset: u64,
        /// Bytes that the input has.
        accepted: u64,
    },
    /// The memory for inputs is used up.
    #[error(
        "standard input of other jobs has all {} MiB of memory that the node has for it; try again",
        super::NODE_BYTES >> 20
    )]
    NodeFull,
    /// The kernel refuses to store them.
    #[error("cannot store the bytes: {0}")]
    Store(Arc<io::Error>),
    /// The daemon ends.
    #[error("the daemon is shutting down")]
    Closed,
}
