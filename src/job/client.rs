//! The client that a job belongs to.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A number that tells clients apart, made of the certificate, so that it outlives the daemon. 0 stands for the unknown
/// client of a job that an earlier version recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientId(u64);

impl ClientId {
    /// The client with this number.
    pub fn new(number: u64) -> Self {
        ClientId(number)
    }

    /// The number itself.
    pub fn number(self) -> u64 {
        self.0
    }

    /// Whether nobody knows the client.
    pub fn is_unknown(&self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
