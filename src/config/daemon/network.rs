//! `network:`, the network that a job reaches.

use serde::{Deserialize, Serialize};

use crate::config::values;

/// The section `network:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Mode of a job that names none: "none", "isolated", "bridge", or "host" where `allow_host` permits it.
    pub default_network: String,
    /// Whether a job may share the host's network.
    pub allow_host: bool,
    /// Whether ports of the host may be published for jobs.
    pub allow_publish: bool,
    /// The section `network.publish:`.
    pub publish: Publish,
    /// The section `network.networks:`.
    pub networks: Networks,
    /// Networks that clients may make, at most.
    pub max_custom_networks: u32,
    /// Addresses of jobs in the mode "isolated".
    pub isolated_cidr: String,
    /// Whether jobs have IPv6: "auto", where the host has a way out of it, or "off".
    pub ipv6: Ipv6,
    /// The section `network.egress:`.
    pub egress: Egress,
    /// The section `network.rate:`.
    pub rate: Rate,
    /// Whether a network namespace in which a job left no socket is given to a later one.
    #[serde(rename = "reuseNamespaces")]
    pub reuse_namespaces: bool,
}

/// The choice of `network.ipv6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ipv6 {
    /// Where the host has a default route of IPv6 and forwards it, or can forward it for joblet alone.
    #[default]
    Auto,
    /// Never, whatever the host has.
    Off,
}

/// The section `network.publish:`, the ports of the host that jobs may have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Publish {
    /// Ranges of addresses of the host. All of its addresses, 0.0.0.0 or ::, only where they are named so.
    pub addresses: Vec<String>,
    /// The first and the last port, as 1024-65535.
    pub ports: String,
}

impl Default for Publish {
    fn default() -> Self {
        Self { addresses: vec!["127.0.0.0/8".into(), "::1".into()], ports: "1024-65535".into() }
    }
}

/// The section `network.networks:`, the networks that every node has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Networks {
    /// The section `network.networks.bridge:`.
    pub bridge: Bridge,
}

/// The section `network.networks.bridge:`, the network of the mode "bridge".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bridge {
    /// Addresses of its jobs, as 172.20.0.0/16.
    pub cidr: String,
}

impl Default for Bridge {
    fn default() -> Self {
        Self { cidr: "172.20.0.0/16".into() }
    }
}

/// The section `network.egress:`, the way out of jobs that have a network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Egress {
    /// Ranges of addresses that jobs reach although they are private, shared or link-local.
    pub allow: Vec<String>,
    /// The egress list of a job that names none; empty: `maximum`, or where that is empty too no list.
    pub default: Vec<String>,
    /// The list beyond which no egress list of a job may go; empty: no bound.
    pub maximum: Vec<String>,
}

/// The section `network.rate:`, bytes a second that a job with a wire has where it names none, and has at most; 0: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rate {
    /// From the job.
    #[serde(with = "values::size")]
    pub up: u64,
    /// To the job.
    #[serde(with = "values::size")]
    pub down: u64,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            default_network: "bridge".into(),
            allow_host: false,
            allow_publish: true,
            publish: Publish::default(),
            networks: Networks::default(),
            max_custom_networks: 50,
            isolated_cidr: "172.21.0.0/16".into(),
            ipv6: Ipv6::default(),
            egress: Egress::default(),
            rate: Rate::default(),
            reuse_namespaces: false,
        }
    }
}
