//! One network as it is stored.

use serde::{Deserialize, Serialize};

use crate::job::NetworkName;

/// A network that a client made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredNetwork {
    /// Its name, which no other network has.
    pub name: NetworkName,
    /// The range of its addresses, such as `10.50.0.0/16`.
    pub cidr: String,
    /// Whether its jobs reach nothing but each other.
    pub internal: bool,
    /// When it was made, ns since the epoch.
    pub created_ns: i64,
}

/// A change of the networks that are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkChange {
    /// The network, as it is or was.
    pub network: StoredNetwork,
    /// Whether it is there from now on.
    pub is_there: bool,
}

impl NetworkChange {
    /// The change that undoes this one.
    pub(super) fn undone(self) -> Self {
        NetworkChange { is_there: !self.is_there, ..self }
    }
}
