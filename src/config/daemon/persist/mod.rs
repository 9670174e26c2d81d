//! `persist:`, the history process: its sockets and its storage.
//!
//! The daemon and the process read the same file. `persist:` may be left out: each key has a default, and the paths
//! follow `dataDir`. Its keys count only with `ipc.enabled: true`; else they are read for warnings.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

mod cloudwatch;
pub(super) mod range;
mod storage;

pub use cloudwatch::CloudWatch;
pub use storage::{
    Algorithm, Compression, Local, LogFiles, MetricFiles, PersistRetention, Rotation, Storage,
};
pub use storage::{FileFormat, StorageType};

use crate::config::values::section;

/// The section `persist:`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Persist {
    /// The socket for queries.
    #[serde(deserialize_with = "section")]
    pub server: PersistServer,
    /// The socket for output.
    #[serde(deserialize_with = "section")]
    pub ipc: PersistIpc,
    /// Where history is kept.
    #[serde(deserialize_with = "section")]
    pub storage: Storage,
}

/// The section `persist.server:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PersistServer {
    /// The Unix socket for queries, absolute; empty: `<dataDir>/run/persist-grpc.sock`.
    pub grpc_socket: PathBuf,
    /// A TCP address, which is refused: queries over the network go to the daemon.
    pub grpc_address: String,
    /// A group whose members may query and not delete, by name; empty: root alone.
    pub group: String,
    /// Connections at one time, 1..100000; further ones wait.
    pub max_connections: u32,
    /// TLS of the TCP address.
    #[serde(deserialize_with = "section")]
    pub tls: PersistTls,
}

/// The section `persist.server.tls:`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PersistTls {
    /// `true` is refused: a Unix socket has no TLS.
    pub enabled: bool,
}

/// The section `persist.ipc:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PersistIpc {
    /// The same as `ipc.socket`; another one is refused. Empty: what `ipc.socket` says.
    pub socket: PathBuf,
    /// Connections at one time, 1..1000; further ones wait.
    pub max_connections: u32,
    /// Longest message in bytes, 4096..2147483647; a longer one ends its connection.
    pub max_message_size: u32,
}

impl Default for PersistServer {
    fn default() -> Self {
        Self {
            grpc_socket: PathBuf::new(),
            grpc_address: String::new(),
            group: String::new(),
            max_connections: 500,
            tls: PersistTls::default(),
        }
    }
}

impl Default for PersistIpc {
    fn default() -> Self {
        Self { socket: PathBuf::new(), max_connections: 10, max_message_size: 134_217_728 }
    }
}
