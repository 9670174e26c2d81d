//! `server:`, the address that the daemon listens on and its name.

use serde::{Deserialize, Serialize};

use crate::config::values;

/// The section `server:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Server {
    /// Address to listen on.
    pub address: String,
    /// TCP port, 1..65535.
    #[serde(deserialize_with = "values::port")]
    pub port: u16,
    /// Name of this node in replies and records; may be empty.
    pub node_id: String,
}

impl Default for Server {
    fn default() -> Self {
        Self { address: "0.0.0.0".into(), port: 50051, node_id: String::new() }
    }
}
