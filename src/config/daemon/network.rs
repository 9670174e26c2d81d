//! `network:`, the network that a job reaches.

use serde::{Deserialize, Serialize};

/// The section `network:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Mode of a job that names none: "none", or "host" where `allow_host` permits it.
    pub default_network: String,
    /// Whether a job may share the host's network.
    pub allow_host: bool,
    /// Whether a network namespace in which a job left no socket is given to a later one.
    #[serde(rename = "reuseNamespaces")]
    pub reuse_namespaces: bool,
}

impl Default for Network {
    fn default() -> Self {
        Self { default_network: "none".into(), allow_host: false, reuse_namespaces: false }
    }
}
