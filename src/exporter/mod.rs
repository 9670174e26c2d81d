//! The endpoint `/metrics`, for Prometheus and whatever reads its text: what the node does, in numbers.
//!
//! ```text
//! loop, spawners, calls --> Counts     counted where it happens; nothing at all where the endpoint is off
//! loop              --> Figures        asked for at each request: what there is now
//!                         |
//! GET /metrics  --> server --> page    OpenMetrics, or the older text where a client asks for that
//! ```
//!
//! With `metrics.tls` the endpoint speaks TLS with the node's certificate, and answers those alone who have one of the node's CA.
//!
//! Names and units follow the conventions of Prometheus (prometheus.io/docs/practices/naming): base units, `_total` for what
//! only grows, labels with few values. The number of series does not grow with jobs, but for `metrics.perJob`, which is bounded.

mod counts;
mod figures;
mod page;
mod server;
mod tls;

use std::io;

pub use counts::{Counts, Took};
pub use figures::{Figures, GpuFigures, HistoryFigures, JobFigures};
pub use server::{Exporter, GetFigures};
pub use tls::Tls;

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    /// The address cannot be bound.
    #[error(
        "cannot serve metrics at {address} (metrics.listen): {source}; choose another address, or \"\" for none"
    )]
    Listen {
        /// The configured address.
        address: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No thread, or no pipe to end it by.
    #[error("cannot start the thread that serves metrics: {0}")]
    Start(io::Error),
}
