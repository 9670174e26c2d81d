//! A gRPC server on connections that somebody else has accepted.

use std::os::fd::{IntoRawFd, OwnedFd};

/// Serves calls on a connected, non-blocking stream socket, without TLS. The server closes it.
pub fn serve(server: &mut grpcio::Server, connection: OwnedFd) {
    // SAFETY: the socket is connected and ours, and given away here: nobody else reads, writes or closes it.
    unsafe { server.add_channel_from_fd(connection.into_raw_fd()) };
}
