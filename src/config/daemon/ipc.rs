//! `ipc:`, the daemon's side of the way to the history process.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::values;

/// The section `ipc:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ipc {
    /// Has the history process keep output and samples; `false`: output is live only.
    pub enabled: bool,
    /// The socket on which the history process takes output, absolute; empty: `<dataDir>/run/persist-ipc.sock`.
    pub socket: PathBuf,
    /// Jobs that the history process works on at one time, 1..100000; others wait in their spools.
    pub buffer_size: u32,
    /// Time from a lost connection to the next try, 10ms..1h.
    #[serde(with = "values::duration")]
    pub reconnect_delay: Duration,
    /// Tries to connect after which an error is logged; 0: none is. The daemon tries on.
    pub max_reconnects: u32,
}

impl Default for Ipc {
    fn default() -> Self {
        Self {
            enabled: true,
            socket: PathBuf::new(),
            buffer_size: 10_000,
            reconnect_delay: Duration::from_secs(5),
            max_reconnects: 0,
        }
    }
}
