//! gRPC in, commands out.
//!
//! # Threads
//!
//! * `grpc-0`: the one completion queue. It runs the [`auth`] check of every call, every handler and every
//!   future that a handler spawns. Nothing here blocks or panics: one handler that does stops every client.
//! * `log-pump` ([`crate::stream::pump`]): reads spools for all streams and fills their queues.
//! * C-core's own (resolver, timers, event engine): they know nothing of us.
//!
//! The loop is elsewhere; this room reaches it through [`CommandSender`](crate::daemon::command::CommandSender) only.
//!
//! # A request
//!
//! C-core has verified the client's certificate and received the headers. The check of [`auth`] has the role from
//! [`access`], which judges the certificate again, and looks the method up in one table: denied, not built yet,
//! or through to the handler ([`service`]). [`limits`] counts the call as its client's and waits for the message
//! (and asks [`access`] once more when it is there); [`abuse`] closes the connection of who sends none again
//! and again. [`convert`] makes job words of it; every rule of syntax is checked there, and a refusal names the
//! field. [`bridge`] sends the command and leaves a future that waits for the answer, converts it and owns the
//! reply until C-core has taken it (a reply dropped earlier cancels the call). Errors become codes in [`status`]
//! and nowhere else.
//!
//! # A byte of output
//!
//! The collector writes it into the job's spool and tells the pump the job's id. The pump reads the next rows
//! for each stream of that job, as far as the stream's queue of a few chunks has room. A future on `grpc-0`
//! takes chunks from the queue as HTTP/2 flow control lets it; what it takes wakes the pump. A slow reader
//! thus costs a queue and a cursor, never the job and never another reader.
//!
//! A job's samples go the same way from their own file ([`samples`]), folded on the way where that is asked.
//!
//! # A reload
//!
//! [`reload`] reads the configuration again and puts its certificates and revocation list into [`access`]. The
//! next connection has the new server certificate, the next call is judged by the new CA and list, and the pump
//! asks again for every open stream. Nothing else is touched: neither a connection nor a call is dropped.
//!
//! # The end
//!
//! [`Server::begin_shutdown`] stops accepting and ends every stream with UNAVAILABLE; the loop still
//! answers what it has accepted. [`Server::finish`] waits for the calls and cancels those that linger.

mod abuse;
pub mod access;
pub mod auth;
mod bridge;
pub mod convert;
mod limits;
mod logs;
pub mod reload;
mod role;
mod samples;
pub mod server;
mod service;
mod status;
mod streams;
mod tls;

pub use convert::Rules;
pub use reload::Reload;
pub use server::Server;
pub use streams::start_pump;

/// The pump of all streams, each of which ends with a gRPC status.
pub type StreamPump = crate::stream::Pump<grpcio::RpcStatus>;

/// Why there is no API.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A certificate or key of the configuration cannot be used.
    #[error("cannot use security.{key}: {why}")]
    Credentials {
        /// The key below `security`.
        key: &'static str,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// The port could not be bound.
    #[error("cannot listen on {address}: {why}")]
    Listen {
        /// As configured.
        address: String,
        /// What the system says.
        why: String,
    },
    /// C-core refused to make a server.
    #[error("cannot make the gRPC server: {0}")]
    Build(grpcio::Error),
    /// No thread for the streams.
    #[error("cannot start the log pump: {0}")]
    StartPump(std::io::Error),
}
