//! `grpc:`, the bounds of the API.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::values;

/// The section `grpc:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Grpc {
    /// Bytes of one request; bounds uploads. 4 KiB..2 GiB, as is the next.
    pub max_recv_msg_size: u32,
    /// Bytes of one reply.
    pub max_send_msg_size: u32,
    /// Idle time before a connection is pinged.
    #[serde(with = "values::duration")]
    pub keep_alive_time: Duration,
    /// Wait for the answer before the connection is closed.
    #[serde(with = "values::duration")]
    pub keep_alive_timeout: Duration,
    /// Calls at one time on one connection.
    pub max_concurrent_streams: u32,
}

impl Default for Grpc {
    fn default() -> Self {
        Self {
            max_recv_msg_size: 128 << 20,
            max_send_msg_size: 4 << 20,
            keep_alive_time: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(20),
            max_concurrent_streams: 256,
        }
    }
}
