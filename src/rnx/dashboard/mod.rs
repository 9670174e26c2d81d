//! `rnx dashboard`: the node in a browser, served by the client with the client's own certificate.
//!
//! ```text
//!   browser, curl --HTTP, loopback only--> listen --> access --> routes --+--> assets    pages, scripts and styles inside the binary
//!                                                                         +--> api       one question, one answer in JSON
//!                                                                         +--> streams   Server-Sent Events, one gRPC stream each
//!                                                                                |
//!                                                    node <--mutual TLS, our role+
//! ```
//!
//! * [`listen`] has the threads: one a connection, one request a connection, all of it bounded.
//! * [`http`] reads requests and writes answers; each answer carries the headers that keep foreign code out of the pages.
//! * [`access`] lets in whoever has the token of the first address, and nobody from another site.
//! * [`api`] has no rights of its own: the node decides by our certificate, and its refusal is the answer.
//! * [`streams`] follow the node with [`pull`], which gives a thread its turn when a stream is quiet. The number of a piece of
//!   output is the `id` of its event, so a browser that comes back continues behind it, whatever happened to daemon or rnx. A
//!   reader that does not read holds back its own stream in the node, which costs a cursor there.
//! * [`table`] asks for the list of jobs once for all readers of it.
//!
//! Texts of jobs travel in JSON only; the pages put them in as text, never as markup.

mod access;
mod api;
mod assets;
mod form;
mod http;
mod listen;
mod pull;
mod routes;
mod sse;
mod streams;
mod table;

use super::server::Server;
pub(crate) use access::Access;
pub(crate) use listen::serve;

/// Everything that a request is answered with.
pub(crate) struct Dashboard {
    /// The node that is shown.
    pub(crate) server: &'static Server,
    /// The role that our certificate names; empty: it names none.
    pub(crate) role: String,
    /// The check of every request.
    pub(crate) access: Access,
    jobs: table::JobTable,
}

impl Dashboard {
    /// A dashboard of this node.
    pub(crate) fn new(server: &'static Server, role: String, access: Access) -> Self {
        Dashboard { server, role, access, jobs: table::JobTable::default() }
    }
}
