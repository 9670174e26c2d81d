//! Connections to the ports of jobs: from a client's call, or from a port of the host.
//!
//! A job's network may have no way to it at all, and the host never gets one: a connection is made *inside* the job's
//! network namespace and its bytes are carried over. The job sees a client on its own loopback.
//!
//! ```text
//!   client's call  --[ Call ]--+                        +--> 127.0.0.1:8080 in job A
//!                              |  relay thread: links   |
//!   host's port ---- accept ---+                        +--> 127.0.0.1:5432 in job B
//!                                   ^ sockets, ready to connect
//!                              dial thread: into the job's namespace, socket, connect, back
//! ```
//!
//! * [`JobNetwork`] is the network of one job: its namespace, taken once from the job's first process. There is none for a
//!   job in the host's network. Once closed it takes no new connection.
//! * The *dial thread* enters a namespace, makes a socket, begins to connect, and returns; that takes some 15 us and waits
//!   for nothing. A thread that cannot return ends, and the relay starts another: nothing else is ever done in there.
//! * The *relay thread* owns all sockets and never waits for one of them. A [`link`] has two directions of at most
//!   [`CHUNK`] bytes each; a side that does not read stops its own link, and TCP or HTTP/2 tells the other side.
//! * [`Call`] is the end of a link that a client's call holds: a future takes chunks and puts chunks.
//!
//! # Bounds
//!
//! [`JOB_LINKS`] links of a job and [`NODE_LINKS`] of the node; beyond them a call is refused, and a connection to a port of
//! the host waits in the kernel's queue. Jobs take turns, one chunk each way at a time, so a job with many busy links
//! delays another job's bytes by one chunk. The thread does nothing with the bytes but carry them.

mod call;
mod dial;
mod job_network;
mod link;
mod permits;
mod relay;
mod shared;
mod socket;

pub use call::{Call, Next};
pub use job_network::JobNetwork;
pub use permits::{JOB_LINKS, NODE_LINKS};
pub use relay::{Connect, Listen, Relay};
pub use shared::LinkError;
pub use socket::bind;

/// Most bytes of one direction of a link that are on their way, beside the buffers of its sockets; the most that a call may
/// put at once.
pub const CHUNK: usize = 64 << 10;
