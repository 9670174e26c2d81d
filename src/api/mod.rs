//! gRPC in, commands out.
//!
//! # Threads
//!
//! * `grpc-0`: the only completion queue. It runs the [`auth`] check of every call, every handler and every future that
//!   a handler spawns. Nothing here blocks or panics: a handler that does stops every client.
//! * `log-pump` ([`crate::stream::pump`]): reads spools for all streams and fills their queues.
//! * C-core's own threads (resolver, timers, event engine): they run no code of this project.
//!
//! The loop runs elsewhere; this room reaches it through [`CommandSender`](crate::daemon::command::CommandSender) only.
//!
//! # A request
//!
//! C-core verifies the client's certificate and receives the headers. The check of [`auth`] gets the role from [`access`],
//! which verifies the certificate again, and looks the method up in one table: denied, not built yet, or passed to the
//! handler ([`service`]). [`limits`] counts the call for its client and waits for the message, after which [`access`]
//! checks the client once more; [`abuse`] closes connections that again and again send none. [`convert`] makes a job's
//! types of the message; it checks every rule of syntax, and its refusal names the field. [`bridge`] sends the command
//! and leaves a future, which waits for the loop's reply, converts it, and owns it until C-core has taken it (a reply
//! dropped earlier cancels the call). Only [`status`] maps errors to codes.
//!
//! # A byte of output
//!
//! The collector writes it into the job's spool and publishes it on the job's watermark, to which the pump listens. The
//! pump reads the next rows for each stream of that job ([`streams`], [`logs`]), as far as the stream's queue has room. A
//! future on `grpc-0` takes chunks from the queue as HTTP/2 flow control allows; each one taken wakes the pump. A slow
//! reader thus costs a queue and a cursor, and delays neither the job nor another reader.
//!
//! A job's samples go the same way from their own file ([`samples`]), folded where the request says so.
//!
//! # A connection to a port
//!
//! `forward` ([`crate::forward::Relay`]) owns the sockets of all connections to ports of jobs. A future on `grpc-0` hands it
//! what the client sends and takes what the job sends, one chunk at a time each way.
//!
//! # A reload
//!
//! [`reload`] reads the configuration again and puts its certificates and revocation list into [`access`]. The next
//! connection gets the new server certificate, the next call is verified with the new CA and list, and the pump rechecks
//! every open stream. Nothing else changes: neither a connection nor a call is dropped.
//!
//! # The end
//!
//! [`Server::begin_shutdown`] stops accepting and ends every stream with UNAVAILABLE; the loop still answers the commands
//! that it has accepted. [`Server::finish`] waits for the calls and cancels those that remain.

mod abuse;
pub mod access;
pub mod auth;
mod bridge;
pub mod convert;
mod limits;
mod logs;
mod pieces;
mod recorded;
pub mod reload;
mod role;
mod samples;
pub mod server;
mod service;
mod status;
mod streams;
mod tls;

pub use convert::Rules;
pub use recorded::note_handshakes;
pub use reload::Reload;
pub use server::Server;
pub use streams::start_pump;

/// The pump of all streams, each of which ends with a gRPC status.
pub type StreamPump = crate::stream::Pump<grpcio::RpcStatus>;

/// The reason why the API cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A certificate or key of the configuration cannot be used.
    #[error("cannot use security.{key}: {why}")]
    Credentials {
        /// The key below `security`.
        key: &'static str,
        /// The problem and its remedy.
        why: String,
    },
    /// The port could not be bound.
    #[error("cannot listen on {address}: {why}")]
    Listen {
        /// The address as configured.
        address: String,
        /// The error of the system and its remedy.
        why: String,
    },
    /// C-core refused to create a server.
    #[error("cannot make the gRPC server: {0}")]
    Build(grpcio::Error),
    /// The thread for the streams could not be started.
    #[error("cannot start the log pump: {0}")]
    StartPump(std::io::Error),
    /// The thread that looks at the host could not be started.
    #[error("cannot start the watcher of the host: {0}")]
    StartWatcher(std::io::Error),
}
