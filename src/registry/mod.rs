//! Registries of runtimes: a `registry.json` on a web server, and archives.
//!
//! [`Index`] is pure: where the file of a registry is, what it says, which version a host takes. [`Downloads`] fetches, by HTTPS
//! and with the certificates that the host trusts. The daemon installs from a registry, and the client lists one.

mod download;
mod index;

pub use download::Downloads;
pub use index::{Index, OS_RELEASE, Release, index_url, platform};
